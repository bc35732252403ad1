"""Images by name: `load_images("cifar10", "test")` gives an `ImageSet`, checked, or one clear error."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from src import image_files
from src.catalogue import DATASETS, DatasetRecord
from src.image_files import RawImages
from src.paths import DATA

__all__ = ["DATASETS", "DatasetRecord", "ImageSet", "load_images"]

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with labels, as the models are shown them.

    images: uint8 [n, h, w, 3].  labels: int64 [n], indices into classes.  sample_ids: int64 [n], unique, the index in
    the official split, kept by every selection.  Raises ValueError on construction if any of this does not hold.
    """

    name: str
    split: str
    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    sample_ids: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3 or n == 0:
            raise ValueError(f"images are {self.images.dtype} {self.images.shape}, expected uint8 [n, h, w, 3] with n > 0")
        for what, values in (("labels", self.labels), ("sample_ids", self.sample_ids)):
            if values.dtype != np.int64 or values.shape != (n,):
                raise ValueError(f"{what} are {values.dtype} {values.shape}, expected int64 ({n},)")
        if not isinstance(self.classes, tuple) or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be a tuple of different names, not {self.classes!r}")
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if wrong.size:
            i = wrong[0]
            raise ValueError(f"label {self.labels[i]} of image {i} is outside 0 to {len(self.classes) - 1}")
        if len(np.unique(self.sample_ids)) != n:
            raise ValueError(f"sample_ids are not unique: {n - len(np.unique(self.sample_ids))} repeated")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "ImageSet":
        """The images at these positions, in this order, with their sample ids."""
        return replace(self, images=self.images[rows], labels=self.labels[rows], sample_ids=self.sample_ids[rows])

    def subset(self, n: int, seed: int) -> "ImageSet":
        """n images, as even over the classes as can be, in the set's order; a smaller n draws part of a larger one."""
        if not 0 < n <= len(self):
            raise ValueError(f"cannot draw {n} of the {len(self)} images of {self.name} {self.split}")
        return self.take(np.sort(self._draw_order(seed, even=True)[:n]))

    def split_off(self, amount: int | float, seed: int) -> tuple["ImageSet", "ImageSet"]:
        """(rest, held out): disjoint, both with the class shares of the whole. For validation, from train.

        amount: a number of images (int), or a fraction in (0, 1) (float).
        """
        n = round(amount * len(self)) if isinstance(amount, float) else amount
        if not 0 < n < len(self):
            raise ValueError(f"cannot hold out {amount} of the {len(self)} images of {self.name} {self.split}")
        order = self._draw_order(seed, even=False)
        return self.take(np.sort(order[n:])), self.take(np.sort(order[:n]))

    def _draw_order(self, seed: int, *, even: bool) -> np.ndarray:
        """Positions in an order whose every beginning is spread over the classes: in equal numbers, or by share."""
        rng = np.random.default_rng(seed)
        counts = np.bincount(self.labels, minlength=len(self.classes))
        shuffled = rng.permutation(len(self))
        by_class = shuffled[np.argsort(self.labels[shuffled], kind="stable")]
        rank = np.empty(len(self))  # place of each image in its class's shuffled order
        rank[by_class] = np.concatenate([np.arange(count) for count in counts])
        turn = rng.permutation(len(self.classes))[self.labels]  # which class comes first at equal rank
        return np.lexsort((turn, rank if even else (rank + 0.5) / counts[self.labels]))


def load_images(name: str, split: str, *, source: str | None = None) -> ImageSet:
    """All images of one split, "train" or "test".

    name: a key of DATASETS, or hub:owner/name, folder:PATH (a sub-folder a class) or beton:PATH.
    source: None looks a named set up where its record says, in order: the embedded files, $ZOOM_DATA/<name>, the hub.
        "embedded", "local" ($ZOOM_DATA), "hub", "beton" (fetched by `make betons`) or "idx:FOLDER" (MNIST's format)
        takes that place alone.
    Raises ValueError for an unknown name, split or source and for files that are not what the name says,
    FileNotFoundError where nothing was found, RuntimeError where the hub cannot be reached; each says what was tried.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}")
    kind, _, rest = name.partition(":")
    if kind in _BY_PREFIX and rest:
        if source is not None:
            raise ValueError(f"{name} says where it is; source={source!r} is for named sets")
        raw = _BY_PREFIX[kind](rest, split)
        return _checked(name, split, raw, raw.classes)
    if name not in DATASETS:
        near = difflib.get_close_matches(name.lower(), DATASETS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        choices = ", ".join([*DATASETS, "hub:owner/name", "folder:PATH", "beton:PATH"])
        raise ValueError(f"unknown data set {name!r}{hint}; choose from {choices}")
    return _named(DATASETS[name], split, _find(DATASETS[name], split, source))


def _find(record: DatasetRecord, split: str, source: str | None) -> RawImages:
    """The record's files from the first place that has them; a place that has them broken raises."""
    tried: list[str] = []
    for place in record.sources if source is None else (source,):
        kind, _, folder = place.partition(":")
        if kind not in _BY_SOURCE or bool(folder) != (kind == "idx"):
            choices = ", ".join([*(key for key in _BY_SOURCE if key != "idx"), "idx:FOLDER"])
            raise ValueError(f"unknown source {source!r}; choose from {choices}")
        raw = _BY_SOURCE[kind](record, split, tried, folder)
        if raw is not None:
            return raw
    raise FileNotFoundError(_not_found(record, split, tried))


