"""Layout of a `.beton` file: its structure, compared part with part before any pixel is read, and written.

A file is, little-endian throughout:

    header        version, number of fields F and samples N, page size, place of the allocation table
    descriptors   F of them: type, name, and arguments that only array fields use
    records       N of them, a C-aligned struct in field order; labels stand here, images only as pointers
    pages         from the next multiple of the page size on; what a pointer points at never crosses a page
    allocations   to the end of the file: sample, pointer and length in bytes of all that lies in the pages

Source: the layout that FFCV 1.0.2 (Leclerc et al. 2023) writes; tests/data/test_beton.py compares byte for byte.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

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


def damaged(path: Path, what: str) -> ValueError:
    """The error for a file whose parts do not fit together, to be raised."""
    return ValueError(f"{path} is cut off or overwritten: {what}; download or write it again")


def read_structure(path: Path) -> tuple[np.ndarray, Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Image records [n], bytes of each image and labels, of a file whose parts agree.

    Raises FileNotFoundError or ValueError as `read_beton` says.
    """
    if not path.exists():
        raise FileNotFoundError(f"no beton at {path}; check the path, or download or write the file first")
    if not path.is_file() or path.stat().st_size < HEADER.itemsize:
        raise ValueError(f"{path} is not a beton: shorter than a header, or a folder; check the path")
    data = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    version, n_fields, page_size, n, table_start = data[: HEADER.itemsize].view(HEADER)[0].item()
    if version != VERSION:
        raise ValueError(
            f"{path} is not a beton of format version {VERSION}: its first two bytes say {version}; "
            f"give a file written by FFCV 1.x or by write_beton"
        )
    records_start = HEADER.itemsize + n_fields * DESCRIPTOR.itemsize
    if not n_fields or not n or page_size < MIN_PAGE_SIZE or page_size & (page_size - 1):
        raise damaged(path, f"its header says {n_fields} fields, {n} samples, pages of {page_size} bytes")
    if not records_start <= table_start < len(data):
        raise damaged(path, f"its allocation table should start at byte {table_start} of {len(data)}")
    fields = data[HEADER.itemsize : records_start].view(DESCRIPTOR)
    types = fields["type"].tolist()
    if unknown := sorted(set(types) - set(RECORDS)):
        raise ValueError(f"{path} has fields of types {unknown}, not 0 to 6; write it again without them")
    # parts are called "0", "1", …, since names of fields are free
    record = np.dtype([(str(i), RECORDS[kind]) for i, kind in enumerate(types)], align=True)
    records_end = records_start + n * record.itemsize
    pages_start = _round_up(records_end, page_size)
    table_size = len(data) - table_start
    if table_start < pages_start or table_size % ALLOCATION.itemsize:
        raise damaged(path, f"{n} samples and a table from byte {table_start} cannot be {len(data)} bytes")
    image, label = _pick_field(path, fields, RGB, "image"), _pick_field(path, fields, INT, "label")
    records, table = data[records_start:records_end].view(record), data[table_start:].view(ALLOCATION)
    _check_allocations(path, table, pages_start, table_start, page_size)
    sizes = _match_allocations(path, records, table)
    return records[image], sizes[image], records[label].astype(np.int64)


def _pick_field(path: Path, fields: np.ndarray, kind: int, usual: str) -> str:
    """Number, as text, of the only field of a type, or among several of the one with the usual name."""
    names = {str(i): name.decode("latin1") for i, (t, name, _) in enumerate(fields.tolist()) if t == kind}
    chosen = [i for i, name in names.items() if name == usual] if len(names) > 1 else list(names)
    if len(chosen) != 1:
        raise ValueError(
            f"{path} should have one {'RGB' if kind == RGB else 'int'} field, or one called {usual} among several; it "
            f"has {', '.join(names.values()) or 'none'}: write it again with the fields image and label"
        )
    return chosen[0]


def _check_allocations(path: Path, table: np.ndarray, start: int, end: int, page_size: int) -> None:
    """Raise ValueError unless allocations lie in the pages [start, end), cross none and do not overlap."""
    pointers, sizes = table["pointer"], table["size"]
    if pointers.min() < start or pointers.max() > end or sizes.max() > page_size:
        raise damaged(path, f"its allocation table points outside the data, bytes {start} to {end}")
    order = np.lexsort((sizes, pointers))
    pointers, sizes = pointers[order].astype(np.int64), sizes[order].astype(np.int64)
    ends = np.append(pointers[1:], end)  # of the room that each has
    if (pointers % page_size + sizes > page_size).any() or (pointers + sizes > ends).any():
        raise damaged(path, "entries of its allocation table overlap, or cross a page")


def _match_allocations(path: Path, records: np.ndarray, table: np.ndarray) -> dict[str, np.ndarray]:
    """Bytes [n] behind each field with a pointer; ValueError unless records and table agree one to one."""
    held = [i for i in records.dtype.names if records[i].dtype.names]  # scalars lie in the record itself
    n, p = len(records), len(held)
    if len(table) != n * p:
        raise damaged(path, f"{n} samples with {p} pointers each have {len(table)} allocations")
    samples = np.arange(n, dtype=np.uint64).repeat(p)
    pointers = np.stack([records[i]["pointer"] for i in held], axis=1).ravel()  # n, p
    ours, theirs = np.lexsort((pointers, samples)), np.lexsort((table["pointer"], table["sample"]))
    agree = (pointers[ours] == table["pointer"][theirs]) & (samples[ours] == table["sample"][theirs])
    if not agree.all():
        raise damaged(path, f"{(~agree).sum()} of {n * p} pointers differ from its allocation table")
    sizes = np.empty(n * p, np.int64)
    sizes[ours] = table["size"][theirs]
    return dict(zip(held, sizes.reshape(n, p).T, strict=True))


def write_file(path: Path, images: UInt8[np.ndarray, "n h w 3"], labels: Int64[np.ndarray, " n"], page_size: int):
    """Write raw images, a page at a time, and labels; the arguments are taken as right."""
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
        for i in range(0, n, per_page):
            file.seek(int(table["pointer"][i]))
            file.write(np.ascontiguousarray(images[i : i + per_page]))
        file.seek(table_start)
        file.write(table.tobytes())


def _round_up(position: int, page_size: int) -> int:
    return -(-position // page_size) * page_size
