"""FFCV's `.beton` files, format version 2, read and written with numpy alone (libjpeg decodes JPEG samples).

The format holds no class names and no checksum. A JSON sidecar beside the file, `<file>.json`, holds both.
How a file is laid out: `beton_layout`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from simplejpeg import decode_jpeg

from src.data.beton_layout import (
    ALLOCATION,
    DESCRIPTOR,
    HEADER,
    INT,
    JPEG,
    MIN_PAGE_SIZE,
    PAGE_SIZE,
    RAW,
    RECORDS,
    RGB,
    VERSION,
    damaged,
    map_file,
    read_structure,
    round_up,
)
from src.data.on_disk import EncodedImages, MappedImages
from src.files import sha256, written_whole


def read_beton(
    path: str | Path, *, in_memory: int | None = None
) -> tuple[UInt8[np.ndarray, "n h w 3"] | MappedImages, Int64[np.ndarray, " n"]]:
    """Read all images (RGB) and labels of a beton, raw or JPEG, in the order of its samples.

    in_memory: bytes of pixels above which raw images stay in the file and come as `MappedImages`; None for any size.

    The image field is the only RGB field or the one named `image`, the label field the only int field or the
    one named `label`; other fields are skipped.  Raises FileNotFoundError for a missing file, ValueError for
    one that is not a beton, is cut off or overwritten, has images of different sizes, or has no such field.

    What is noticed: with a sidecar every changed byte, by its sha256.  Without one every cut, and overwritten
    structure: header, types of fields, image records, pointers, allocation table.  Raw pixels, JPEG data and
    labels carry no redundancy: a byte overwritten there goes unnoticed, unless a JPEG no longer decodes.

    JPEG samples are decoded with libjpeg's fast transform, as FFCV does, to the same pixels; the accurate one of
    PIL and OpenCV differs from it by about one grey level on average.
    """
    path = Path(path)
    data = map_file(path)
    images, sizes, labels = read_structure(path, data)
    _verify_sidecar(path, len(labels))
    return _read_images(path, data, images, sizes, in_memory), labels


def read_encoded_beton(path: str | Path, side: int) -> tuple[EncodedImages, Int64[np.ndarray, " n"]]:
    """The images of a beton, of any sizes, which are decoded when they are asked for, and its labels.

    Raises as `read_beton` does, but for a sample that cannot be decoded when its turn comes.
    """
    path = Path(path)
    images, sizes, labels = read_structure(path, map_file(path))
    _verify_sidecar(path, len(labels))
    h, w = images["height"].astype(np.int64), images["width"].astype(np.int64)
    raw, jpeg = images["mode"] == RAW, images["mode"] == JPEG
    if not (raw | jpeg).all() or (sizes[raw] != (h * w * 3)[raw]).any() or not (h * w).all():
        raise damaged(path, "its images should be JPEG (0) or raw (1), and raw ones height × width × 3 bytes")
    columns = images["pointer"].astype(np.int64), sizes, h, w, raw
    return EncodedImages(BetonSamples(path, *columns), np.arange(len(labels)), side), labels


@dataclass(frozen=True, eq=False, repr=False)
class BetonSamples:
    """The samples of a beton, each opened, read and decoded by itself."""

    path: Path
    pointers: Int64[np.ndarray, " n"]
    sizes: Int64[np.ndarray, " n"]
    heights: Int64[np.ndarray, " n"]
    widths: Int64[np.ndarray, " n"]
    raw: Bool[np.ndarray, " n"]

    def decode(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        h, w = int(self.heights[i]), int(self.widths[i])
        with open(self.path, "rb") as file:
            file.seek(self.pointers[i])
            content = file.read(self.sizes[i])
        if self.raw[i]:
            return np.frombuffer(content, np.uint8).reshape(h, w, 3)
        return _decode_jpeg(self.path, i, content, h, w)

    def identity(self) -> list[int]:
        file = self.path.stat()
        return [file.st_size, file.st_mtime_ns]


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
    at least 2 MiB that holds an image.  Both files are written aside and renamed, so each appears whole; a
    kill between the two renames leaves a pair that `read_beton` refuses.  Raises ValueError for what the
    format cannot hold.
    """
    path, images, labels = Path(path), np.asarray(images), np.asarray(labels)
    _check_arguments(images, labels, classes, page_size)
    names = None if classes is None else [str(name) for name in classes]
    with written_whole(sidecar_path(path)) as sidecar_file, written_whole(path) as file:
        _write_file(file, images, labels, page_size)
        sidecar = {"n": len(labels), "classes": names, "sha256": sha256(file)}
        sidecar_file.write_text(json.dumps(sidecar, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def sidecar_path(path: str | Path) -> Path:
    """`train.beton` -> `train.beton.json`, in the same folder."""
    return Path(f"{path}.json")


def read_sidecar(path: str | Path) -> dict | None:
    """`n`, `classes` (names or None) and `sha256` from the sidecar of the beton at `path`; None without one.

    Raises ValueError when the sidecar is not what `write_beton` writes.
    """
    kinds = {"n": int, "classes": (list, type(None)), "sha256": str}
    try:
        sidecar = json.loads(sidecar_path(path).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:  # not JSON, not text
        sidecar = None
    if not isinstance(sidecar, dict) or not all(
        name in sidecar and isinstance(sidecar[name], kind) for name, kind in kinds.items()
    ):
        raise ValueError(f"{sidecar_path(path)} is not JSON with {', '.join(kinds)}; write the beton again")
    return sidecar


def _verify_sidecar(path: Path, n: int) -> None:
    sidecar = read_sidecar(path)
    if sidecar and (sidecar["n"], sidecar["sha256"]) != (n, sha256(path)):
        raise ValueError(
            f"{path} is not the file that {sidecar_path(path).name} was written for (sha256); "
            f"download or write both again"
        )


def _read_images(
    path: Path, data: np.ndarray, images: np.ndarray, sizes: np.ndarray, in_memory: int | None
) -> np.ndarray | MappedImages:
    """Pixels uint8 [n, h, w, 3] behind the image records; JPEG samples decoded one by one."""
    h, w = int(images["height"][0]), int(images["width"][0])
    if (images["height"] != h).any() or (images["width"] != w).any() or not h * w:
        heights, widths = (sorted(set(images[side].tolist()))[:5] for side in ("height", "width"))
        raise ValueError(
            f"{path} should hold images of one size, but has heights {heights} and widths {widths}; "
            f"add @SIDE to its name (beton:FILE@224) to have them cut to one"
        )
    raw, jpeg = images["mode"] == RAW, images["mode"] == JPEG  # bool [n]
    if not (raw | jpeg).all() or (sizes[raw] != h * w * 3).any():
        raise damaged(path, f"its images should be JPEG (0) or raw (1), and raw ones {h}×{w}×3 bytes")
    pointers = images["pointer"].astype(np.int64)
    if raw.all() and in_memory is not None and len(images) * h * w * 3 > in_memory:
        return MappedImages(path, pointers, (h, w))
    if raw.all():
        return _gather(data, pointers, h * w * 3).reshape(-1, h, w, 3)
    pixels = np.empty((len(images), h, w, 3), np.uint8)
    if raw.any():
        pixels[raw] = _gather(data, pointers[raw], h * w * 3).reshape(-1, h, w, 3)
    for i in np.flatnonzero(jpeg):
        pixels[i] = _decode_jpeg(path, i, data[pointers[i] :][: sizes[i]].tobytes(), h, w)
    return pixels


def _gather(data: np.ndarray, pointers: np.ndarray, size: int) -> UInt8[np.ndarray, "m size"]:
    """Copies of the `size` bytes at each pointer: rows of a view whose rows start one byte after another."""
    return np.lib.stride_tricks.sliding_window_view(data, size)[pointers]


def _decode_jpeg(path: Path, sample: int, encoded: bytes, h: int, w: int) -> UInt8[np.ndarray, "h w 3"]:
    try:
        pixels = decode_jpeg(encoded, "RGB", fastdct=True)  # the transform that FFCV uses
        if pixels.shape != (h, w, 3) or not encoded.endswith(b"\xff\xd9"):  # end-of-image marker
            raise ValueError(f"not all of a picture of {h}×{w} pixels")
    except ValueError as error:
        raise damaged(path, f"sample {sample} is no readable JPEG ({error})") from None
    return pixels


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


def _write_file(path: Path, images: np.ndarray, labels: np.ndarray, page_size: int) -> None:
    n, h, w, _ = images.shape
    size, per_page = h * w * 3, page_size // (h * w * 3)
    fields = np.array([(RGB, b"image", b""), (INT, b"label", b"")], DESCRIPTOR)
    records = np.zeros(n, np.dtype([("image", RECORDS[RGB]), ("label", RECORDS[INT])], align=True))
    pages_start = round_up(HEADER.itemsize + fields.nbytes + records.nbytes, page_size)
    table_start = pages_start + -(-n // per_page) * page_size
    table = np.zeros(n, ALLOCATION)
    table["sample"], table["size"] = np.arange(n), size
    table["pointer"] = pages_start + np.arange(n) // per_page * page_size + np.arange(n) % per_page * size
    for name, value in dict(mode=RAW, width=w, height=h, pointer=table["pointer"]).items():
        records["image"][name] = value
    records["label"] = labels
    header = np.array([(VERSION, len(fields), page_size, n, table_start)], HEADER)
    with open(path, "wb") as file:
        file.writelines(part.tobytes() for part in (header, fields, records))
        for i in range(0, n, per_page):  # a page at a time
            file.seek(int(table["pointer"][i]))
            file.write(np.ascontiguousarray(images[i : i + per_page]))
        file.seek(table_start)
        file.write(table.tobytes())
