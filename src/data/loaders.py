"""One way to make a loader, whatever holds the images."""

import os

import torch

from src.data.augment import Augmentation
from src.data.batches import DiskLoader, MemoryLoader
from src.data.image_set import ImageSet
from src.data.on_disk import EncodedImages, OnDisk
from src.data.pixels import channels_first

BACKENDS = ("memory", "ffcv")


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
) -> MemoryLoader:
    """Batches of `image_set` as `Batch(pixels, labels, sample_ids)` on `device`, the same from every backend.

    augment: True for random resized crop and flip with the default strengths, or an `Augmentation`.
    backend: "memory" holds the set as one uint8 tensor on `device`, or reads batch by batch what stays on disk; "ffcv"
    reads through FFCV, which must be installed, from a `.beton` file that is written on first use.
    num_workers: processes that read ahead from disk; None for one a core, at most 8, where images are to be decoded.
    Raises ValueError for an unknown backend or a batch size below 1, ImportError for "ffcv" where FFCV is missing.

    >>> from src.data import load_images
    >>> loader = make_loader(load_images("fashion_mnist", "test").subset(100, seed=0), batch_size=32, shuffle=True)
    >>> [tuple(batch.pixels.shape) for batch in loader]
    [(32, 3, 32, 32), (32, 3, 32, 32), (32, 3, 32, 32), (4, 3, 32, 32)]
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
        from src.data.loaders_ffcv import FfcvLoader, cached_beton  # an optional requirement

        return FfcvLoader(images=cached_beton(image_set), **options)
    if isinstance(image_set.images, OnDisk):
        if num_workers is None:
            num_workers = min(os.cpu_count() or 1, 8) if isinstance(image_set.images, EncodedImages) else 0
        return DiskLoader(images=image_set.images, num_workers=num_workers, **options)
    return MemoryLoader(images=channels_first(image_set.images).to(device), **options)
