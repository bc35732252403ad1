"""Decoding of pictures. Large sets are kept decoded in data/.cache, safe to delete at any time."""

import hashlib
import io
import warnings
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from src.files import written_whole
from src.paths import DATA

CACHE = DATA / ".cache"
CACHE_FROM = 5_000  # images; decoding fewer takes about a second
CACHE_VERSION = b"2"  # to be changed when `decode_one` gives other pixels than before
MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS  # of a picture; Pillow refuses more
MODES = ("RGB", "L", "P", "1", "RGBA", "LA", "PA")
FORMATS = ("PNG", "WEBP", "JPEG", "BMP", "GIF", "TIFF", "PPM")  # naming them saves half the time


def decode_images(
    encoded: Sequence[bytes], where: str, *, names: Sequence[object] | None = None
) -> UInt8[np.ndarray, "n h w 3"]:
    """Pixels of pictures (PNG, WebP, JPEG, …) of one size, as `decode_one` gives them.

    where, names: for errors, of the set, and of each image besides its index.
    50,000 CIFAR images take 10 s, or half a second from the cache, whose key is a checksum of the encoded bytes.
    Raises ValueError for the first image that cannot be decoded, has another size than image 0, or a mode
    that `decode_one` refuses.
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


def _decode(encoded: Sequence[bytes], where: str, names: Sequence[object] | None) -> UInt8[np.ndarray, "n h w 3"]:
    if not encoded:
        raise ValueError(f"{where}: no images")
    images = None
    for i, item in enumerate(encoded):
        name = f"image {i}" if names is None else f"image {i} ({names[i]})"
        try:
            pixels = decode_one(item)
        except Exception as error:  # Pillow's formats raise half a dozen kinds
            raise ValueError(f"{where}: {name} cannot be decoded: {error}") from error
        if images is None:
            images = np.empty((len(encoded), *pixels.shape), np.uint8)
        (h, w), (h0, w0) = pixels.shape[:2], images.shape[1:3]
        if (h, w) != (h0, w0):
            raise ValueError(
                f"{where}: {name} is {w}x{h} pixels, image 0 is {w0}x{h0}; make them one size, or "
                f"add @SIDE to the name (folder:PATH@224) to have them cut to one"
            )
        images[i] = pixels
    return images


def decode_one(item: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Pixels of one picture, turned as its EXIF data say; grey is repeated three times, and what is transparent shows
    white behind it.

    Raises what Pillow raises, and ValueError for other modes than MODES, such as CMYK and 16-bit grey.
    """
    picture = Image.open(io.BytesIO(item), formats=FORMATS)
    if picture.mode not in MODES:
        raise ValueError(f"mode {picture.mode} is not supported; convert it to RGB or 8-bit grey")
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
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
    try:
        with written_whole(CACHE / f"{key}-{zlib.crc32(images):08x}.npy") as path, open(path, "wb") as file:
            np.save(file, images)
    except OSError as error:  # a full disk or a read-only folder costs time, not results
        warnings.warn(f"decoded images are not kept in {CACHE}: {error}", stacklevel=3)
