"""Backend `ffcv` of `make_loader`: FFCV reads the images, and all else is as from memory, so that batches are too.

FFCV's own crops ignore its seed, hence ours. The first batch compiles FFCV's pipeline, for seconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.data.batches import MemoryLoader
from src.data.beton import read_beton, write_beton
from src.data.image_set import ImageSet
from src.data.on_disk import OnDisk
from src.data.pixels import channels_first
from src.files import fingerprint
from src.paths import DATA

THREADS = torch.get_num_threads()  # FFCV sets torch's threads on import and on each pass; we put them back

try:
    from ffcv.fields.decoders import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor, ToTorchImage
except ImportError as error:
    raise ImportError(
        f'backend="ffcv" needs FFCV ({error}); run `make ffcv` (see requirements-ffcv.txt), or use backend="memory"'
    ) from error
finally:
    torch.set_num_threads(THREADS)


@dataclass
class FfcvLoader(MemoryLoader):
    """A `MemoryLoader` whose images come from a `.beton` file through FFCV.

    Raises ValueError for mixup, which needs images out of turn, and for several processes.
    """

    images: Path

    def __post_init__(self):
        if self._mixes:
            raise ValueError('mixup needs images out of turn; use backend="memory", or mixup=0')

    def share_with(self, rank: int, world_size: int) -> None:
        if world_size > 1:
            raise ValueError('processes cannot share batches that FFCV reads; use backend="memory"')

    def identity(self) -> tuple[Tensor, ...]:
        """As from memory, so that a training begun with one backend goes on with the other."""
        return channels_first(read_beton(self.images)[0]), self.labels, self.sample_ids

    @cached_property
    def _reader(self) -> Loader:
        pipelines = {"image": [SimpleRGBImageDecoder(), ToTensor(), ToTorchImage()], "label": None}
        options = dict(batch_size=self.batch_size, num_workers=1, os_cache=True, drop_last=False)
        return Loader(str(self.images), order=OrderOption.SEQUENTIAL, pipelines=pipelines, **options)

    def _read(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        threads = torch.get_num_threads()
        self._reader.traversal_order.indices = torch.cat(parts).cpu().numpy().astype(np.uint64)
        for _, (images,) in zip(parts, self._reader, strict=False):  # not asked for more than its last batch
            torch.set_num_threads(threads)
            yield images.to(self.labels.device).contiguous()  # a buffer that FFCV fills again: `_batch` copies it


def cached_beton(image_set: ImageSet) -> Path:
    """The image set as a raw `.beton` file under data/.cache/, written on first use, from memory.

    Its name is a checksum of the images, or of their files' names, sizes and times of change. Raises ValueError for a
    file that has changed since it was written.
    """
    images, labels = image_set.images, image_set.labels
    content = images.identity() if isinstance(images, OnDisk) else images
    path = DATA / ".cache" / f"{fingerprint(torch.from_numpy(content), torch.from_numpy(labels))}.beton"
    if path.exists():
        read_beton(path, in_memory=0)  # structure and checksum, no pixels
    else:
        write_beton(path, images, labels, classes=image_set.classes)
    return path
