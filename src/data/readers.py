"""Readers of image sets: parquet in the hub's layout, the hub, MNIST's idx format, image folders.

Each returns `RawImages`; named data sets are the business of `src.data.load`. A file that is cut off or foreign is a
ValueError that names it, a missing one a FileNotFoundError, a hub out of reach a HubError.
"""

import gzip
import json
import re
import reprlib
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt8

from src.data.decoding import decode_images
from src.data.on_disk import EncodedImages, OnDisk, PictureFiles

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".jpe", ".mpo", ".tga", ".pbm", ".pnm")  # pictures too
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# ours -> others'
SPLIT_NAMES = {"train": ("train", "training"), "test": ("test", "testing", "validation", "valid", "val")}


class HubError(RuntimeError):
    """A hub data set that does not come: no network, no such set, or it is not open."""


class RawImages(NamedTuple):
    """Content of files, not yet checked; None where they do not say."""

    where: str
    images: UInt8[np.ndarray, "n h w 3"] | OnDisk
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...] | None = None
    sample_ids: Int64[np.ndarray, " n"] | None = None
    undivided: bool = False  # these are the images of both splits


def read_table(table: pa.Table, where: str, image_column: str, label_column: str) -> RawImages:
    """A table in the hub's layout; sample ids if it has a column of that name, `sample_id`."""
    missing = [column for column in (image_column, label_column) if table.column_names.count(column) != 1]
    if missing:
        raise ValueError(f"{where}: no column {', '.join(missing)}; it has {', '.join(table.column_names)}")
    labels, empty = table[label_column], table[label_column].null_count
    if not pa.types.is_integer(labels.type) or empty:
        raise ValueError(f"{where}: {label_column} should be integers, is {labels.type} with {empty} empty")
    cells = table[image_column].to_pylist()
    if not all(isinstance(cell, dict) and (cell.get("bytes") or cell.get("path")) for cell in cells):
        raise ValueError(f"{where}: column {image_column} does not hold images (a struct of bytes and path)")
    try:
        encoded = [cell["bytes"] or Path(cell["path"]).read_bytes() for cell in cells]
        info = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        names = info.get("info", {}).get("features", {}).get(label_column, {}).get("names")
    except OSError as error:
        raise ValueError(f"{where}: a picture that it names cannot be read ({error}); fetch it again") from None
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{where}: its metadata are damaged ({error}); fetch it again") from None
    ids = table["sample_id"] if "sample_id" in table.column_names else None
    if ids is not None and (not pa.types.is_integer(ids.type) or ids.null_count):
        raise ValueError(f"{where}: sample_id should be integers, is {ids.type} with {ids.null_count} empty")
    ids, labels = (column and column.to_numpy().astype(np.int64) for column in (ids, labels))
    return RawImages(where, decode_images(encoded, where), labels, class_names(names, where), ids)


def class_names(names: object, where: str) -> tuple[str, ...] | None:
    """Names of classes as a file has them, or None where it has none; ValueError for anything but a list of texts."""
    if names and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{where}: names of classes should be a list of texts, not {reprlib.repr(names)}")
    return tuple(names) if names else None


def read_parquet(folder: Path, split_name: str, image_column: str, label_column: str) -> RawImages | None:
    """One split in the hub's layout, from a folder or one sub-folder of it; None where neither has its files."""
    files, tables = _find_parquet(folder, split_name), []
    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                complete = {image_column, label_column} <= set(parquet.schema_arrow.names)
                # all columns of an incomplete file, for the error to name them
                tables.append(parquet.read([image_column, label_column, "sample_id"] if complete else None))
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{file}: cut off, or not a parquet file ({error}); fetch it again") from None
    if not files:
        return None
    return read_table(pa.concat_tables(tables), " + ".join(map(str, files)), image_column, label_column)


