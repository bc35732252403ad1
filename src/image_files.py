"""Readers of image files: parquet in the hub's layout, the hub itself, idx, image folders. Each returns `RawImages`.

Nothing here knows the named data sets; `src.data` does. Every error is a ValueError or FileNotFoundError that names the
file, except a hub that cannot be reached: RuntimeError.
"""

import gzip
import hashlib
import io
import json
import os
import re
import struct
import tempfile
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from src.paths import DATA

CACHE = DATA / ".cache"  # decoded pixels, keyed by the encoded bytes: safe to delete at any time
CACHE_FROM = 5_000  # images: decoding fewer takes about a second
FORMATS = ("PNG", "WEBP", "JPEG", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
SPLIT_NAMES = {"train": ("train",), "test": ("test", "validation", "valid", "val")}  # ours -> what others call it


class RawImages(NamedTuple):
    """What a file holds. images: uint8 [n, h, w, 3]; labels: int64 [n]; None where the file does not say."""

    where: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] | None
    sample_ids: np.ndarray | None


def decode_images(encoded: Sequence[bytes], where: str) -> np.ndarray:
    """Encoded pictures (PNG, WebP, JPEG, …) of one size -> uint8 [n, h, w, 3]; grey is repeated three times.

    5,000 or more are kept decoded in data/.cache. Raises ValueError with the index of the first image that cannot be
    decoded, has another size than image 0, or has a mode other than grey, palette or RGB.
    """
    if len(encoded) < CACHE_FROM:
        return _decode(encoded, where)
    digest = hashlib.blake2b(digest_size=16)
    for item in encoded:
        digest.update(len(item).to_bytes(8, "little") + item)
    images = _read_cache(digest.hexdigest())
    if images is None:
        images = _decode(encoded, where)
        _write_cache(digest.hexdigest(), images)
    return images


def _decode(encoded: Sequence[bytes], where: str) -> np.ndarray:
    images = None
    for i, item in enumerate(encoded):
        try:
            picture = Image.open(io.BytesIO(item), formats=FORMATS)
            pixels = np.asarray(picture if picture.mode == "RGB" else _to_rgb(picture))
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{where}: image {i} cannot be decoded: {error}") from error
        if images is None:
            images = np.empty((len(encoded), *pixels.shape), np.uint8)
        if pixels.shape != images.shape[1:]:
            found, expected = (f"{w}x{h}" for h, w in (pixels.shape[:2], images.shape[1:3]))
            raise ValueError(f"{where}: image {i} is {found} pixels, image 0 is {expected}; resize them to one size")
        images[i] = pixels
    if images is None:
        raise ValueError(f"{where}: no images")
    return images


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode not in ("1", "L", "P"):
        raise ValueError(f"mode {picture.mode} is not supported; convert it to RGB or 8-bit grey")
    return picture.convert("RGB")


def _read_cache(key: str) -> np.ndarray | None:
    for path in CACHE.glob(f"{key}-*.npy"):
        images = np.load(path, allow_pickle=False)
        if f"{zlib.crc32(images):08x}" == path.stem.rpartition("-")[2]:
            return images
    return None


def _write_cache(key: str, images: np.ndarray) -> None:
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / ".gitignore").write_text("*\n")
        with tempfile.NamedTemporaryFile(dir=CACHE, suffix=".part", delete=False) as part:
            np.save(part, images)
        os.replace(part.name, CACHE / f"{key}-{zlib.crc32(images):08x}.npy")
    except OSError as error:
        warnings.warn(f"decoded images are not kept in {CACHE}: {error}", stacklevel=2)


def from_table(table: pa.Table, where: str, image_column: str, label_column: str) -> RawImages:
    """Images, labels, class names and, if there is such a column, sample ids of an arrow table as the hub makes them."""
    missing = [column for column in (image_column, label_column) if column not in table.column_names]
    if missing:
        raise ValueError(f"{where}: no column {', '.join(missing)}; it has {', '.join(table.column_names)}")
    cells, labels = table[image_column].to_pylist(), table[label_column]
    if not pa.types.is_integer(labels.type) or labels.null_count:
        raise ValueError(f"{where}: column {label_column} is {labels.type} with {labels.null_count} empty, not integers")
    if not all(isinstance(cell, dict) and (cell.get("bytes") or cell.get("path")) for cell in cells):
        raise ValueError(f"{where}: column {image_column} does not hold images (a struct of bytes and path)")
    encoded = [cell["bytes"] or Path(cell["path"]).read_bytes() for cell in cells]
    info = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    names = info.get("info", {}).get("features", {}).get(label_column, {}).get("names")
    ids = table["sample_id"].to_numpy().astype(np.int64) if "sample_id" in table.column_names else None
    labels = labels.to_numpy().astype(np.int64)
    return RawImages(where, decode_images(encoded, where), labels, tuple(names) if names else None, ids)


def find_parquet(folder: Path, split_name: str) -> list[Path]:
    """The files of one split in a folder, or in the one sub-folder that has them; complete, in order.

    Raises ValueError where two sub-folders have them or a part is missing; returns [] where there are none.
    """
    found = []
    for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        files = [p for p in sorted(place.glob("*.parquet")) if re.match(rf"{split_name}(-.*)?\.parquet$", p.name)]
        if files:
            found.append(files)
        if files and place == folder:
            break
    if len(found) > 1:
        places = ", ".join(files[0].parent.name for files in found)
        raise ValueError(f"{folder}: several sub-folders hold {split_name}-*.parquet ({places}); keep one")
    files = found[0] if found else []
    parts = [re.search(r"-(\d{5})-of-(\d{5})", p.name) for p in files]
    if any(parts) and [p and p.groups() for p in parts] != [(f"{i:05d}", parts[0][2]) for i in range(int(parts[0][2]))]:
        raise ValueError(f"{files[0].parent}: {split_name} is not complete: {', '.join(p.name for p in files)}")
    return files


