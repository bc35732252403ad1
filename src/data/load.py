"""Images by name: `load_images("cifar10", "test")` gives an `ImageSet`, checked, or one clear error.

A named set is looked for where its record in `src.data.records` says. A place without it is passed over; a place where
it is broken is an error, never a reason to go on to the next.
"""

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from src.data import readers
from src.data.beton import read_beton, read_sidecar
from src.data.image_set import ImageSet
from src.data.readers import SPLIT_NAMES, HubError, RawImages
from src.data.records import DATASETS, MAX_SIDE, DatasetRecord
from src.names import parse_dataset
from src.paths import DATA

UNDIVIDED = "no split of its own: a fifth of each class, drawn with seed 0, is the test split"
MAX_CLASSES = 100_000  # where files name none; a label above is damage
IN_MEMORY_BYTES = 2 << 30  # a raw beton of more pixels stays in its file, see `on_disk.MappedImages`


def load_images(name: str, split: str, *, source: str | None = None) -> ImageSet:
    """All images of one split, "train" or "test".

    name: a key of DATASETS, or hub:owner/name, folder:PATH (a sub-folder a class) or beton:PATH.  With "@224" after
        either PATH, images of any sizes stay encoded in their files; workers decode them when asked for, and cut them
        to the middle square of 224 pixels a side (`on_disk.EncodedImages`).  A label in front of these three, as in
        pictures=folder:PATH, becomes the set's name.  Of images that their files do not divide, a fifth of each class,
        drawn with seed 0, is the test split, and the set's note says so.  Grey pictures get three equal channels, what
        is transparent in others shows white (`decoding.decode_one`).
    source: place of a named set.  None tries what its record says, in order: the files embedded in the repository,
        $ZOOM_DATA/<name>, the hub.  Or one of "embedded", "local" ($ZOOM_DATA), "hub", "beton" (fetched by
        `make betons`), "idx:FOLDER" (MNIST's format).
    Raises ValueError for an unknown name, split or source and for files that are not what the name says,
    FileNotFoundError where there are none, RuntimeError where the hub does not answer; each says what was tried and
    what to do.

    >>> load_images("fashion_mnist", "test")
    <ImageSet fashion_mnist test: 10000 images of 32x32, 10 classes>
    """
    if split not in SPLIT_NAMES:
        raise ValueError(f"unknown split {split!r}; choose from {', '.join(SPLIT_NAMES)}")
    label, name = check_dataset(name)
    if name not in DATASETS:
        if source is not None:
            raise ValueError(f"{name} says where it is; source={source!r} is for named sets")
        kind, _, place = name.partition(":")
        return _checked(label, split, _BY_PREFIX[kind](place, split))
    record = DATASETS[name]
    raw = _as_recorded(record, split, _find(record, split, source))
    images, wanted = _checked(name, split, raw), record.checksums.get(split, "")
    # the study's betons have a checksum of their own, of the file
    if source != "beton" and not (found := images.checksum()).startswith(wanted):
        raise ValueError(
            f"{raw.where}: checksum {found} (labels-pixels), that of {name} {split} begins {wanted}; fetch it again"
        )
    return images


