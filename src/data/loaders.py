"""Batches of pixels in [0, 1], the same for a seed whatever the batch size, order or device."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader

from src.data.augment import Augmentation, augment_pixels, mix_partners
from src.data.image_set import ImageSet
from src.data.on_disk import EncodedImages, MappedImages
from src.seeding import Stream, uniform

BACKENDS = ("memory", "ffcv")


class Batch(NamedTuple):
    pixels: Float[Tensor, "n 3 h w"]  # in [0, 1]
    labels: Tensor  # int64 [n]; with mixup float32 [n, k], the share of each class
    sample_ids: Int[Tensor, " n"]  # index in the official split


@dataclass
class MemoryLoader:
    """Iterates over a whole set held as one uint8 tensor on `device`; set `epoch` before each pass that is random.

    Order, crops, flips and mixup depend on (seed, epoch, sample id) alone. `batches(skip=k)` starts at the k-th
    batch, for training that resumes in the middle of an epoch.
    """

    images: Tensor  # uint8 [n, 3, h, w]; or features that a frozen backbone made of them, taken as they are
    labels: Tensor  # int64 [n]
    sample_ids: Tensor  # int64 [n]
    n_classes: int
    batch_size: int
    augmentation: Augmentation | None = None
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    share: tuple[int, int] = (0, 1)  # which part of each batch this is, of how many

    def share_with(self, number: int, n_processes: int) -> None:
        """Give this process the part `number`, counted from 0, of each batch; ValueError where one would be empty."""
        smallest = min(self.batch_size, (len(self.labels) - 1) % self.batch_size + 1)
        if smallest < n_processes:
            raise ValueError(
                f"{len(self.labels)} images in batches of {self.batch_size} leave one of {smallest}, which cannot be "
                f"shared by {n_processes} processes; take another batch_size"
            )
        self.share = (number, n_processes)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def order(self) -> Int[Tensor, " n"]:
        """Positions in the order of this epoch: as stored, or sorted by a random number of each sample."""
        if not self.shuffle:
            return torch.arange(len(self.labels), device=self.labels.device)
        return uniform(self.sample_ids, self.seed, self.epoch, Stream.ORDER, draws=1)[:, 0].argsort(stable=True)

    def batches(self, *, skip: int = 0) -> Iterator[Batch]:
        for positions in self._positions(skip):
            yield self._batch(positions)

    def _positions(self, skip: int) -> list[Tensor]:
        """Of each batch, from the one called `skip`, the positions of this process's share."""
        number, n_processes = self.share
        return [positions.tensor_split(n_processes)[number] for positions in self.order().split(self.batch_size)[skip:]]

    def _batch(self, positions: Tensor) -> Batch:
        pixels, labels, ids = self._augmented(positions)
        if self.augmentation and self.augmentation.mixup:
            partners, shares = mix_partners(ids, len(self.labels), self.augmentation.mixup, self.seed, self.epoch)
            other_pixels, other_labels, _ = self._augmented(partners)
            pixels = torch.lerp(other_pixels, pixels, shares[:, None, None, None])
            one_hot = torch.eye(self.n_classes, device=pixels.device)
            labels = torch.lerp(one_hot[other_labels], one_hot[labels], shares[:, None])
        return Batch(pixels, labels, ids)

    def _augmented(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ids = self.sample_ids[positions]
        pixels = self._pixels(positions)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float().div_(255)
        if self.augmentation:
            pixels = augment_pixels(pixels, ids, self.augmentation, seed=self.seed, epoch=self.epoch)
        return pixels, self.labels[positions], ids

    def identity(self) -> tuple[Tensor, ...]:
        """What tells this set from any other, for checksums."""
        return self.images, self.labels, self.sample_ids

    def _pixels(self, positions: Tensor) -> Tensor:
        return self.images.index_select(0, positions)  # 20 times faster than images[positions]


@dataclass
class MappedLoader(MemoryLoader):
    """A `MemoryLoader` whose images stay in their file: a batch at a time is read, so that memory does not grow."""

    images: MappedImages

    def identity(self) -> tuple[Tensor, ...]:
        file = self.images.path.stat()  # instead of the pixels, which would all have to be read
        return (
            torch.tensor([file.st_size, file.st_mtime_ns]),
            torch.from_numpy(self.images.pointers),
            self.labels,
            self.sample_ids,
        )

    def _pixels(self, positions: Tensor) -> Tensor:
        return _channels_first(np.asarray(self.images[positions.cpu().numpy()])).to(self.labels.device)


@dataclass
class EncodedLoader(MemoryLoader):
    """A `MemoryLoader` whose images are decoded in worker processes, ahead of their turn."""

    images: EncodedImages
    num_workers: int = 0

    def batches(self, *, skip: int = 0) -> Iterator[Batch]:
        positions = self._positions(skip)
        wanted = [torch.cat([some, *self._partners(some)]).cpu() for some in positions]
        decoded = in_workers(self.images, wanted, self.num_workers)
        for some, pixels in zip(positions, decoded, strict=True):
            # asked for in this order: the batch, then what it is mixed with
            self._decoded = iter(pixels.to(self.labels.device).permute(0, 3, 1, 2).split(len(some)))
            yield self._batch(some)

    def identity(self) -> tuple[Tensor, ...]:
        facts = [*self.images.samples.identity(), self.images.side]  # instead of the pixels
        return torch.tensor(facts), torch.from_numpy(self.images.rows), self.labels, self.sample_ids

    def _partners(self, positions: Tensor) -> list[Tensor]:
        if not (self.augmentation and self.augmentation.mixup):
            return []
        ids = self.sample_ids[positions]
        return [mix_partners(ids, len(self.labels), self.augmentation.mixup, self.seed, self.epoch)[0]]

    def _pixels(self, positions: Tensor) -> Tensor:
        return next(self._decoded)


def reusable(batches: Iterable[Batch]) -> Iterable[Batch]:
    """What can be gone through again and again: a loader as it is, of an iterator a list of all that it gives."""
    return list(batches) if isinstance(batches, Iterator) else batches


def make_loader(
    image_set: ImageSet,
    *,
    batch_size: int,
    augment: bool | Augmentation = False,
    shuffle: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    backend: str = "memory",
    num_workers: int | None = None,
):
    """Batches of `image_set` as `Batch(pixels, labels, sample_ids)` on `device`.

    augment: True for random resized crop and flip with the default strengths, or an `Augmentation`.
    backend: "memory" (default) holds the set as one uint8 tensor on `device`, or reads batch by batch what is too large
    for that (`MappedImages`), or decodes what is still encoded (`EncodedImages`); "ffcv" reads it through FFCV, which
    must be installed.  All give the same batches.  num_workers: processes that decode; None for one a core, at most 8;
    of no effect where nothing is to be decoded.  Raises ValueError for an unknown backend or batch size below 1.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown loader backend {backend!r}; choose from {', '.join(BACKENDS)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    options = dict(
        labels=torch.from_numpy(image_set.labels).to(device),
        sample_ids=torch.from_numpy(image_set.sample_ids).to(device),
        n_classes=len(image_set.classes),
        batch_size=batch_size,
        augmentation=(Augmentation() if augment is True else augment) or None,
        shuffle=shuffle,
        seed=seed,
    )
    if backend == "ffcv":
        from src.data.loaders_ffcv import FfcvLoader, cached_beton  # optional requirement, imported on demand

        return FfcvLoader(beton=cached_beton(image_set), **options)
    if isinstance(image_set.images, MappedImages):
        return MappedLoader(images=image_set.images, **options)
    if isinstance(image_set.images, EncodedImages):
        workers = min(os.cpu_count() or 1, 8) if num_workers is None else num_workers
        return EncodedLoader(images=image_set.images, num_workers=workers, **options)
    return MemoryLoader(images=_channels_first(image_set.images).to(device), **options)


def _channels_first(images: UInt8[np.ndarray, "n h w c"]) -> UInt8[Tensor, "n c h w"]:
    n, h, w, c = images.shape
    copy = np.empty((n, c, h, w), np.uint8)
    np.copyto(copy, images.transpose(0, 3, 1, 2))  # twice as fast as torch's contiguous()
    return torch.from_numpy(copy)


def in_workers(images: EncodedImages, batches: Sequence[Tensor], num_workers: int):
    """Yield the pixels uint8 [n, side, side, 3] of each batch of positions, decoded ahead in other processes.

    num_workers: how many; 0 decodes here.  Raises ValueError for an image that cannot be decoded.
    """
    positions = [batch.tolist() for batch in batches]
    loader = DataLoader(images, batch_sampler=positions, num_workers=num_workers, collate_fn=_as_it_is)
    for pixels in loader:
        if isinstance(pixels, ValueError):
            raise pixels
        yield torch.from_numpy(pixels)


def _as_it_is(batch):
    return batch
