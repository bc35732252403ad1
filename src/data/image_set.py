"""`ImageSet`: images with labels and sample ids, checked when made, and stratified draws from it."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64, UInt8

from src.data.on_disk import OnDisk


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images with labels, as the models are shown them.

    images: an array, or `on_disk.OnDisk` with the same rows.  labels: indices into classes.
    sample_ids: unique, indices in the official split, kept by every selection.  note: what to know of the choice of
    these images, for the reader of a table; or nothing.
    Raises ValueError for other shapes or types, no images, or labels outside the classes.
    """

    name: str
    split: str
    images: UInt8[np.ndarray, "n h w 3"] | OnDisk
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    sample_ids: Int64[np.ndarray, " n"]
    note: str = ""

    def __post_init__(self) -> None:
        n, kind = len(self.images), f"{self.images.dtype} {tuple(self.images.shape)}"
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3 or n == 0:
            raise ValueError(f"images are {kind}, expected uint8 [n, h, w, 3] with n > 0")
        for what, values in (("labels", self.labels), ("sample_ids", self.sample_ids)):
            if values.dtype != np.int64 or values.shape != (n,):
                raise ValueError(f"{what} are {values.dtype} {tuple(values.shape)}, expected int64 ({n},)")
        if not isinstance(self.classes, tuple) or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be a tuple of different names, not {self.classes!r}")
        outside = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if outside.size:
            label, top = self.labels[outside[0]], len(self.classes) - 1
            raise ValueError(f"label {label} of image {outside[0]} is outside 0 to {top}")
        repeated = n - len(np.unique(self.sample_ids))
        if repeated:
            raise ValueError(f"sample_ids are not unique: {repeated} repeated")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        n, h, w, _ = self.images.shape
        note = f" ({self.note})" if self.note else ""
        return f"<ImageSet {self.name} {self.split}: {n} images of {w}x{h}, {len(self.classes)} classes{note}>"

    def checksum(self) -> str:
        """8 hexadecimal digits of the labels and sample ids, and after a hyphen 16 of the pixels, by sha256.

        Images on disk are not read: names and sizes of their files stand for their pixels.

        >>> from src.data import load_images
        >>> load_images("fashion_mnist", "test").checksum()
        '6f0260c6-f8d50c372b3e2ce3'
        """
        on_disk = isinstance(self.images, OnDisk)
        pixels = (
            "\n".join(self.images.names()).encode(errors="surrogateescape")
            if on_disk
            else np.ascontiguousarray(self.images)
        )
        labels = hashlib.sha256(np.stack([self.labels, self.sample_ids]))
        return f"{labels.hexdigest()[:8]}-{hashlib.sha256(pixels).hexdigest()[:16]}"

    def take(self, rows: np.ndarray) -> "ImageSet":
        """The images at these positions, in this order, with their sample ids."""
        images, labels, ids = self.images[rows], self.labels[rows], self.sample_ids[rows]
        return replace(self, images=images, labels=labels, sample_ids=ids)

    def subset(self, n: int, seed: int) -> "ImageSet":
        """n images, as equal in number over the classes as can be, in the order of the set.

        With one seed, a smaller draw is part of a larger one.  Raises ValueError for n below 1 or above len(self).

        >>> from src.data import load_images
        >>> images = load_images("fashion_mnist", "test").subset(20, seed=0)
        >>> images, np.bincount(images.labels).tolist()
        (<ImageSet fashion_mnist test: 20 images of 32x32, 10 classes>, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
        """
        if not 0 < n <= len(self):
            raise ValueError(f"cannot draw {n} of the {len(self)} images of {self.name} {self.split}")
        return self.take(np.sort(self._draw_order(seed, even=True)[:n]))

    def shuffled(self, seed: int) -> "ImageSet":
        """The images in a random order, so that every batch has some of all classes."""
        return self.take(np.random.default_rng(seed).permutation(len(self)))

    def at_most(self, n: int, seed: int) -> "ImageSet":
        """n images as `subset` draws them; all, with a note, where there are fewer, and for n = 0."""
        if n > len(self):
            cut = f"asked for {n:,} images, there are {len(self):,}: all are taken"
            return replace(self, note="; ".join(filter(None, (self.note, cut))))
        return self.subset(n, seed) if n else self

    def train_and_test(self, seed: int) -> tuple["ImageSet", "ImageSet"]:
        """(train, test): a fifth of each class, at least one image, is test, in the order of the set.

        Raises ValueError for a class of a single image.
        """
        counts = np.bincount(self.labels, minlength=len(self.classes))
        if lonely := [name for name, count in zip(self.classes, counts, strict=True) if count == 1]:
            raise ValueError(f"class {lonely[0]} has one image, which cannot be in train and in test; add images to it")
        held_out = np.maximum(1, counts // 5)
        test = self._ranks(np.random.default_rng(seed)) < held_out[self.labels]
        return self.take(np.flatnonzero(~test)), self.take(np.flatnonzero(test))

    def split_off(self, amount: float, seed: int) -> tuple["ImageSet", "ImageSet"]:
        """(rest, held out): disjoint, both with the class shares of the whole, e.g. to validate.

        amount: a number of images (int), or a fraction in (0, 1) (float).  Raises ValueError where a part is empty.
        """
        n = round(amount * len(self)) if isinstance(amount, float) else amount
        if not 0 < n < len(self):
            raise ValueError(f"cannot split {amount} off the {len(self)} images of {self.name} {self.split}")
        order = self._draw_order(seed, even=False)
        return self.take(np.sort(order[n:])), self.take(np.sort(order[:n]))

    def _draw_order(self, seed: int, *, even: bool) -> np.ndarray:
        """Positions, shuffled so that every beginning has the classes in equal numbers, or by their share."""
        rng = np.random.default_rng(seed)
        rank, counts = self._ranks(rng), np.bincount(self.labels, minlength=len(self.classes))
        turn = rng.permutation(len(self.classes))[self.labels]  # which class goes first at equal rank
        return np.lexsort((turn, rank if even else (rank + 0.5) / counts[self.labels]))

    def _ranks(self, rng: np.random.Generator) -> np.ndarray:
        """Place of each image in the shuffled order of its class."""
        shuffled, rank = rng.permutation(len(self)), np.empty(len(self))
        by_class = shuffled[np.argsort(self.labels[shuffled], kind="stable")]
        rank[by_class] = np.concatenate([np.arange(count) for count in np.bincount(self.labels)])
        return rank
