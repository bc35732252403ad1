"""Every figure of the study, from tables alone: one function a figure, `(table, ax) -> ax`, no torch."""

from src.plotting.calibration import (
    calibration_errors,
    confidence_histogram,
    confidence_under_shift,
    error_by_bins,
    reliability_diagram,
    risk_coverage,
)
from src.plotting.costs import (
    accuracy_against_cost,
    block_times,
    latency_spread,
    throughput_against_batch,
    variant_ratios,
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

__all__ = [
    "variant_ratios",
    "throughput_against_batch",
    "latency_spread",
    "block_times",
    "accuracy_against_cost",
    "risk_coverage",
    "reliability_diagram",
    "error_by_bins",
    "confidence_under_shift",
    "confidence_histogram",
    "calibration_errors",
    "COLUMN_WIDTH",
    "FORMATS",
    "MODEL_STYLE",
    "MODE_STYLE",
    "PAGE_WIDTH",
    "accuracy_points",
    "attack_pictures",
    "breaking_radii",
    "confusion_matrix",
    "images",
    "learning_curves",
    "model_style",
    "robust_accuracy",
    "save_figure",
    "transfer_heatmap",
    "use_style",
]