def _find_parquet(folder: Path, split_name: str) -> list[Path]:
    """The files of a split, in order; ValueError where two places have them, or where a part is missing."""
    places = {}
    for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        if files := sorted([*place.glob(f"{split_name}.parquet"), *place.glob(f"{split_name}-*.parquet")]):
            places[place] = files
    if len(places) > 1:
        raise ValueError(f"{split_name} files lie in {' and '.join(map(str, places))}; keep one of them")
    files = next(iter(places.values()), [])
    parts = [re.search(r"-(\d+)-of-(\d+)", file.name) for file in files]
    numbers = [(int(part[1]), int(part[2])) for part in parts if part]
    if numbers and numbers != [(i, len(files)) for i in range(len(files))]:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{folder}: parts of {split_name} are missing, or too many; there are {names}")
    return files


def read_idx(folder: Path, split: str) -> RawImages | None:
    """One split from MNIST's two files, gzipped or not; None unless both are there."""
    prefix, arrays = {"train": "train", "test": "t10k"}[split], []
    names = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]
    files = [next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None) for name in names]
    if not all(files):
        return None
    for file, n_axes in zip(files, (3, 1), strict=True):
        try:
            content = (gzip.open if file.suffix == ".gz" else open)(file, "rb").read()
            magic, *shape = struct.unpack_from(f">{n_axes + 1}I", content)
            if magic != 0x0800 + n_axes:
                raise ValueError(f"magic number {magic:#x}, expected {0x0800 + n_axes:#x}")
            arrays.append(np.frombuffer(content, np.uint8, offset=4 * (n_axes + 1)).reshape(shape))
        except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
            raise ValueError(f"{file}: cut off, or not an idx file ({error}); fetch it again") from None
    images, labels = arrays
    if len(images) != len(labels):
        raise ValueError(f"{files[0]} has {len(images)} images, {files[1].name} {len(labels)} labels")
    return RawImages(str(files[0]), np.repeat(images[..., None], 3, axis=3), labels.astype(np.int64))


def read_image_folder(folder: Path, side: int | None, split: str) -> RawImages:
    """Pictures, a sub-folder a class, below train/ and test/ (or val/, in any case), or undivided; classes sorted.

    side: leaves them in their files, to be decoded when asked for and cut to squares of so many pixels a side; or None.
    """
    top, classes = _find_classes(folder, split)
    files, labels = [], []
    for label, name in enumerate(classes):
        pictures = _find_pictures(top / name)
        if not pictures:
            raise ValueError(f"{top / name} holds no {', '.join(SUFFIXES)}; add some or remove the folder")
        files += pictures
        labels += [label] * len(pictures)
    if side is None:
        images = decode_images([file.read_bytes() for file in files], str(top), names=files)
    else:
        images = EncodedImages(PictureFiles(files), np.arange(len(files)), (side, side))
    return RawImages(str(top), images, np.array(labels, np.int64), classes, undivided=top == folder)


