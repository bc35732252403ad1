"""Figures of texture and shape, from the tables of notebook 03; each draws one training seed.

Of the arguments that all share: models, their order, by default the table's; model_seed, by default the table's first.
"""

from src.plotting.texture_shape.accuracies import (
    accuracies,
    accuracies_by_class,
    accuracy_bars,
    corruptions,
    report_2023,
    retained_curves,
)
from src.plotting.texture_shape.conflicts import bias_curves, cue_conflicts, cue_shares, shape_bias_points
from src.plotting.texture_shape.consistency import consistency, consistency_points
from src.plotting.texture_shape.invariance import invariance, kept_curves
from src.plotting.texture_shape.painters import painter_matrix
from src.plotting.texture_shape.sheet import manipulation_sheet

__all__ = [
    "accuracies",
    "accuracies_by_class",
    "accuracy_bars",
    "bias_curves",
    "consistency",
    "consistency_points",
    "corruptions",
    "cue_conflicts",
    "cue_shares",
    "invariance",
    "kept_curves",
    "manipulation_sheet",
    "painter_matrix",
    "report_2023",
    "retained_curves",
    "shape_bias_points",
]


def __dir__() -> list[str]:
    return __all__
