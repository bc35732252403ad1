"""Counts from tables of texture and shape: retained accuracy, separation, shape bias, crossovers; no torch.

A table of manipulated images has columns model, condition (the manipulation), level, sample_id, label, prediction; the
rows of condition "clean" are the same images as they are.  A table of cue conflicts has one row per model and pair:
pair, shape_label, texture_label, prediction; clean_right, whether the model is right on both images as they are; and of
stylised images painter and nearest.  Intervals hold 95 % unless `level` says otherwise, and come from `n_resamples`
bootstrap samples of the images or pairs; the same seed gives the same interval.
"""

from src.tables.texture_shape.conflicts import (
    ABOVE,
    BELOW,
    RULES,
    compare_shape_bias,
    crossover,
    cue_shares,
    cues,
    sensitivity,
    shape_bias,
    validated,
)
from src.tables.texture_shape.consistency import consistency_gaps, error_consistency
from src.tables.texture_shape.corrupted import corruption_errors
from src.tables.texture_shape.invariance import predictions_kept, with_before
from src.tables.texture_shape.levels import CORRUPTIONS, CUTOFFS, LEVELS, STANDING, TRANSFORMATIONS, UNITS
from src.tables.texture_shape.painters import PIXELS, by_outsiders, painter_matrix, stored_conflicts, stored_cutouts
from src.tables.texture_shape.pairing import counted, with_clean
from src.tables.texture_shape.retained import accuracy_beside_clean, retained_accuracy, separation, sign_flip_test

__all__ = [
    "ABOVE",
    "BELOW",
    "CORRUPTIONS",
    "CUTOFFS",
    "LEVELS",
    "PIXELS",
    "RULES",
    "STANDING",
    "TRANSFORMATIONS",
    "UNITS",
    "accuracy_beside_clean",
    "by_outsiders",
    "compare_shape_bias",
    "consistency_gaps",
    "corruption_errors",
    "counted",
    "crossover",
    "cue_shares",
    "cues",
    "error_consistency",
    "painter_matrix",
    "predictions_kept",
    "retained_accuracy",
    "sensitivity",
    "separation",
    "shape_bias",
    "sign_flip_test",
    "stored_conflicts",
    "stored_cutouts",
    "validated",
    "with_before",
    "with_clean",
]


def __dir__() -> list[str]:
    return __all__
