"""Networks by name, behind their preprocessing: pixels in [0, 1] to logits; their weights and predictions."""

from src.models.build import build_model
from src.models.pixel_model import PixelModel

__all__ = ["PixelModel", "build_model"]


def __dir__() -> list[str]:
    return __all__
