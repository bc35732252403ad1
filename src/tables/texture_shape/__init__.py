"""Counts from tables of texture and shape: retained accuracy, separation, shape bias, crossovers; no torch.

A table of manipulated images has columns model, condition (the manipulation), level, sample_id, label, prediction; the
rows of condition "clean" are the same images as they are.  A table of cue conflicts has one row per model and pair:
pair, shape_label, texture_label, prediction.  Intervals hold 95 % unless `level` says otherwise, and come from
`n_resamples` bootstrap samples of the images or pairs; the same seed gives the same interval.
"""

from src.tables.texture_shape.conflicts import (
    ABOVE,
    BELOW,
    RULES,
    compare_shape_bias,
    crossover,
    cue_shares,
    cues,
    shape_bias,
    validated,
)
from src.tables.texture_shape.consistency import consistency_gaps, error_consistency
from src.tables.texture_shape.corrupted import corruption_errors
from src.tables.texture_shape.invariance import predictions_kept
from src.tables.texture_shape.levels import CORRUPTIONS, CUTOFFS, LEVELS, STANDING, TRANSFORMATIONS, UNITS
from src.tables.texture_shape.retained import accuracy_beside_clean, retained_accuracy, separation, sign_flip_test

__all__ = [
    "ABOVE",
    "BELOW",
    "CORRUPTIONS",
    "CUTOFFS",
    "LEVELS",
    "RULES",
    "STANDING",
    "TRANSFORMATIONS",
    "UNITS",
    "accuracy_beside_clean",
    "compare_shape_bias",
    "consistency_gaps",
    "corruption_errors",
    "crossover",
    "cue_shares",
    "cues",
    "error_consistency",
    "predictions_kept",
    "retained_accuracy",
    "separation",
    "shape_bias",
    "sign_flip_test",
    "validated",
]


def __dir__() -> list[str]:
    return __all__
