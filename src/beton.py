"""FFCV's `.beton` files, format version 2, read and written with numpy alone (libjpeg decodes JPEG samples).

A file is, little-endian throughout:

    header        version, number of fields F and samples N, page size, place of the allocation table
    descriptors   F of them: type, name, and arguments that only array fields use
    records       N of them, a C-aligned struct in field order; labels stand here, images only as pointers
    pages         from the next multiple of the page size on; what a pointer points at never crosses a page
    allocations   to the end of the file: sample, pointer and length in bytes of all that lies in the pages

The format holds no class names and no checksum. A JSON sidecar beside the file, `<file>.json`, holds both.
Source: the layout that FFCV 1.0.2 (Leclerc et al. 2023) writes; tests/test_beton.py compares byte for byte.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from simplejpeg import decode_jpeg

from src.files import sha256, written_whole
from src.mapped import MappedImages

VERSION = 2
FLOAT, INT, RGB = 0, 1, 2  # field types
JPEG, RAW = 0, 1  # image modes
MIN_PAGE_SIZE, PAGE_SIZE = 2 << 20, 8 << 20  # bytes: the least that FFCV takes, and its default

HEADER = np.dtype([("version", "<u2"), ("fields", "<u2"), ("page_size", "<u4"), ("n", "<u8"), ("table", "<u8")])
DESCRIPTOR = np.dtype([("type", "u1"), ("name", "S16"), ("arguments", "V1024")])
ALLOCATION = np.dtype([("sample", "<u8"), ("pointer", "<u8"), ("size", "<u8")])
_BLOB = np.dtype([("pointer", "<u8"), ("size", "<u8")])
_ARRAY = np.dtype([("pointer", "<u8")], align=True)
RECORDS = {  # field type -> its part of a record
    FLOAT: np.dtype("<f8"),
    INT: np.dtype("<i8"),
    RGB: np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("pointer", "<u8")]),
    3: _BLOB,  # bytes
    4: _ARRAY,
    5: _BLOB,  # JSON
    6: _ARRAY,  # torch tensor
}


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
    data = _map_file(path)
    images, sizes, labels = _read_structure(path, data)
    _verify_sidecar(path, len(labels))
    return _read_images(path, data, images, sizes, in_memory), labels


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


def _map_file(path: Path) -> UInt8[np.ndarray, " bytes"]:
    if not path.exists():
        raise FileNotFoundError(f"no beton at {path}; check the path, or download or write the file first")
    if not path.is_file() or path.stat().st_size < HEADER.itemsize:
        raise ValueError(f"{path} is not a beton: shorter than a header, or a folder; check the path")
    return np.memmap(path, np.uint8, mode="r").view(np.ndarray)


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} is cut off or overwritten: {what}; download or write it again")


def _read_structure(path: Path, data: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image records [n], bytes of each image [n] and labels [n], once all parts of the file agree."""
    version, n_fields, page_size, n, table_start = data[: HEADER.itemsize].view(HEADER)[0].item()
    if version != VERSION:
        raise ValueError(
            f"{path} is not a beton of format version {VERSION}: its first two bytes say {version}; "
            f"give a file written by FFCV 1.x or by write_beton"
        )
    records_start = HEADER.itemsize + n_fields * DESCRIPTOR.itemsize
    if not n_fields or not n or page_size < MIN_PAGE_SIZE or page_size & (page_size - 1):
        raise _damaged(path, f"its header says {n_fields} fields, {n} samples, pages of {page_size} bytes")
    if not records_start <= table_start < len(data):
        raise _damaged(path, f"its allocation table should start at byte {table_start} of {len(data)}")
    fields = data[HEADER.itemsize : records_start].view(DESCRIPTOR)
    record = _record_type(path, fields)
    records_end = records_start + n * record.itemsize
    pages_start = _round_up(records_end, page_size)
    table_size = len(data) - table_start
    if table_start < pages_start or table_size % ALLOCATION.itemsize:
        raise _damaged(path, f"{n} samples and a table from byte {table_start} cannot be {len(data)} bytes")
    image, label = _pick_field(path, fields, RGB, "image"), _pick_field(path, fields, INT, "label")
    records, table = data[records_start:records_end].view(record), data[table_start:].view(ALLOCATION)
    _check_allocations(path, table, pages_start, table_start, page_size)
    sizes = _match_allocations(path, records, table)
    return records[image], sizes[image], records[label].astype(np.int64)


