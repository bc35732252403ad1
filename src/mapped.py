"""Images that stay in their file and are read when they are asked for: for sets that do not fit in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8


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
