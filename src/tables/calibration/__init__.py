"""Whether confidences can be trusted: measures, their uncertainty, and ways to mend them; no torch.

Probabilities are arrays [n, k] whose rows sum to 1, labels are class indices; all sums are taken in float64. The
confidence of an image is the probability of its predicted class. A tensor on the CPU will do for an array.
"""

from src.tables.calibration.bins import confidence_and_correct, reliability_bins, softmax
from src.tables.calibration.measures import (
    MEASURES,
    brier,
    brier_decomposition,
    classwise_ece,
    debiased_ece,
    expected_calibration_error,
    nll,
    sharpness,
)
from src.tables.calibration.resampling import bootstrap, consistency_band, null_band, verdict
from src.tables.calibration.scaling import SCALINGS, fit_isotonic, fit_temperature, fit_vector
from src.tables.calibration.selective import aurc, excess_aurc, risk_coverage
from src.tables.calibration.smooth import smooth_ece

__all__ = [
    "MEASURES",
    "SCALINGS",
    "aurc",
    "bootstrap",
    "brier",
    "brier_decomposition",
    "classwise_ece",
    "confidence_and_correct",
    "consistency_band",
    "debiased_ece",
    "excess_aurc",
    "expected_calibration_error",
    "fit_isotonic",
    "fit_temperature",
    "fit_vector",
    "nll",
    "null_band",
    "reliability_bins",
    "risk_coverage",
    "sharpness",
    "smooth_ece",
    "softmax",
    "verdict",
]
