"""Images that stay in their files: raw ones of a set larger than memory, and encoded ones of any sizes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64, UInt8
from PIL import Image, ImageOps

from src.data.decoding import decode_one


class OnDisk:
    """What `ImageSet` and numpy ask of an array, for images that are read when asked for.

    Rows chosen by a slice or an array are such images again, and nothing is read yet. One row, and np.asarray of any
    rows, are arrays uint8 [h, w, 3] and [n, h, w, 3].  places: where `read` finds each image.  size: (h, w).
    Without reading them, `identity` gives numbers that change with the images on this machine, `names` a text for each
    image that is the same on all: its file's name and size, or its place and size there.
    """

    places: Int[np.ndarray, " n"]
    size: tuple[int, int]

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.places), *self.size, 3)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows):
        if isinstance(rows, int | np.integer):
            return self[[rows]].read()[0]
        return replace(self, places=self.places[rows])

    def __array__(self, dtype=None, copy=None) -> UInt8[np.ndarray, "n h w 3"]:
        if copy is False:
            raise ValueError("images on disk do not become an array without a copy")
        return self.read() if dtype is None else self.read().astype(dtype, copy=False)

    def __getitems__(self, rows: Int64[np.ndarray, " m"]) -> UInt8[np.ndarray, "m h w 3"] | ValueError:
        """A batch for torch's DataLoader; errors are returned, as those raised in a worker come with its traceback."""
        try:
            return self[rows].read()
        except ValueError as error:
            return error


@dataclass(frozen=True, eq=False, repr=False)
class MappedImages(OnDisk):
    """Raw pixels in one file; `places` are the first bytes of the images, h · w · 3 each."""

    path: Path
    places: Int64[np.ndarray, " n"]
    size: tuple[int, int]

    def read(self) -> UInt8[np.ndarray, "n h w 3"]:
        # mapped anew each time: pages of a mapping that stays would count as this process's memory
        data = np.memmap(self.path, np.uint8, mode="r").view(np.ndarray)
        rows = np.lib.stride_tricks.sliding_window_view(data, int(np.prod(self.size)) * 3)  # one at every byte
        return rows[self.places].reshape(self.shape)

    def identity(self) -> Int64[np.ndarray, " m"]:
        return np.r_[_stamps([self.path]), self.places]

    def names(self) -> list[str]:
        file = f"{self.path.name} {self.path.stat().st_size}"
        return [f"{file} {place} {self.size}" for place in self.places.tolist()]


@dataclass(frozen=True, eq=False, repr=False)
class PictureFiles:
    """Pictures in files of their own, as `decode_one` gives them."""

    paths: Sequence[Path]

    def name(self, i: int) -> str:
        return f"{self.paths[i].parent.name}/{self.paths[i].name} {self.paths[i].stat().st_size}"

    def decode(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        try:
            return decode_one(self.paths[i].read_bytes())
        except Exception as error:  # Pillow's formats raise half a dozen kinds
            raise ValueError(f"{self.paths[i]} cannot be decoded: {error}") from None


@dataclass(frozen=True, eq=False, repr=False)
class EncodedImages(OnDisk):
    """The middle square of each image, resized to `size` with Pillow (bilinear, antialiased).

    samples: `PictureFiles` or `beton.BetonSamples`, which open their files in any process.  places: positions there.
    """

    samples: "PictureFiles | BetonSamples"
    places: Int64[np.ndarray, " n"]
    size: tuple[int, int]

    def read(self) -> UInt8[np.ndarray, "n h w 3"]:
        pixels = np.empty(self.shape, np.uint8)
        for row, place in zip(pixels, self.places.tolist(), strict=True):
            picture = Image.fromarray(self.samples.decode(place))
            row[:] = ImageOps.fit(picture, self.size, Image.Resampling.BILINEAR)
        return pixels

    def identity(self) -> Int64[np.ndarray, " m"]:
        return np.r_[_stamps(self.samples.paths), self.size[0], self.places]

    def names(self) -> list[str]:
        return [f"{self.samples.name(place)} {self.size}" for place in self.places.tolist()]


def _stamps(paths: Sequence[Path]) -> list[int]:
    """Size and time of last change of each file."""
    files = [path.stat() for path in paths]
    return [number for file in files for number in (file.st_size, file.st_mtime_ns)]