def read_parquet(files: list[Path], image_column: str, label_column: str) -> RawImages:
    """One split from its parquet files. Raises ValueError naming the file that is cut off or not parquet."""
    tables = []
    for file in files:
        try:
            wanted = {image_column, label_column, "sample_id"}
            with pq.ParquetFile(file) as parquet:
                tables.append(parquet.read([c for c in parquet.schema_arrow.names if c in wanted]))
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{file}: cut off, or not a parquet file ({error}); fetch it again") from error
    where = str(files[0]) if len(files) == 1 else f"{files[0].parent}/{{{','.join(file.name for file in files)}}}"
    return from_table(pa.concat_tables(tables), where, image_column, label_column)


def find_idx(folder: Path, split: str) -> list[Path]:
    """The image file and the label file of a split in MNIST's format, gzipped or not; [] unless both are there."""
    prefix = {"train": "train", "test": "t10k"}[split]
    names = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]
    files = [next((p for p in (folder / f"{n}.gz", folder / n) if p.is_file()), None) for n in names]
    return files if all(files) else []


def read_idx(files: list[Path]) -> RawImages:
    """One split from MNIST's two files. Raises ValueError naming the file that is cut off or foreign."""
    arrays = []
    for file, n_axes in zip(files, (3, 1), strict=True):
        try:
            content = (gzip.open if file.suffix == ".gz" else open)(file, "rb").read()
            magic, *shape = struct.unpack_from(f">{n_axes + 1}I", content)
            if magic != 0x0800 + n_axes:
                raise ValueError(f"magic number {magic:#x}, expected {0x0800 + n_axes:#x}")
            arrays.append(np.frombuffer(content, np.uint8, offset=4 * (n_axes + 1)).reshape(shape))
        except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
            raise ValueError(f"{file}: cut off, or not an idx file ({error})") from error
    images, labels = arrays
    if len(images) != len(labels):
        raise ValueError(f"{files[0]} has {len(images)} images, {files[1].name} {len(labels)} labels")
    return RawImages(str(files[0]), np.repeat(images[..., None], 3, axis=3), labels.astype(np.int64), None, None)


def read_image_folder(folder: Path, split: str) -> RawImages:
    """Pictures in one sub-folder a class, below train/ and test/ (or val/) where these exist; classes are sorted."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    found = {ours: [folder / n for n in names if (folder / n).is_dir()] for ours, names in SPLIT_NAMES.items()}
    if not any(found.values()):
        warnings.warn(f"{folder} has no train/ and test/ sub-folders: every split is the whole folder", stacklevel=3)
    elif not found[split]:
        raise FileNotFoundError(f"{folder} has no sub-folder {' or '.join(SPLIT_NAMES[split])}")
    top = found[split][0] if found[split] else folder
    classes = _class_folders(top)
    for other in (places[0] for places in found.values() if places):
        if _class_folders(other) != classes:
            raise ValueError(f"{top} and {other} have different class sub-folders")
    files, labels = [], []
    for label, name in enumerate(classes):
        pictures = sorted(p for p in (top / name).rglob("*") if p.suffix.lower() in SUFFIXES)
        if not pictures:
            raise ValueError(f"{top / name}: no images; a class is a sub-folder with {', '.join(sorted(SUFFIXES))} files")
        files += pictures
        labels += [label] * len(pictures)
    images = decode_images([p.read_bytes() for p in files], str(top))
    return RawImages(str(top), images, np.array(labels, np.int64), tuple(classes), None)


def _class_folders(folder: Path) -> list[str]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise ValueError(f"{folder}: no class sub-folders")
    return names


def read_hub(hub_id: str, split: str, columns: tuple[str, str] | None = None) -> RawImages:
    """One split of a hub data set, through the library `datasets` and its cache.

    split: train or test, or the hub's own name for it.  columns: of image and label; None finds the only ones.
    Raises RuntimeError where the hub cannot be reached, ValueError where the set has no such split or columns.
    """
    import datasets  # takes a second to import; not needed for local files

    try:
        splits = datasets.load_dataset(hub_id)
    except Exception as error:  # the library passes on whatever its many layers raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RuntimeError(f"the hub data set {hub_id} cannot be had ({reason})") from error
    chosen = next((name for name in SPLIT_NAMES.get(split, (split,)) if name in splits), None)
    if chosen is None:
        raise ValueError(f"hub:{hub_id} has no split for {split!r}; it has {', '.join(splits)}")
    data = splits[chosen]
    image_column, label_column = columns or _guess_columns(hub_id, data.features)
    raw = from_table(data.with_format("arrow")[:], f"hub:{hub_id} {chosen}", image_column, label_column)
    names = getattr(data.features[label_column], "names", None)
    return raw._replace(classes=tuple(names) if names else None)


def _guess_columns(hub_id: str, features: dict) -> tuple[str, str]:
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    labels = [name for name in labels if name in ("label", "labels")] or labels
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(f"hub:{hub_id} needs one Image and one ClassLabel column (or one called label); it has {kinds}")
    return images[0], labels[0]
