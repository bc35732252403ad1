"""Images by name, from files, folders and the hub; `src.data.loaders` gives the batches they come in."""

from src.data.image_set import ImageSet
from src.data.load import load_images
from src.data.records import DATASETS

__all__ = ["DATASETS", "ImageSet", "load_images"]


def __dir__() -> list[str]:
    return __all__