def check_dataset(name: str) -> tuple[str, str]:
    """(label, name) of a data set's name, checked as far as nothing has to be read; raises as `load_images`."""
    label, name = parse_dataset(name)
    kind, _, place = name.partition(":")
    if kind in _BY_PREFIX and place:
        if label in DATASETS:
            raise ValueError(f"{label} is a data set of its own; give {name} another label")
        if kind == "folder" and not (folder := _path_and_side(place)[0]).is_dir():
            raise FileNotFoundError(f"no folder {folder} (seen from {Path.cwd()})")
    elif name not in DATASETS:
        near = difflib.get_close_matches(name.lower(), DATASETS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        choices = ", ".join([*DATASETS, "hub:owner/name", "folder:PATH", "beton:PATH"])
        raise ValueError(f"unknown data set {name!r}{hint}; choose from {choices}")
    elif label != name:
        raise ValueError(f"{name} goes by its own name, which weights and tables have too; leave out the label {label}")
    return label, name


def _path_and_side(place: str) -> tuple[Path, int | None]:
    """PATH@224 -> PATH and 224; None for a path alone."""
    path, at, side = place.rpartition("@")
    if not at or not side.isdecimal():
        return Path(place), None
    if not 1 <= int(side) <= MAX_SIDE:
        raise ValueError(f"{place} asks for images of {side} pixels a side; take 1 to {MAX_SIDE}")
    return Path(path), int(side)


def _find(record: DatasetRecord, split: str, source: str | None) -> RawImages:
    """The record's files from the first place that has them."""
    kind_of_error, tried = FileNotFoundError, []
    for place in record.sources if source is None else (source,):
        kind, _, folder = place.partition(":")
        if kind not in _PLACES or bool(folder) != (kind == "idx"):
            choices = ", ".join("idx:FOLDER" if key == "idx" else key for key in _PLACES)
            raise ValueError(f"unknown source {place!r}; choose from {choices}")
        try:
            answer = _PLACES[kind](record, split, folder)
        except HubError as error:
            kind_of_error, answer = RuntimeError, str(error)
        if not isinstance(answer, str):
            return answer
        tried.append(f"({len(tried) + 1}) {answer}")
    advice = _advise(record, source)
    raise kind_of_error(f"{record.name} {split} was not found. Tried: {'; '.join(tried)}. What to do: {advice}.")


def _advise(record: DatasetRecord, source: str | None) -> str:
    if "embedded" in record.sources and source in (None, "embedded"):
        return f"restore data/{record.name}/ from git, or run data/{record.name}/make_subset.py"
    if source is not None and source.startswith("idx:"):
        return "name a folder with MNIST's four files, such as that of Debian's package dataset-fashion-mnist"
    ways = [
        f"set ZOOM_DATA to a folder that holds {record.name}/ in the hub's parquet layout",
        f"go online once for the hub data set {record.hub_id} (a copy is kept)",
    ]
    if record.betons:
        ways.append('run `make betons` and pass source="beton"')
    return ", or ".join(ways)


def _embedded(record: DatasetRecord, split: str, _: str) -> RawImages | str:
    """The set, or why it is not there; so do all places."""
    folder = DATA / record.name
    here = "embedded" in record.sources and folder.is_dir()
    raw = readers.read_parquet(folder, split, *record.columns) if here else None
    return raw or f"{folder} in the repository (no {split} files embedded there)"


def _local(record: DatasetRecord, split: str, _: str) -> RawImages | str:
    parent = os.environ.get("ZOOM_DATA")
    if not parent:
        return "a local folder (the environment variable ZOOM_DATA is not set)"
    if not Path(parent).is_dir():
        raise FileNotFoundError(f"ZOOM_DATA={parent} is no folder, seen from {Path.cwd()}; correct it")
    folder = Path(parent) / record.name
    if not folder.is_dir():
        return f"$ZOOM_DATA: {folder} (no such folder)"
    raw = readers.read_parquet(folder, split, *record.columns) or readers.read_idx(folder, split)
    if raw is None:
        raise FileNotFoundError(f"{folder} holds no {split}-*.parquet; complete or remove it")
    return raw


def _own_beton(record: DatasetRecord, split: str, _: str) -> RawImages | str:
    if split not in record.betons:
        return f"the study's betons (there is none of {record.name} {split})"
    path = DATA / record.name / record.betons[split]
    return _read_beton(path) if path.is_file() else f"{path} (no such file)"


def _idx(record: DatasetRecord, split: str, folder: str) -> RawImages | str:
    return readers.read_idx(Path(folder), split) or f"{folder} (no images file and labels file of {split})"


def _named_beton(path: Path, side: int | None, split: str) -> RawImages:
    """A beton file, or the one for this split (train*.beton; test*.beton or val*.beton) of a folder.

    A file whose name says neither split holds both.
    """
    if path.is_dir():
        names = sorted(file.name for file in path.glob("*.beton"))
        chosen = [name for name in names if name.startswith(SPLIT_NAMES[split])]
        if len(chosen) != 1:
            raise FileNotFoundError(f"{path} should hold one beton of {split}; it holds {names}")
        path /= chosen[0]
    of_splits = [ours for ours, names in SPLIT_NAMES.items() if path.name.startswith(names)]
    if path.exists() and of_splits and split not in of_splits:
        raise ValueError(f"{path} holds {of_splits[0]} by its name, not {split}; name the folder that has both betons")
    return _read_beton(path, side)._replace(undivided=not of_splits)


def _read_beton(path: Path, side: int | None = None) -> RawImages:
    images, labels = read_beton(path, in_memory=IN_MEMORY_BYTES, side=side)
    classes = readers.class_names((read_sidecar(path) or {}).get("classes"), str(path))
    return RawImages(str(path), images, labels, classes)


def _as_recorded(record: DatasetRecord, split: str, raw: RawImages) -> RawImages:
    """Padded, with the record's classes; ValueError for another data set than the record's, or a part of it."""
    side, (h, w) = record.side - 2 * record.pad, raw.images.shape[1:3]
    if (h, w) != (side, side):
        raise ValueError(f"{raw.where}: image 0 is {w}x{h} pixels, {record.name} has {side}x{side}")
    if raw.classes and len(raw.classes) != record.n_classes:
        raise ValueError(f"{raw.where}: {len(raw.classes)} classes, {record.name} has {record.n_classes}")
    # a tenth may be spelt otherwise: the hub has "T - shirt / top"
    same = [a.lower() == b.lower() for a, b in zip(raw.classes or record.classes, record.classes, strict=True)]
    if sum(same) < 0.9 * len(same):
        theirs, ours = ", ".join(raw.classes[:4]), ", ".join(record.classes[:4])
        raise ValueError(f"{raw.where}: classes {theirs}, …; those of {record.name} are {ours}, …")
    if len(raw.labels) != record.sizes[split]:
        n = record.sizes[split]
        raise ValueError(f"{raw.where}: {len(raw.labels)} images, {record.name} {split} has {n}")
    border, images = (record.pad, record.pad), raw.images
    if record.pad:
        images = np.pad(images, ((0, 0), border, border, (0, 0)))
    return raw._replace(images=images, classes=record.classes)


def _checked(name: str, split: str, raw: RawImages) -> ImageSet:
    """The set, or its part of undivided images; classes that no file names are called 0, 1, …"""
    top = int(raw.labels.max(initial=0))
    if not raw.classes and top >= MAX_CLASSES:
        where = f"{raw.where}: label {top} of image {raw.labels.argmax()}"
        raise ValueError(f"{where} is above {MAX_CLASSES - 1}, the most without names of classes; is the file whole?")
    classes = raw.classes or tuple(str(i) for i in range(top + 1))
    ids = np.arange(len(raw.labels)) if raw.sample_ids is None else raw.sample_ids
    try:
        images = ImageSet(name, split, raw.images, raw.labels, classes, ids, UNDIVIDED if raw.undivided else "")
        return images.train_and_test(seed=0)[split == "test"] if raw.undivided else images
    except ValueError as error:
        raise ValueError(f"{raw.where}: {error}") from None


_PLACES: dict[str, Callable[[DatasetRecord, str, str], RawImages | str]] = {
    "embedded": _embedded,
    "local": _local,
    "hub": lambda record, split, _: readers.read_hub(record.hub_id, split, record.columns),
    "beton": _own_beton,
    "idx": _idx,
}
_BY_PREFIX = {
    "hub": lambda place, split: readers.read_hub(place, split),
    "folder": lambda place, split: readers.read_image_folder(*_path_and_side(place), split),
    "beton": lambda place, split: _named_beton(*_path_and_side(place), split),
}
