"""Feature visualisation: pictures that make a class or a unit respond, images rebuilt from a layer, their measures."""

from src.feature_vis.invert import invert_features
from src.feature_vis.layers import respond, stages
from src.feature_vis.maximise import maximise_activation
from src.feature_vis.parameterisations import image_statistics
from src.feature_vis.record import record_classes, record_inversions

__all__ = [
    "image_statistics",
    "invert_features",
    "maximise_activation",
    "record_classes",
    "record_inversions",
    "respond",
    "stages",
]


def __dir__() -> list[str]:
    return __all__