def _record_type(path: Path, fields: np.ndarray) -> np.dtype:
    """The struct of one sample; its parts are called "0", "1", … since names of fields are free."""
    types = fields["type"].tolist()
    if unknown := sorted(set(types) - set(RECORDS)):
        raise ValueError(f"{path} has fields of types {unknown}, not 0 to 6; write it again without them")
    return np.dtype([(str(i), RECORDS[kind]) for i, kind in enumerate(types)], align=True)


def _pick_field(path: Path, fields: np.ndarray, kind: int, usual: str) -> str:
    """Number, as text, of the only field of a type, or among several of the one with the usual name."""
    names = {str(i): name.decode("latin1") for i, (t, name, _) in enumerate(fields.tolist()) if t == kind}
    chosen = [i for i, name in names.items() if name == usual] if len(names) > 1 else list(names)
    if len(chosen) != 1:
        found = ", ".join(names.values()) or "none"
        raise ValueError(
            f"{path} should have one {'RGB' if kind == RGB else 'int'} field, or one called {usual} among "
            f"several; it has {found}: write it again with the fields image and label"
        )
    return chosen[0]


def _check_allocations(path: Path, table: np.ndarray, start: int, end: int, page_size: int) -> None:
    """Raise ValueError unless allocations lie in the pages [start, end), cross none and do not overlap."""
    pointers, sizes = table["pointer"], table["size"]
    if pointers.min() < start or pointers.max() > end or sizes.max() > page_size:
        raise _damaged(path, f"its allocation table points outside the data, bytes {start} to {end}")
    order = np.lexsort((sizes, pointers))
    pointers, sizes = pointers[order].astype(np.int64), sizes[order].astype(np.int64)
    ends = np.append(pointers[1:], end)  # of the room that each has
    if (pointers % page_size + sizes > page_size).any() or (pointers + sizes > ends).any():
        raise _damaged(path, "entries of its allocation table overlap, or cross a page")


def _match_allocations(path: Path, records: np.ndarray, table: np.ndarray) -> dict[str, np.ndarray]:
    """Bytes [n] behind each field with a pointer; ValueError unless records and table agree one to one."""
    held = [i for i in records.dtype.names if records[i].dtype.names]  # scalars lie in the record itself
    n, p = len(records), len(held)
    if len(table) != n * p:
        raise _damaged(path, f"{n} samples with {p} pointers each have {len(table)} allocations")
    samples = np.arange(n, dtype=np.uint64).repeat(p)
    pointers = np.stack([records[i]["pointer"] for i in held], axis=1).ravel()  # n, p
    ours, theirs = np.lexsort((pointers, samples)), np.lexsort((table["pointer"], table["sample"]))
    agree = (pointers[ours] == table["pointer"][theirs]) & (samples[ours] == table["sample"][theirs])
    if not agree.all():
        raise _damaged(path, f"{(~agree).sum()} of {n * p} pointers differ from its allocation table")
    sizes = np.empty(n * p, np.int64)
    sizes[ours] = table["size"][theirs]
    return dict(zip(held, sizes.reshape(n, p).T, strict=True))


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
            f"resize the images before they are written"
        )
    raw, jpeg = images["mode"] == RAW, images["mode"] == JPEG  # bool [n]
    if not (raw | jpeg).all() or (sizes[raw] != h * w * 3).any():
        raise _damaged(path, f"its images should be JPEG (0) or raw (1), and raw ones {h}×{w}×3 bytes")
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
        raise _damaged(path, f"sample {sample} is no readable JPEG ({error})") from None
    return pixels


def _round_up(position: int, page_size: int) -> int:
    return -(-position // page_size) * page_size


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
    pages_start = _round_up(HEADER.itemsize + fields.nbytes + records.nbytes, page_size)
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