def _find_pictures(folder: Path) -> list[Path]:
    """The pictures below a folder, sorted; ValueError for one that would not be read: a pipe, of another format, …"""
    there = sorted(path for path in folder.rglob("*") if not any(map(_is_hidden, path.relative_to(folder).parts)))
    for path in there:
        if path.is_symlink() and path.is_dir():  # rglob does not follow it
            raise ValueError(f"{path} is a link to a folder, which is not followed; put the pictures in its place")
        if path.suffix.lower() in NOT_READ:
            raise ValueError(f"{path} is a picture that is not read; convert it to one of {', '.join(SUFFIXES)}")
    pictures = [path for path in there if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    for path in pictures:
        if not path.is_file():
            raise ValueError(f"{path} is no file but a pipe, a device or a broken link; remove it")
    return pictures


def _is_hidden(name: str) -> bool:
    """Whether a file or folder was put there by a program: .ipynb_checkpoints, ._cat.png, __MACOSX."""
    return name.startswith(".") or name == "__MACOSX"


def _find_classes(folder: Path, split: str) -> tuple[Path, tuple[str, ...]]:
    """The folder of a split, and its sub-folders' names, which must be those of the other split's."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder} (seen from {Path.cwd()})")
    found = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    places = {ours: [found[name] for name in names if name in found] for ours, names in SPLIT_NAMES.items()}
    tops = {ours: folders[0] for ours, folders in places.items() if folders}
    if not tops:
        tops = {split: folder}
    if split not in tops:
        raise FileNotFoundError(
            f"{folder} has {', '.join(path.name for path in tops.values())}, and no sub-folder "
            f"{' or '.join(SPLIT_NAMES[split])}; add it, or name the folder of the classes itself to have it divided"
        )
    classes = {
        top: tuple(sorted(p.name for p in top.iterdir() if p.is_dir() and not _is_hidden(p.name)))
        for top in tops.values()
    }
    if len(set(classes.values())) > 1:
        raise ValueError(f"the class sub-folders differ between {' and '.join(map(str, classes))}")
    own = classes[tops[split]]
    if len(own) < 2:
        there = f"one sub-folder, {own[0]}" if own else "no sub-folders"
        raise ValueError(
            f"{tops[split]} has {there}; each class is one: name the folder that holds those of the classes"
        )
    return tops[split], own


def read_hub(hub_id: str, split: str, columns: tuple[str, str] | None = None) -> RawImages:
    """One split of a hub data set, through the library `datasets` and its cache (which works offline too).

    hub_id: owner/name.  split: train or test.  columns: of image and label; None takes the only ones.
    Raises HubError where the set does not come, ValueError where it has no such split or columns.  A set with nothing
    but train is undivided.
    """
    if not HUB_ID.fullmatch(hub_id):
        raise ValueError(f"hub:{hub_id} is no data set of the hub; write hub:owner/name, or folder:PATH for files here")
    if Path(hub_id).exists():
        raise ValueError(
            f"{hub_id} is also a folder in {Path.cwd()}, which would be read instead; write folder:{hub_id}"
        )
    splits = _load_hub(hub_id)
    undivided = columns is None and list(splits) == ["train"]
    chosen = "train" if undivided else next((name for name in SPLIT_NAMES[split] if name in splits), None)
    if chosen is None:
        raise ValueError(f"hub:{hub_id} has no split for {split!r}; it has {', '.join(splits)}")
    data = splits[chosen]
    image_column, label_column = columns or _guess_columns(hub_id, data.features)
    raw = read_table(data.with_format("arrow")[:], f"hub:{hub_id} {chosen}", image_column, label_column)
    return raw._replace(undivided=undivided)


def _load_hub(hub_id: str) -> dict:
    """All splits. If the hub does not answer, only the library's cache is asked, without 20 s of retries."""
    import datasets  # a second to import, and not needed for local files

    problem = hub_problem()
    was_offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = was_offline or problem is not None
    try:
        return datasets.load_dataset(hub_id)
    except Exception as error:  # the library passes on whatever its layers raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if problem:
            reason = f"{problem}; of the copies kept here: {reason}"
        raise HubError(f"the hub data set {hub_id} does not come ({reason})") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = was_offline


def hub_problem() -> str | None:
    """Why the hub does not answer within 2 s; None if it does."""
    import huggingface_hub as hub

    try:
        hub.utils.get_session().head(hub.constants.ENDPOINT, timeout=2)
    except Exception as error:  # noqa: BLE001 - which HTTP library lies below differs between versions
        return f"{hub.constants.ENDPOINT} does not answer, {type(error).__name__}: {error}".splitlines()[0]
    return None


def _guess_columns(hub_id: str, features: dict) -> tuple[str, str]:
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    labels = [name for name in labels if name in ("label", "labels")] or labels
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(f"hub:{hub_id} needs an Image and a ClassLabel column (or `label`); has {kinds}")
    return images[0], labels[0]