def _not_found(record: DatasetRecord, split: str, tried: list[str]) -> str:
    listed = "; ".join(f"({i}) {place}" for i, place in enumerate(tried, 1))
    return (
        f"{record.name} {split} was not found. Tried: {listed}. What to do: set ZOOM_DATA to a folder that holds "
        f"{record.name}/ in the hub's parquet layout, or go online for the hub data set {record.hub_id}"
        + (', or run `make betons` and pass source="beton".' if record.betons else ".")
    )


def _embedded(record: DatasetRecord, split: str, tried: list[str], _: str) -> RawImages | None:
    folder = DATA / record.name
    files = image_files.find_parquet(folder, split) if "embedded" in record.sources and folder.is_dir() else []
    if files:
        return image_files.read_parquet(files, record.image_column, record.label_column)
    tried.append(f"the repository's data/{record.name} (no {split} files embedded there)")
    return None


def _local(record: DatasetRecord, split: str, tried: list[str], _: str) -> RawImages | None:
    parent = os.environ.get("ZOOM_DATA")
    if not parent:
        tried.append("a local folder (the environment variable ZOOM_DATA is not set)")
        return None
    if not Path(parent).is_dir():
        raise FileNotFoundError(f"ZOOM_DATA={parent} is not a folder (seen from {Path.cwd()}); correct or unset it")
    folder = Path(parent) / record.name
    if not folder.is_dir():
        tried.append(f"{folder} (no such folder)")
        return None
    files = image_files.find_parquet(folder, record.splits[split])
    if files:
        return image_files.read_parquet(files, record.image_column, record.label_column)
    files = image_files.find_idx(folder, split)
    if files:
        return image_files.read_idx(files)
    raise FileNotFoundError(f"{folder} holds no {record.splits[split]}-*.parquet; complete it, or move it away")


def _hub(record: DatasetRecord, split: str, tried: list[str], _: str) -> RawImages:
    try:
        return image_files.read_hub(record.hub_id, record.splits[split], (record.image_column, record.label_column))
    except RuntimeError as error:
        tried.append(str(error))
        raise RuntimeError(_not_found(record, split, tried)) from error


def _own_beton(record: DatasetRecord, split: str, tried: list[str], _: str) -> RawImages | None:
    if split not in record.betons:
        raise ValueError(f"the study has no beton of {record.name} {split}")
    path = DATA / record.name / record.betons[split]
    if not path.is_file():
        tried.append(f"{path} (no such file)")
        return None
    return _beton(str(path), split)


def _idx(record: DatasetRecord, split: str, tried: list[str], folder: str) -> RawImages | None:
    files = image_files.find_idx(Path(folder), split)
    if not files:
        tried.append(f"{folder} (no two idx files of {split})")
    return image_files.read_idx(files) if files else None


def _beton(path: str, split: str) -> RawImages:
    from src.beton import read_beton, read_sidecar

    images, labels = read_beton(path)
    classes = (read_sidecar(path) or {}).get("classes")
    return RawImages(path, images, labels, tuple(classes) if classes else None, None)


def _named(record: DatasetRecord, split: str, raw: RawImages) -> ImageSet:
    """Pads, and refuses files that hold another data set than the record's."""
    side, (h, w) = record.side - 2 * record.pad, raw.images.shape[1:3]
    if (h, w) != (side, side):
        raise ValueError(f"{raw.where}: images are {w}x{h} pixels, {record.name} has {side}x{side}")
    if raw.classes and len(raw.classes) != record.n_classes:
        raise ValueError(f"{raw.where}: {len(raw.classes)} classes, {record.name} has {record.n_classes}")
    if raw.classes and not _mostly_equal(raw.classes, record.classes):
        raise ValueError(f"{raw.where}: classes {raw.classes[:5]}… are not those of {record.name} {record.classes[:5]}…")
    if len(raw.labels) != record.sizes[split]:
        raise ValueError(f"{raw.where}: {len(raw.labels)} images, {record.name} {split} has {record.sizes[split]}")
    pad = ((0, 0), (record.pad, record.pad), (record.pad, record.pad), (0, 0))
    return _checked(record.name, split, raw._replace(images=np.pad(raw.images, pad)), record.classes)


def _mostly_equal(found: tuple[str, ...], expected: tuple[str, ...]) -> bool:
    """Same names in the same order; a tenth may be spelt otherwise ("cra" for crab, "T - shirt / top" on the hub)."""
    return sum(a.lower() == b.lower() for a, b in zip(found, expected, strict=True)) >= 0.9 * len(expected)


def _checked(name: str, split: str, raw: RawImages, classes: tuple[str, ...] | None) -> ImageSet:
    if classes is None:
        classes = tuple(str(i) for i in range(int(raw.labels.max(initial=0)) + 1))
    ids = np.arange(len(raw.labels)) if raw.sample_ids is None else raw.sample_ids
    try:
        return ImageSet(name, split, raw.images, raw.labels, classes, ids)
    except ValueError as error:
        raise ValueError(f"{raw.where}: {error}") from error


_BY_SOURCE: dict[str, Callable[[DatasetRecord, str, list[str], str], RawImages | None]] = {
    "embedded": _embedded, "local": _local, "hub": _hub, "beton": _own_beton, "idx": _idx,
}  # fmt: skip
_BY_PREFIX: dict[str, Callable[[str, str], RawImages]] = {
    "hub": image_files.read_hub,
    "folder": lambda path, split: image_files.read_image_folder(Path(path), split),
    "beton": _beton,
}
