"""Texture against shape: manipulations, cue conflicts and style transfer on pixels in [0, 1], for any model.

manipulate("patch_shuffle", pixels, sample_ids, seed=0, level=4)     # or MANIPULATIONS[name](pixels, ids, seed, level)
table = predict_manipulated({("cnn", 0): cnn, ("vit", 0): vit}, loader)   # one row per model, image and condition
retained_accuracy(table), separation(table)
pairs = choose_pairs(labels, sample_ids, 450, seed=0, usable=right_for_all)
conflicts = predict_conflicts(zoo, image_set, pairs)
shape_bias(conflicts, by=["model", "condition", "level"])
"""

from src.texture_shape import calibration_images, corruptions, textures
from src.texture_shape.calibration_images import calibrate
from src.texture_shape.corruptions import CORRUPTIONS, corrupt
from src.texture_shape.cue_conflict import CONFLICTS, cue_conflict
from src.texture_shape.frequency import frequency_hybrid, phase_amplitude
from src.texture_shape.manipulations import MANIPULATIONS, manipulate
from src.texture_shape.pairs import choose_pairs
from src.texture_shape.precomputed import stylised, texture_only
from src.texture_shape.predictions import (
    predict_all,
    predict_conflicts,
    predict_corrupted,
    predict_manipulated,
    predict_pairs,
)
from src.texture_shape.style_transfer import transfer_style
from src.texture_shape.textures import synthesise_texture

__all__ = [
    "CONFLICTS",
    "CORRUPTIONS",
    "MANIPULATIONS",
    "calibrate",
    "calibration_images",
    "choose_pairs",
    "corrupt",
    "corruptions",
    "cue_conflict",
    "frequency_hybrid",
    "manipulate",
    "phase_amplitude",
    "predict_all",
    "predict_conflicts",
    "predict_corrupted",
    "predict_manipulated",
    "predict_pairs",
    "stylised",
    "synthesise_texture",
    "texture_only",
    "textures",
    "transfer_style",
]
