"""Calibration measures of probabilities against labels, and selective prediction; of all, lower is better."""

import numpy as np
import pandas as pd
from scipy import special
from scipy.fft import dct, idct

from src.tables.calibration.bins import (
    Confidence,
    Correct,
    Labels,
    Probs,
    assign_bins,
    bin_sums,
    check_confidence,
    check_probs,
    confidence_and_correct,
)

NORMS = ("l1", "l2", "max")
N_CELLS = 4096  # of the smooth error's grid on [0, 1]: far finer than any width that its kernel takes


def measure_all(probs: Probs, labels: Labels, *, n_bins: int = 15) -> dict[str, float]:
    """Every measure of this module by its name in tables; n_bins: of those that have bins.

    >>> round(measure_all([[0.9, 0.1]] * 10, [0] * 9 + [1], n_bins=5)["Brier"], 2)
    0.18
    """
    return {
        "ECE": expected_calibration_error(probs, labels, n_bins=n_bins),
        "ECE, l2": expected_calibration_error(probs, labels, n_bins=n_bins, norm="l2"),
        "ECE, debiased l2": debiased_ece(probs, labels, n_bins=n_bins),
        "MCE": expected_calibration_error(probs, labels, n_bins=n_bins, norm="max"),
        "adaptive ECE": expected_calibration_error(probs, labels, n_bins=n_bins, equal_mass=True),
        "classwise ECE": classwise_ece(probs, labels, n_bins=n_bins),
        "smooth ECE": smooth_ece(probs, labels),
        "NLL": nll(probs, labels),
        "Brier": brier(probs, labels),
        "AURC": aurc(*confidence_and_correct(probs, labels)),
        "entropy": sharpness(probs),
    }


def expected_calibration_error(probs: Probs, labels: Labels, **binning) -> float:
    """Gap between confidence and accuracy over bins, a fraction in [0, 1]; `binned_gap` of the predicted class.

    binning: n_bins, norm and equal_mass as of `binned_gap`.  Raises ValueError for NaN, rows that do not sum to 1,
    labels out of range, an unknown norm.  Source: Naeini et al. 2015; Guo et al. 2017, eq. 3.

    >>> round(expected_calibration_error([[0.95, 0.05], [1.0, 0.0]], [0, 1]), 3)
    0.475
    """
    return binned_gap(*confidence_and_correct(probs, labels), **binning)


def binned_gap(
    confidence: Confidence, correct: Correct, *, n_bins: int = 15, norm: str = "l1", equal_mass: bool = False
) -> float:
    """Gap between mean confidence and accuracy over bins, a fraction in [0, 1].

    norm: "l1", the mean gap weighted by the bins' counts (ECE); "l2", the root of the weighted mean square (Kumar et
    al. 2019); "max", the largest gap (MCE; Guo et al. 2017, eq. 5).  n_bins: of equal width on (0, 1]; with equal_mass
    of equal counts (adaptive ECE, Nguyen & O'Connor 2015).

    >>> round(binned_gap([0.9, 0.9, 0.3, 0.3], [True, True, True, False], n_bins=2), 3)
    0.15
    """
    confidence, correct = check_confidence(confidence, correct)
    counts, sums, hits = bin_sums(assign_bins(confidence, n_bins, equal_mass), n_bins, confidence, correct)
    return float(gap_of_sums(counts, sums - hits, norm))


def gap_of_sums(counts: np.ndarray, excess: np.ndarray, norm: str = "l1") -> np.ndarray:
    """The gap over the last axis, the bins; excess: of each the sum of confidence minus correct."""
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; choose from {', '.join(NORMS)}")
    n, filled = counts.sum(-1), np.maximum(counts, 1)
    if norm == "l1":
        return np.abs(excess).sum(-1) / n
    if norm == "l2":
        return np.sqrt((excess**2 / filled).sum(-1) / n)
    return (np.abs(excess) / filled).max(-1)


def debiased_ece(probs: Probs, labels: Labels, *, n_bins: int = 15) -> float:
    """The study's headline: `debiased_gap` of the predicted class.

    >>> debiased_ece([[0.7, 0.3]] * 10, [0] * 7 + [1] * 3, n_bins=1)
    0.0
    """
    return debiased_gap(*confidence_and_correct(probs, labels), n_bins=n_bins)


def debiased_gap(confidence: Confidence, correct: Correct, *, n_bins: int = 15) -> float:
    """The l2 error without what chance adds to it: each bin's squared gap less the variance of its accuracy.

    Root mean square, a fraction in [0, 1], over bins of equal mass.  A sum below 0, as a calibrated model often has it,
    counts as 0; bins of one image say nothing and are left out.  Of the square what chance adds is known whatever the
    gaps are; of the mean absolute gap (ECE) it hangs on which bins have one, so that it cannot be taken off.
    Source: Kumar et al. 2019, section 5 (and Bröcker 2012).

    >>> round(debiased_gap([0.9] * 10, [True] * 5 + [False] * 5, n_bins=1), 3)  # 0.4² - 0.5 · 0.5 / 9
    0.364
    """
    n, mean, accuracy = mass_bins(confidence, correct, n_bins)
    square = (n * ((mean - accuracy) ** 2 - accuracy * (1 - accuracy) / (n - 1))).sum() / n.sum()
    return float(np.sqrt(max(square, 0.0)))


