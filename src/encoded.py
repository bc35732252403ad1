"""Images that stay encoded in their files, of any sizes: decoded when they are asked for, and cut to one size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader

from src.decoding import decode_one


class Samples(Protocol):
    """Encoded images, in files that each process opens for itself."""

    def decode(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        """One image; ValueError names the one that cannot be decoded."""

    def identity(self) -> list[int]:
        """Numbers that change with the files."""


@dataclass(frozen=True, eq=False, repr=False)
class PictureFiles:
    """Pictures in files of their own: PNG, JPEG, WebP, …, grey or RGB."""

    files: Sequence[Path]

    def decode(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        try:
            return decode_one(self.files[i].read_bytes())
        except Exception as error:  # Pillow's formats raise half a dozen kinds
            raise ValueError(f"{self.files[i]} cannot be decoded: {error}") from None

    def identity(self) -> list[int]:
        return [number for file in self.files for number in (file.stat().st_size, file.stat().st_mtime_ns)]


@dataclass(frozen=True, eq=False, repr=False)
class EncodedImages:
    """The middle square of each image at `side` pixels, with what `ImageSet` needs of an array.

    Rows chosen by a slice or an array are such images again and read nothing yet; one row, and np.asarray of any, are
    arrays [side, side, 3] and [n, side, side, 3].  rows: positions in `samples`.  Resized with Pillow, bilinear, every
    pixel covering what it stands for.
    """

    samples: Samples
    rows: Int[np.ndarray, " n"]
    side: int

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.rows), self.side, self.side, 3)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows):
        if isinstance(rows, int | np.integer):
            pixels = self.samples.decode(int(self.rows[rows]))
            square = ImageOps.fit(Image.fromarray(pixels), (self.side, self.side), Image.Resampling.BILINEAR)
            return np.asarray(square)
        return EncodedImages(self.samples, self.rows[rows], self.side)

    def __array__(self, dtype=None, copy=None) -> UInt8[np.ndarray, "n side side 3"]:
        if copy is False:
            raise ValueError("encoded images cannot be had without a copy")
        pixels = np.empty(self.shape, np.uint8)
        for i in range(len(self)):
            pixels[i] = self[i]
        return pixels if dtype is None else pixels.astype(dtype, copy=False)

    def __getitems__(self, rows: list[int]) -> UInt8[np.ndarray, "n side side 3"] | ValueError:
        """What a worker of `in_workers` makes of a batch; an error is handed over, not raised with a worker's trace."""
        try:
            return np.asarray(self[np.array(rows)])
        except ValueError as error:
            return error


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
