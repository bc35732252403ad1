"""Calibration: measures of confidences, their uncertainty, and ways to mend them; no torch.

Probabilities are arrays [n, k] whose rows sum to 1, labels are class indices; all sums are taken in float64. The
confidence of an image is the probability of its predicted class. The headline is the debiased l2 error (Kumar et al.
2019) with the interval of `debiased_interval`. A tensor on the CPU will do for an array.
"""

from src.tables.calibration.bins import confidence_and_correct, softmax
from src.tables.calibration.interval import debiased_interval
from src.tables.calibration.measures import expected_calibration_error, measure_all
from src.tables.calibration.resampling import verdict
from src.tables.calibration.scaling import SCALINGS
from src.tables.calibration.summary import (
    compared,
    coverage,
    errors_by_bins,
    errors_over_seeds,
    measured,
    reliability,
    scaled,
    under_shift,
)

__all__ = [
    "SCALINGS",
    "compared",
    "confidence_and_correct",
    "coverage",
    "debiased_interval",
    "errors_by_bins",
    "errors_over_seeds",
    "expected_calibration_error",
    "measure_all",
    "measured",
    "reliability",
    "scaled",
    "softmax",
    "under_shift",
    "verdict",
]


def __dir__() -> list[str]:
    return __all__