def mass_bins(confidence: Confidence, correct: Correct, n_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean confidence and accuracy, [b] each, of the bins of equal mass that hold two images or more.

    >>> [values.tolist() for values in mass_bins([0.6, 0.8, 1.0, 1.0], [True, False, True, True], 2)]
    [[2.0, 2.0], [0.7, 1.0], [0.5, 1.0]]
    """
    confidence, correct = check_confidence(confidence, correct)
    sums = bin_sums(assign_bins(confidence, n_bins, equal_mass=True), n_bins, confidence, correct)
    n, mean, accuracy = (values[sums[0] > 1] for values in sums)
    if not len(n):
        raise ValueError(f"no bin holds two images; take fewer than {n_bins} bins for {len(correct)} images")
    return n, mean / n, accuracy / n


def classwise_ece(probs: Probs, labels: Labels, **binning) -> float:
    """Mean over the classes of the ECE of "it is this class", a fraction in [0, 1].

    binning: n_bins, norm and equal_mass as of `binned_gap`.
    Source: Kull et al. 2019; Nixon et al. 2019 (static calibration error; adaptive with `equal_mass`).

    >>> round(classwise_ece([[0.6, 0.4], [0.6, 0.4]], [0, 1]), 3)
    0.1
    """
    probs, labels = check_probs(probs, labels)
    return float(np.mean([binned_gap(probs[:, k], labels == k, **binning) for k in range(probs.shape[1])]))


def nll(probs: Probs, labels: Labels) -> float:
    """Mean negative log-likelihood in nats; infinite where a label was given probability 0.

    >>> round(nll([[0.5, 0.5], [1.0, 0.0]], [1, 0]), 3)
    0.347
    """
    probs, labels = check_probs(probs, labels)
    with np.errstate(divide="ignore"):
        return float(-np.log(_of_labels(probs, labels)).mean())


def brier(probs: Probs, labels: Labels) -> float:
    """Mean over images of the squared distance to the one-hot label, in [0, 2] (Brier 1950).

    >>> round(brier([[0.5, 0.5], [1.0, 0.0]], [1, 0]), 3)
    0.25
    """
    probs, labels = check_probs(probs, labels)
    squares = np.einsum("nk,nk->n", probs, probs, dtype=np.float64)
    return float((squares - 2 * _of_labels(probs, labels) + 1).mean())


def _of_labels(probs: Probs, labels: Labels) -> np.ndarray:
    return probs[np.arange(len(labels)), labels].astype(np.float64)


def sharpness(probs: Probs) -> float:
    """Mean entropy of the predictions in nats: lower is sharper, 0 for certainty (Gneiting et al. 2007).

    >>> round(sharpness([[0.5, 0.5], [1.0, 0.0]]), 3)
    0.347
    """
    probs, _ = check_probs(probs, np.zeros(len(probs), dtype=int))
    return float(special.entr(probs.astype(np.float64)).sum(1).mean())


def smooth_ece(probs: Probs, labels: Labels) -> float:
    """The smooth calibration error of the confidence, in [0, 1]: no bins, and continuous in the confidences.

    The residuals are smoothed by a Gaussian reflected at 0 and 1, and their absolute value is integrated; the kernel's
    width is the one that equals the result. Source: Błasiok & Nakkiran 2023, definitions 2 and 3.

    >>> round(smooth_ece([[0.9, 0.1]] * 10, [0] * 7 + [1] * 3), 3)
    0.2
    """
    return smooth_gap(*confidence_and_correct(probs, labels))


def smooth_gap(confidence: Confidence, correct: Correct) -> float:
    """`smooth_ece` from confidences [n] in [0, 1] and verdicts [n]."""
    from scipy.optimize import brentq  # half a second to import

    confidence, correct = check_confidence(confidence, correct)
    waves = dct(_residuals(confidence, correct), type=2)
    narrowest = 1e-6
    if (least := _integral(waves, narrowest)) <= narrowest:  # as good as perfect
        return least
    return float(brentq(lambda width: _integral(waves, width) - width, narrowest, 1.0, xtol=1e-9))


def _residuals(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """The sum of (correct − confidence) / n in each cell; an image counts in the two cells nearest to it."""
    place = confidence * N_CELLS - 0.5
    left = np.floor(place).astype(np.intp)
    share, weights = place - left, (correct - confidence) / len(confidence)
    # the outermost half cells mirror each other's neighbour, as the kernel does
    cells = np.bincount(np.clip(left, 0, None), weights * (1 - share), N_CELLS)
    return cells + np.bincount(np.clip(left + 1, None, N_CELLS - 1), weights * share, N_CELLS)


def _integral(waves: np.ndarray, width: float) -> float:
    """∫ |smoothed residual|: a reflected Gaussian damps each cosine of the grid by a factor of its own."""
    damping = np.exp(-((np.pi * width * np.arange(len(waves))) ** 2) / 2)
    return float(np.abs(idct(waves * damping, type=2)).sum())


def risk_coverage(confidence: Confidence, correct: Correct) -> pd.DataFrame:
    """One row per image, the surest first: coverage (share answered so far), risk (share of them wrong), threshold.

    Images of one confidence cannot be told apart: each counts as the mean of them. Source: El-Yaniv & Wiener 2010.

    >>> risk_coverage([0.9, 0.6, 0.8, 0.7], [True, False, True, True])["risk"].tolist()
    [0.0, 0.0, 0.0, 0.25]
    """
    confidence, correct = check_confidence(confidence, correct)
    order = np.argsort(-confidence, kind="stable")
    threshold = confidence[order]
    wrong = pd.Series(~correct[order]).astype(float).groupby(-threshold).transform("mean").to_numpy()
    answered = np.arange(1, len(order) + 1)
    return pd.DataFrame(dict(coverage=answered / len(order), risk=wrong.cumsum() / answered, threshold=threshold))


def aurc(confidence: Confidence, correct: Correct) -> float:
    """Area under the risk-coverage curve: the mean risk over all coverages (Geifman et al. 2019).

    >>> aurc([0.9, 0.6, 0.8, 0.7], [True, False, True, True])
    0.0625
    """
    return float(risk_coverage(confidence, correct)["risk"].mean())
