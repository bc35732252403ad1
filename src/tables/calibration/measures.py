"""Calibration measures of probabilities against labels; each is a number, lower is better unless it says otherwise."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from src.tables.calibration.bins import assign_bins, bin_sums, check_confidence, check_probs, confidence_and_correct
from src.tables.calibration.smooth import smooth_ece

NORMS = ("l1", "l2", "max")


def expected_calibration_error(
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    *,
    n_bins: int = 15,
    norm: str = "l1",
    equal_mass: bool = False,
) -> float:
    """Gap between confidence and accuracy over bins, a fraction in [0, 1].

    norm: "l1", the mean gap weighted by the bins' counts (ECE); "l2", the root of the weighted mean square; "max", the
    largest gap (MCE).  equal_mass: bins of equal counts instead of equal width (adaptive ECE, Nguyen & O'Connor 2015).
    Raises ValueError for NaN, rows that do not sum to 1, labels out of range, an unknown norm.
    Source: Naeini et al. 2015; Guo et al. 2017, eq. 3 and 5; Kumar et al. 2019 for l2.
    """
    return binned_gap(*confidence_and_correct(probs, labels), n_bins=n_bins, norm=norm, equal_mass=equal_mass)


def binned_gap(confidence, correct, *, n_bins: int = 15, norm: str = "l1", equal_mass: bool = False) -> float:
    """`expected_calibration_error` from confidences [n] in [0, 1] and verdicts [n]."""
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; choose from {', '.join(NORMS)}")
    confidence, correct = check_confidence(confidence, correct)
    counts, sums, hits = bin_sums(confidence, correct, assign_bins(confidence, n_bins, equal_mass=equal_mass), n_bins)
    return float(gap_of_sums(counts, sums - hits, norm))


def gap_of_sums(counts: Float[np.ndarray, "... b"], excess: Float[np.ndarray, "... b"], norm: str) -> np.ndarray:
    """The gap over the last axis; excess: of each bin the sum of confidence minus correct."""
    n, filled = counts.sum(-1), np.maximum(counts, 1)
    if norm == "l1":
        return np.abs(excess).sum(-1) / n
    if norm == "l2":
        return np.sqrt((excess**2 / filled).sum(-1) / n)
    return (np.abs(excess) / filled).max(-1)


def debiased_ece(probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], *, n_bins: int = 15) -> float:
    """The l2 error without what chance adds to it: each bin's squared gap less the variance of its accuracy.

    Bins of equal mass. A sum below 0, as a calibrated model often has it, counts as 0; bins of one image say nothing
    and are left out.  Source: Kumar et al. 2019, section 5 (and Bröcker 2012).
    """
    confidence, correct = confidence_and_correct(probs, labels)
    bins = assign_bins(confidence, n_bins, equal_mass=True)
    counts, sums, hits = (values for values in bin_sums(confidence, correct, bins, n_bins))
    several = counts > 1
    n, accuracy, mean = counts[several], hits[several] / counts[several], sums[several] / counts[several]
    if not len(n):
        raise ValueError(f"no bin holds two images; take fewer than {n_bins} bins for {len(labels)} images")
    square = (n * ((mean - accuracy) ** 2 - accuracy * (1 - accuracy) / (n - 1))).sum() / n.sum()
    return float(np.sqrt(max(square, 0.0)))


def classwise_ece(
    probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], *, n_bins: int = 15, equal_mass: bool = False
) -> float:
    """Mean over the classes of the ECE of "it is this class", a fraction in [0, 1].

    Source: Kull et al. 2019; Nixon et al. 2019 (static calibration error; adaptive with `equal_mass`).
    """
    probs, labels = check_probs(probs, labels)
    gaps = [binned_gap(probs[:, k], labels == k, n_bins=n_bins, equal_mass=equal_mass) for k in range(probs.shape[1])]
    return float(np.mean(gaps))


def nll(probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean negative log-likelihood in nats; infinite where a label was given probability 0."""
    probs, labels = check_probs(probs, labels)
    own = probs[np.arange(len(labels)), labels].astype(np.float64)
    with np.errstate(divide="ignore"):
        return float(-np.log(own).mean())


def brier(probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean over images of the squared distance to the one-hot label, in [0, 2] (Brier 1950)."""
    probs, labels = check_probs(probs, labels)
    own = probs[np.arange(len(labels)), labels].astype(np.float64)
    squares = np.einsum("nk,nk->n", probs, probs, dtype=np.float64)
    return float((squares - 2 * own + 1).mean())


def brier_decomposition(
    probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], *, n_bins: int = 15
) -> dict[str, float]:
    """The squared error of the confidence as a forecast of "the prediction is right", and what it consists of.

    brier = reliability − resolution + uncertainty + within, exactly: reliability is the squared l2 ECE, resolution how
    far the bins' accuracies lie apart (more is better), uncertainty the variance of right and wrong, and within what
    the width of the bins hides.  Source: Murphy 1973; Stephenson et al. 2008 for the last term.
    """
    confidence, correct = confidence_and_correct(probs, labels)
    bins = assign_bins(confidence, n_bins, equal_mass=False)
    counts, sums, hits = bin_sums(confidence, correct, bins, n_bins)
    share, filled, rate = counts / counts.sum(), np.maximum(counts, 1), correct.mean()
    deviation = confidence - (sums / filled)[bins]
    within = (deviation**2).mean() - 2 * (deviation * (correct - (hits / filled)[bins])).mean()
    return {
        "brier": float(((confidence - correct) ** 2).mean()),
        "reliability": float((share * ((sums - hits) / filled) ** 2).sum()),
        "resolution": float((share * (hits / filled - rate) ** 2).sum()),
        "uncertainty": float(rate * (1 - rate)),
        "within": float(within),
    }


def sharpness(probs: Float[np.ndarray, "n k"]) -> float:
    """Mean entropy of the predictions in nats: lower is sharper, 0 for certainty (Gneiting et al. 2007)."""
    probs, _ = check_probs(probs, np.zeros(len(probs), dtype=int))
    probs = probs.astype(np.float64)
    return float(-(probs * np.log(np.where(probs > 0, probs, 1))).sum(1).mean())


# name -> (probs, labels) -> number
MEASURES: dict[str, Callable[..., float]] = {
    "ECE": expected_calibration_error,
    "ECE, l2": partial(expected_calibration_error, norm="l2"),
    "ECE, debiased l2": debiased_ece,
    "MCE": partial(expected_calibration_error, norm="max"),
    "adaptive ECE": partial(expected_calibration_error, equal_mass=True),
    "classwise ECE": classwise_ece,
    "smooth ECE": smooth_ece,
    "NLL": nll,
    "Brier": brier,
}
