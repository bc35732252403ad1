"""Images as users have them, in a loader, tensors or arrays, as batches to measure; and bars that count them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler
from tqdm.auto import tqdm

from src.data.batches import Batch, MemoryLoader
from src.data.image_set import ImageSet
from src.data.loaders import make_loader
from src.models.checks import check_images

AT_ONCE = 128  # images in a batch of those that come in one piece
RANDOM = RandomSampler | SubsetRandomSampler | WeightedRandomSampler


@dataclass(frozen=True)
class Batches:
    """Batches of others' making, turned into `Batch` as they come; n_images: None where it is not known."""

    source: Iterable
    device: torch.device | str = "cpu"
    n_images: int | None = None
    n_classes: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        of_batches = getattr(getattr(self.source, "batch_sampler", None), "sampler", None)
        sampler = of_batches or getattr(self.source, "sampler", None)
        n, shuffles = 0, isinstance(sampler, RANDOM) or getattr(sampler, "shuffle", False)  # or a DistributedSampler
        for given in self.source:
            if shuffles and len(given) == 2:
                raise ValueError("this DataLoader shuffles: take shuffle=False, or give sample_ids after the labels")
            batch = _as_batch(given, n, self.device)
            n += len(batch.labels)
            yield batch
        if not n:
            raise ValueError("there are no images; the batches given are empty, or a generator that is used up")


def as_batches(
    images: Iterable | tuple, *, again: bool = False, batch_size: int = AT_ONCE, device: torch.device | str = "cpu"
) -> MemoryLoader | Batches:
    """Images with labels as an iterable of `Batch`.

    images: a loader of ours, which stays as it is; an `ImageSet`; any iterable of (pixels, labels), such as a torch
    DataLoader or a list; or a pair (pixels, labels) of tensors or arrays.  A third, sample_ids, may follow the labels;
    otherwise they are 0, 1, … in the order given.  pixels are floats [n, c, h, w] in [0, 1].
    again: whether the batches are gone through more than once; a generator is then kept in memory.
    batch_size: of an `ImageSet` or a pair.  device: of the batches, but not of a loader of ours.
    Raises ValueError, at once or when the batch comes, for images of other kinds, and for a DataLoader that shuffles,
    whose images would have other sample ids in each pass.

    >>> batches = as_batches((np.zeros((5, 3, 8, 8), np.float32), [0, 1, 2, 0, 1]), batch_size=3)
    >>> [batch.sample_ids.tolist() for batch in batches]
    [[0, 1, 2], [3, 4]]
    """
    if isinstance(images, MemoryLoader | Batches):
        return images
    if isinstance(images, ImageSet):
        return make_loader(images, batch_size=batch_size, device=device)
    if isinstance(images, tuple | list) and len(images) in (2, 3) and isinstance(images[0], Tensor | np.ndarray):
        whole = _as_batch(images, 0, device)
        images = [Batch(*part) for part in zip(*(values.split(batch_size) for values in whole), strict=True)]
    if not isinstance(images, Iterable):
        raise ValueError(
            f"expected a loader, batches of (pixels, labels), or such a pair of tensors, not {type(images).__name__}"
        )
    if isinstance(images, Iterator) and again:
        images = list(Batches(images, device))
    return Batches(images, device, n_images=_length(images))


def count_images(batches: MemoryLoader | Batches) -> int | None:
    """How many images the batches hold; None where that is not known before they have come."""
    return len(batches.labels) if isinstance(batches, MemoryLoader) else batches.n_images


def _as_batch(given: object, n_before: int, device: torch.device | str) -> Batch:
    if isinstance(given, Batch):
        return given
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise ValueError(f"a batch is (pixels, labels) or (pixels, labels, sample_ids), not {type(given).__name__}")
    pixels, labels, *ids = map(torch.as_tensor, given)
    (ids,) = ids or [torch.arange(n_before, n_before + len(pixels))]
    if pixels.ndim == 4 and pixels.shape[3] in (1, 3) and pixels.shape[1] not in (1, 3):
        raise ValueError(f"pixels are [n, c, h, w], not {tuple(pixels.shape)}; take pixels.permute(0, 3, 1, 2)")
    check_images(pixels, labels)
    check_images(pixels, ids, what="sample_ids")
    return Batch(pixels.float().to(device), labels.long().to(device), ids.long().to(device))


def _length(source: Iterable) -> int | None:
    """How many images the batches of a list hold, or those of a DataLoader; None for others."""
    if isinstance(source, list | tuple):
        return sum(len(given[1]) for given in source if isinstance(given, tuple | list) and len(given) > 1)
    if isinstance(source, DataLoader) and source.batch_size and hasattr(source.sampler, "__len__"):
        return len(source) * source.batch_size if source.drop_last else len(source.sampler)
    return None


@contextmanager
def bar(
    desc: str,
    images: int | MemoryLoader | Batches | None,
    progress: bool | tqdm,
    *,
    times: int = 1,
    unit: str = "image",
) -> Iterator[tqdm]:
    """A progress bar for the block, unseen where `progress` is False; or `progress` itself, the bar of a caller.

    images: batches or a number, gone through so many `times`, which is the bar's total.
    """
    if isinstance(progress, tqdm):
        yield progress
        return
    n = count_images(images) if isinstance(images, MemoryLoader | Batches) else images
    total = None if n is None else n * times
    with tqdm(desc=desc, total=total, disable=not progress, leave=False, unit=unit) as own:
        yield own
