"""The `ffcv` backend of `make_loader`: images are read by FFCV, everything after that is the `memory` backend's.

FFCV's own crops ignore its seed, so it only reads and decodes here; order and augmentation are ours, and a batch is the
same as from memory. The first batch compiles its pipeline, for seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.data.augment import augment_pixels
from src.data.beton import write_beton
from src.data.image_set import ImageSet
from src.data.loaders import Batch, MemoryLoader
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
    """A `MemoryLoader` whose `images` come from a `.beton` file, batch by batch, through FFCV.

    beton: written to data/.cache/ from the image set when it is not there yet.  Raises ValueError for mixup, which
    needs any image at any time.
    """

    images: Tensor = field(init=False, repr=False, default=None)
    beton: Path = None

    def __post_init__(self):
        if self.augmentation and self.augmentation.mixup:
            raise ValueError('mixup needs images out of turn; use backend="memory", or mixup=0')

    @cached_property
    def _reader(self) -> Loader:
        return Loader(
            str(self.beton),
            batch_size=self.batch_size,
            num_workers=1,
            os_cache=True,
            order=OrderOption.SEQUENTIAL,
            drop_last=False,
            pipelines={"image": [SimpleRGBImageDecoder(), ToTensor(), ToTorchImage()], "label": None},
        )

    def batches(self, *, skip: int = 0) -> Iterator[Batch]:
        threads = torch.get_num_threads()
        wanted = self.order()[skip * self.batch_size :]
        self._reader.traversal_order.indices = wanted.cpu().numpy().astype(np.uint64)
        reader = iter(self._reader)
        for part in wanted.split(self.batch_size):
            (images,) = next(reader)
            torch.set_num_threads(threads)
            ids = self.sample_ids[part]
            # FFCV hands out its own buffers again and again: the division makes a tensor of our own
            pixels = images.to(ids.device).float() / 255
            if self.augmentation:
                pixels = augment_pixels(pixels, ids, self.augmentation, seed=self.seed, epoch=self.epoch)
            yield Batch(pixels.contiguous(), self.labels[part], ids)


def cached_beton(image_set: ImageSet) -> Path:
    """The image set as a `.beton` file under data/.cache/, written on first use."""
    name = fingerprint(torch.from_numpy(np.asarray(image_set.images)), torch.from_numpy(image_set.labels))
    path = DATA / ".cache" / f"{name}.beton"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_beton(path, image_set.images, image_set.labels, classes=image_set.classes)
    return path
