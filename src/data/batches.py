"""Batches of pixels in [0, 1], from memory or disk: the same for a seed whatever the batch size, order or device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader

from src.data.augment import Augmentation, augment_pixels, mix_partners
from src.data.on_disk import OnDisk
from src.data.pixels import channels_first
from src.seeding import Stream, uniform


class Batch(NamedTuple):
    pixels: Float[Tensor, "n 3 h w"]  # in [0, 1]
    labels: Tensor  # int64 [n]; with mixup float32 [n, k], the share of each class
    sample_ids: Int[Tensor, " n"]  # index in the official split


@dataclass
class MemoryLoader:
    """Batches of a set held as one uint8 tensor on its device; set `epoch` before each pass that is random.

    Order, crops and flips depend on (seed, epoch, sample id) alone; so does mixup for images stored in one order, as
    it draws a partner's place. `batches(skip=k)` leaves out the first k batches, for training that resumes in the
    middle of an epoch.
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
    share: tuple[int, int] = (0, 1)  # rank and world size: each process has its part of every batch

    def share_with(self, rank: int, world_size: int) -> None:
        """Give this process, of world_size, its part of each batch; ValueError where one would be empty."""
        smallest = min(self.batch_size, (len(self.labels) - 1) % self.batch_size + 1)
        if smallest < world_size:
            raise ValueError(
                f"{len(self.labels)} images in batches of {self.batch_size} leave one of {smallest}, which cannot be "
                f"shared by {world_size} processes; take another batch_size"
            )
        self.share = (rank, world_size)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def order(self) -> Int[Tensor, " n"]:
        """Positions in the order of this epoch: as stored, or sorted by a random number of each sample."""
        if not self.shuffle:
            return torch.arange(len(self.labels), device=self.labels.device)
        return uniform(self.sample_ids, self.seed, self.epoch, Stream.ORDER, draws=1)[:, 0].argsort(stable=True)

    def identity(self) -> tuple[Tensor, ...]:
        """What tells this set from any other, for checksums."""
        return self.images, self.labels, self.sample_ids

    def batches(self, *, skip: int = 0) -> Iterator[Batch]:
        rank, world_size = self.share
        parts = [part.tensor_split(world_size)[rank] for part in self.order().split(self.batch_size)[skip:]]
        if self._mixes:  # the images of a batch, then those that they are mixed with
            parts = [torch.cat([part, self._mixture(self.sample_ids[part])[0]]) for part in parts]
        for positions, pixels in zip(parts, self._read(parts), strict=True):
            yield self._batch(positions, pixels)

    def _read(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """The images at the positions of each part, in turn."""
        for positions in parts:
            yield self.images.index_select(0, positions)  # 20 times faster than images[positions]

    def _batch(self, positions: Tensor, pixels: Tensor) -> Batch:
        ids, labels = self.sample_ids[positions], self.labels[positions]
        if pixels.dtype == torch.uint8:
            pixels = pixels.float().div_(255)
        if self.augmentation:
            pixels = augment_pixels(pixels, ids, self.augmentation, seed=self.seed, epoch=self.epoch)
        if self._mixes:
            (ids, _), (pixels, others) = ids.chunk(2), pixels.chunk(2)
            shares = self._mixture(ids)[1]
            pixels = torch.lerp(others, pixels, shares[:, None, None, None])
            labels, other_labels = torch.eye(self.n_classes, device=pixels.device)[labels].chunk(2)
            labels = torch.lerp(other_labels, labels, shares[:, None])
        return Batch(pixels, labels, ids)

    @property
    def _mixes(self) -> bool:
        return bool(self.augmentation and self.augmentation.mixup)

    def _mixture(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the images that these are mixed with, and the share of each image itself."""
        return mix_partners(ids, len(self.labels), self.augmentation.mixup, self.seed, self.epoch)


@dataclass
class DiskLoader(MemoryLoader):
    """A `MemoryLoader` whose images stay in their files: memory does not grow with their number.

    num_workers: processes that read and decode ahead; 0 for none.
    """

    images: OnDisk
    num_workers: int = 0

    def identity(self) -> tuple[Tensor, ...]:
        return torch.from_numpy(self.images.identity()), self.labels, self.sample_ids

    def _read(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        options = dict(num_workers=self.num_workers, collate_fn=_as_it_is)
        options |= dict(generator=torch.Generator())  # instead of torch's own, which dropout uses
        for images in DataLoader(self.images, batch_sampler=[part.cpu().numpy() for part in parts], **options):
            if isinstance(images, ValueError):
                raise images
            yield channels_first(images).to(self.labels.device)


def _as_it_is(batch):
    return batch
