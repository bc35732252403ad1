"""Images that stay in their files: raw ones of a set larger than memory, and encoded ones of any sizes.

Both are read when they are asked for; encoded ones are decoded and cut to one size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps

from src.data.decoding import decode_one


@dataclass(frozen=True, eq=False, repr=False)
class MappedImages:
    """Raw pixels [n, h, w, 3] of a file, with what `ImageSet` needs of an array: dtype, shape, rows, np.asarray.

    Rows chosen by a slice or an array are such images again and read nothing yet; one row, and np.asarray of any, are
    arrays.  pointers: where in the file each image's h · w · 3 bytes begin.
    """

    path: Path
    pointers: Int[np.ndarray, " n"]
    size: tuple[int, int]

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.pointers), *self.size, 3)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.pointers)

    def __getitem__(self, rows):
        if isinstance(rows, int | np.integer):
            return np.asarray(MappedImages(self.path, self.pointers[[rows]], self.size))[0]
        return MappedImages(self.path, self.pointers[rows], self.size)

    def __array__(self, dtype=None, copy=None) -> UInt8[np.ndarray, "n h w 3"]:
        if copy is False:
            raise ValueError("images in a file cannot be had without a copy")
        length = int(np.prod(self.size)) * 3
        # mapped anew each time: pages of a mapping that stays would count as this process's memory
        data = np.memmap(self.path, np.uint8, mode="r").view(np.ndarray)
        pixels = np.lib.stride_tricks.sliding_window_view(data, length)[self.pointers].reshape(self.shape)
        return pixels if dtype is None else pixels.astype(dtype, copy=False)


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
