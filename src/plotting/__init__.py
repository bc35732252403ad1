"""Every figure of the study, from tables alone: one function a figure, `(table, ax) -> ax`, no torch."""

from src.plotting.calibration import (
    calibration_errors,
    confidence_histogram,
    confidence_under_shift,
    error_by_bins,
    reliability_diagram,
    risk_coverage,
)
from src.plotting.finetuning import MODE_STYLE, accuracy_points, confusion_matrix, learning_curves
from src.plotting.robustness import (
    attack_pictures,
    breaking_radii,
    robust_accuracy,
    transfer_heatmap,
)
from src.plotting.style import (
    COLUMN_WIDTH,
    FORMATS,
    MODEL_STYLE,
    PAGE_WIDTH,
    images,
    model_style,
    save_figure,
    use_style,
)
from src.plotting.texture_shape import (
    accuracy_bars,
    bias_curves,
    corruption_heatmap,
    cue_shares,
    manipulation_sheet,
    retained_curves,
    shape_bias_points,
)

__all__ = [
    "COLUMN_WIDTH",
    "FORMATS",
    "MODEL_STYLE",
    "MODE_STYLE",
    "PAGE_WIDTH",
    "accuracy_bars",
    "accuracy_points",
    "attack_pictures",
    "bias_curves",
    "breaking_radii",
    "calibration_errors",
    "confidence_histogram",
    "confidence_under_shift",
    "confusion_matrix",
    "corruption_heatmap",
    "cue_shares",
    "error_by_bins",
    "images",
    "learning_curves",
    "manipulation_sheet",
    "model_style",
    "reliability_diagram",
    "retained_curves",
    "risk_coverage",
    "robust_accuracy",
    "save_figure",
    "shape_bias_points",
    "transfer_heatmap",
    "use_style",
]
