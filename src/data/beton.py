"""Reading and writing of FFCV's `.beton` files, format version 2, with numpy (libjpeg decodes JPEG samples).

The format holds no class names and no checksum. A JSON sidecar beside the file, `<file>.json`, holds both.
The bytes of a file: `beton_layout`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from simplejpeg import decode_jpeg, decode_jpeg_header

from src.data.beton_layout import JPEG, MIN_PAGE_SIZE, PAGE_SIZE, RAW, damaged, read_structure, write_file
from src.data.decoding import MAX_PIXELS
from src.data.on_disk import EncodedImages, MappedImages, OnDisk
from src.files import sha256, written_whole


def read_beton(
    path: str | Path, *, in_memory: int | None = None, side: int | None = None
) -> tuple[UInt8[np.ndarray, "n h w 3"] | OnDisk, Int64[np.ndarray, " n"]]:
    """Images (RGB) and labels of a beton, raw or JPEG, in the order of its samples.

    in_memory: bytes of pixels above which raw images stay in the file and come as `MappedImages`; None for any size.
    side: leaves images, of any sizes, in the file as `EncodedImages` of so many pixels a side.
    The image field is the only RGB field or the one named `image`, the label field the only int field or the one named
    `label`; other fields are skipped.  Raises FileNotFoundError for a missing file, ValueError for one that is not a
    beton, is cut off or overwritten, or has no such field; without a side also for images of different sizes or a JPEG
    that cannot be decoded, which with one is raised in its turn.

    With a sidecar every changed byte is noticed, by its sha256; without one every cut, and overwritten structure
    (header, types, records, pointers, allocations), but no byte of labels or pixels, unless a JPEG no longer decodes.
    JPEG is decoded with libjpeg's fast transform, to FFCV's pixels; PIL's and OpenCV's are about one grey level off.
    """
    samples, labels = _open(Path(path))
    if side:
        samples.is_raw()
        return EncodedImages(samples, np.arange(len(labels)), (side, side)), labels
    h, w = int(samples.heights[0]), int(samples.widths[0])
    if (samples.heights != h).any() or (samples.widths != w).any() or not h * w:
        heights, widths = (np.unique(sides)[:5].tolist() for sides in (samples.heights, samples.widths))
        raise ValueError(
            f"{path} should hold images of one size, but has heights {heights} and widths {widths}; "
            f"add @SIDE to its name (beton:FILE@224) to have them cut to one"
        )
    raw = samples.is_raw()
    mapped = MappedImages(samples.path, samples.pointers[raw], (h, w))
    if raw.all():
        return mapped if in_memory is not None and mapped.nbytes > in_memory else mapped.read(), labels
    pixels = np.empty((len(labels), h, w, 3), np.uint8)
    if raw.any():
        pixels[raw] = mapped.read()
    for i in np.flatnonzero(~raw):
        pixels[i] = samples.decode(i)
    return pixels, labels


@dataclass(frozen=True, eq=False, repr=False)
class BetonSamples:
    """The samples of a beton, each opened, read and decoded by itself."""

    path: Path
    modes: UInt8[np.ndarray, " n"]
    heights: Int64[np.ndarray, " n"]
    widths: Int64[np.ndarray, " n"]
    pointers: Int64[np.ndarray, " n"]
    sizes: Int64[np.ndarray, " n"]

    @property
    def paths(self) -> list[Path]:
        return [self.path]

    def name(self, i: int) -> str:
        return f"{self.path.name} {self.pointers[i]} {self.sizes[i]}"

    def is_raw(self) -> Bool[np.ndarray, " n"]:
        """True for raw samples, False for JPEG; ValueError for what can be neither."""
        raw, sizes = self.modes == RAW, self.heights * self.widths * 3
        if not (raw | (self.modes == JPEG)).all() or (self.sizes != sizes)[raw].any() or not sizes.all():
            raise damaged(self.path, "its images should be JPEG (0) or raw (1), and raw ones height × width × 3 bytes")
        return raw

    def decode(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        shape = int(self.heights[i]), int(self.widths[i]), 3
        with open(self.path, "rb") as file:
            file.seek(self.pointers[i])
            content = file.read(self.sizes[i])
        if self.modes[i] == RAW:
            return np.frombuffer(content, np.uint8).reshape(shape)
        try:
            if decode_jpeg_header(content)[:2] != shape[:2] or not content.endswith(b"\xff\xd9"):  # end-of-image marker
                raise ValueError(f"not all of a picture of {shape[0]}×{shape[1]} pixels")
            return decode_jpeg(content, "RGB", fastdct=True)  # the transform that FFCV uses
        except ValueError as error:
            raise damaged(self.path, f"sample {i} is no readable JPEG ({error})") from None


def _open(path: Path) -> tuple[BetonSamples, Int64[np.ndarray, " n"]]:
    """Samples and labels of a file whose structure and sidecar, if it has one, are right."""
    images, sizes, labels = read_structure(path)
    sidecar = read_sidecar(path)
    if sidecar and (sidecar["n"], sidecar["sha256"]) != (len(labels), sha256(path)):
        raise ValueError(
            f"{path} is not the file that {sidecar_path(path).name} was written for (sha256); "
            f"download or write both again"
        )
    columns = [images[name].astype(np.int64) for name in ("height", "width", "pointer")]
    if (large := columns[0] * columns[1] > MAX_PIXELS).any():
        raise damaged(path, f"sample {large.argmax()} claims more than {MAX_PIXELS} pixels")
    return BetonSamples(path, images["mode"].copy(), *columns, sizes), labels


def write_beton(
    path: str | Path,
    images: UInt8[np.ndarray, "n h w 3"],
    labels: Int64[np.ndarray, " n"],
    *,
    classes: Sequence[str] | None = None,
    page_size: int = PAGE_SIZE,
) -> None:
    """Write raw images (RGB) and labels as a beton with the fields `image` and `label`, and its sidecar.

    labels: any integers, or indices of `classes` where those are given.  page_size: bytes, a power of two of
    at least 2 MiB that holds an image.  Each file appears whole; a kill between the two leaves a pair that
    `read_beton` refuses.  Raises ValueError for what the format cannot hold.
    """
    path, images, labels = Path(path), np.asarray(images), np.asarray(labels)
    _check_arguments(images, labels, classes, page_size)
    names = None if classes is None else [str(name) for name in classes]
    with written_whole(sidecar_path(path)) as sidecar_file, written_whole(path) as file:
        write_file(file, images, labels, page_size)
        sidecar = {"n": len(labels), "classes": names, "sha256": sha256(file)}
        sidecar_file.write_text(json.dumps(sidecar, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def sidecar_path(path: str | Path) -> Path:
    """`train.beton` -> `train.beton.json`, in the same folder."""
    return Path(f"{path}.json")


def read_sidecar(path: str | Path) -> dict | None:
    """`n`, `classes` (names or None) and `sha256` from the sidecar of the beton at `path`; None without one.

    Raises ValueError when the sidecar is not what `write_beton` writes.
    """
    kinds = {"n": int, "classes": list | None, "sha256": str}
    try:
        sidecar = json.loads(sidecar_path(path).read_bytes())
        whole = all(isinstance(sidecar[name], kind) for name, kind in kinds.items())
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):  # not text, not JSON, not a table with these names
        whole = False
    if not whole:
        raise ValueError(f"{sidecar_path(path)} is not JSON with {', '.join(kinds)}; write the beton again")
    return sidecar


def _check_arguments(images: np.ndarray, labels: np.ndarray, classes, page_size: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise ValueError(f"images must be uint8 [n, h, w, 3], at least one, not {images.dtype} {images.shape}")
    n, h, w, _ = images.shape
    if max(h, w) > 65535:
        raise ValueError(f"images have {h}×{w} pixels, but a beton holds at most 65535 a side")
    if labels.dtype.kind not in "iu" or labels.shape != (n,) or labels.max() > np.iinfo(np.int64).max:
        raise ValueError(f"labels must be int64 [{n}], not {labels.dtype} {labels.shape}")
    if classes is not None and not 0 <= labels.min() <= labels.max() < len(classes):
        raise ValueError(f"labels {labels.min()} to {labels.max()} are not indices of {len(classes)} classes")
    if page_size & (page_size - 1) or not max(MIN_PAGE_SIZE, h * w * 3) <= page_size < 1 << 32:
        raise ValueError(
            f"page_size must be a power of two from {MIN_PAGE_SIZE} to {1 << 31} that holds an image of "
            f"{h * w * 3} bytes, not {page_size}"
        )
