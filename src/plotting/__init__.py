"""Every figure of the study, from tables alone, a module for each experiment; no torch.

plotting.attacks.robust_accuracy(curves, ax)    # by the experiment's word: finetuning, attacks, texture_shape, cka, …
"""

from src.plotting import (
    attacks,
    calibration,
    cka,
    claims,
    compare,
    efficiency,
    feature_vis,
    finetuning,
    profile,
    style,
    texture_shape,
)
from src.plotting.style import PAGE_WIDTH, images, model_style, save_figure, use_style

__all__ = [
    "PAGE_WIDTH",
    "attacks",
    "calibration",
    "cka",
    "claims",
    "compare",
    "efficiency",
    "feature_vis",
    "finetuning",
    "images",
    "model_style",
    "profile",
    "save_figure",
    "style",
    "texture_shape",
    "use_style",
]


def __dir__() -> list[str]:
    return __all__
