"""Texture against shape: manipulations, cue conflicts and style transfer on pixels in [0, 1], for any model.

table = predict_manipulated({"cnn": cnn, "vit": vit}, loader)   # one row per model, image and condition
pairs = choose_pairs(labels, sample_ids, 450, seed=0)
conflicts = predict_conflicts(zoo, image_set, pairs)    # tables.texture_shape counts from both
"""

from src.texture_shape import calibration_images, corruptions
from src.texture_shape.examples import example_pictures
from src.texture_shape.frequency import cue_conflict
from src.texture_shape.invariance import transform
from src.texture_shape.manipulations import MANIPULATIONS, manipulate
from src.texture_shape.painters import load_painters
from src.texture_shape.pairs import choose_pairs
from src.texture_shape.precomputed import slow_images, stylised
from src.texture_shape.predictions import (
    left_out,
    predict_conflicts,
    predict_images,
    predict_manipulated,
)
from src.texture_shape.style_transfer import transfer_style

__all__ = [
    "MANIPULATIONS",
    "calibration_images",
    "choose_pairs",
    "corruptions",
    "cue_conflict",
    "example_pictures",
    "left_out",
    "load_painters",
    "manipulate",
    "predict_conflicts",
    "predict_images",
    "predict_manipulated",
    "slow_images",
    "stylised",
    "transfer_style",
    "transform",
]


def __dir__() -> list[str]:
    return __all__
