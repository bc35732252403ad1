"""Numbers with intervals from stored tables, a module for each experiment; no torch.

tables.attacks.cumulative(curve)    # by the experiment's word: attacks, texture_shape, cka, feature_vis, …
"""

from src.tables import (
    attacks,
    calibration,
    cka,
    compare,
    efficiency,
    feature_vis,
    finetuning,
    profile,
    statistics,
    texture_shape,
)

__all__ = [
    "attacks",
    "calibration",
    "cka",
    "compare",
    "efficiency",
    "feature_vis",
    "finetuning",
    "profile",
    "statistics",
    "texture_shape",
]


def __dir__() -> list[str]:
    return __all__
