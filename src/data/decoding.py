"""Encoded pictures to pixels. Large sets are kept decoded in data/.cache, safe to delete at any time."""

import hashlib
import io
import os
import warnings
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from src.paths import DATA

CACHE = DATA / ".cache"
CACHE_FROM = 5_000  # images; decoding fewer takes about a second
CACHE_VERSION = b"1"  # to be changed when `decode_one` gives other pixels than before
FORMATS = ("PNG", "WEBP", "JPEG", "BMP", "GIF", "TIFF", "PPM")  # naming them saves half the time


def decode_images(
    encoded: Sequence[bytes], where: str, *, names: Sequence[object] | None = None
) -> UInt8[np.ndarray, "n h w 3"]:
    """Decode pictures (PNG, WebP, JPEG, …) of one size; grey is repeated three times.

    where, names: what errors call the set, and each image besides its index.
    50,000 CIFAR images take 10 s, or half a second from the cache, which is keyed by the encoded bytes and so
    never out of date.  Raises ValueError for the first image that cannot be decoded, has another size than
    image 0, or another mode than grey, palette or RGB.
    """
    if len(encoded) < CACHE_FROM:
        return _decode(encoded, where, names)
    digest = hashlib.blake2b(digest_size=16, person=CACHE_VERSION)
    for item in encoded:
        digest.update(len(item).to_bytes(8, "little") + item)
    images = _read_cache(digest.hexdigest())
    if images is None:
        images = _decode(encoded, where, names)
        _write_cache(digest.hexdigest(), images)
    return images


def _decode(encoded: Sequence[bytes], where: str, names: Sequence[object] | None) -> np.ndarray:
    images = None
    for i, item in enumerate(encoded):
        name = f"image {i}" if names is None else f"image {i} ({names[i]})"
        try:
            pixels = decode_one(item)
        except Exception as error:  # Pillow's formats raise half a dozen kinds
            raise ValueError(f"{where}: {name} cannot be decoded: {error}") from error
        if images is None:
            images = np.empty((len(encoded), *pixels.shape), np.uint8)
        if pixels.shape != images.shape[1:]:
            (h, w), (h0, w0) = pixels.shape[:2], images.shape[1:3]
            raise ValueError(
                f"{where}: {name} is {w}x{h} pixels, image 0 is {w0}x{h0}; make them one size, or "
                f"add @SIDE to the name (folder:PATH@224) to have them cut to one"
            )
        images[i] = pixels
    if images is None:
        raise ValueError(f"{where}: no images")
    return images


def decode_one(item: bytes) -> UInt8[np.ndarray, "h w 3"]:
    picture = Image.open(io.BytesIO(item), formats=FORMATS)
    if picture.mode not in ("RGB", "L", "P", "1"):
        raise ValueError(f"mode {picture.mode} is not supported; convert it to RGB or 8-bit grey")
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _read_cache(key: str) -> np.ndarray | None:
    """The pixels kept under a key; None where there are none, or where the file was damaged."""
    for path in CACHE.glob(f"{key}-*.npy"):
        try:
            images = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            warnings.warn(f"{path} cannot be read ({error}): decoding again", stacklevel=3)
            continue
        if f"{zlib.crc32(images):08x}" == path.stem.rpartition("-")[2]:
            return images
        warnings.warn(f"{path} has a wrong checksum: decoding again", stacklevel=3)
    return None


def _write_cache(key: str, images: np.ndarray) -> None:
    part = CACHE / f"{key}.{os.getpid()}.part"
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / ".gitignore").write_text("*\n")
        with open(part, "wb") as file:
            np.save(file, images)
        os.replace(part, CACHE / f"{key}-{zlib.crc32(images):08x}.npy")
    except OSError as error:  # a full disk or a read-only folder costs time, not results
        if part.is_file():
            part.unlink()
        warnings.warn(f"decoded images are not kept in {CACHE}: {error}", stacklevel=3)
