"""Bins of confidences, and the checks that probabilities and confidences pass before anything is measured."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import special

from src.tables.statistics import wilson_interval

SUM_TOLERANCE = 1e-3  # what half precision leaves of a sum of 1

Probs, Labels = Float[np.ndarray, "n k"], Int[np.ndarray, " n"]
Confidence, Correct = Float[np.ndarray, " n"], Bool[np.ndarray, " n"]


def softmax(logits: Float[np.ndarray, "n k"]) -> Probs:
    """Probabilities of logits, in float64. Raises ValueError for logits that are not finite.

    >>> softmax([[0.0, np.log(3)]]).round(2).tolist()
    [[0.25, 0.75]]
    """
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite")
    return special.softmax(logits, axis=1)


def check_probs(probs: Probs, labels: Labels) -> tuple[Probs, Labels]:
    """Both as arrays. Raises ValueError for NaN, values below 0, rows that do not sum to 1, labels out of range."""
    probs, labels = np.asarray(probs), np.asarray(labels)
    if probs.ndim != 2 or labels.shape != probs.shape[:1] or not probs.size:
        raise ValueError(f"expected probs [n, k] and labels [n] with n, k > 0, not {probs.shape} and {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be class indices, not {labels.dtype}")
    if labels.min() < 0 or labels.max() >= probs.shape[1]:
        raise ValueError(f"labels must lie in [0, {probs.shape[1]}), not [{labels.min()}, {labels.max()}]")
    # not as a matrix product: BLAS would wake its threads for it
    sums = np.einsum("nk->n", probs, dtype=np.promote_types(probs.dtype, np.float32))
    wrong = ~(np.abs(sums - 1) <= SUM_TOLERANCE)  # NaN is wrong too
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"rows of probs must sum to 1; row {row} sums to {sums[row]:.6g}. Are these logits?")
    if probs.min() < 0:
        raise ValueError(f"probabilities must not be negative, as {probs.min():.3g} is")
    return probs, labels


def confidence_and_correct(probs: Probs, labels: Labels) -> tuple[Confidence, Correct]:
    """The probability of each predicted class, in [0, 1], and whether it is the label; of a tie the first class.

    >>> confidence, correct = confidence_and_correct([[0.8, 0.2], [0.4, 0.6]], [0, 0])
    >>> confidence.tolist(), correct.tolist()
    ([0.8, 0.6], [True, False])
    """
    probs, labels = check_probs(probs, labels)
    prediction = probs.argmax(1)
    confidence = probs.ravel()[np.arange(len(probs)) * probs.shape[1] + prediction].astype(np.float64)
    return np.minimum(confidence, 1), prediction == labels


def check_confidence(confidence: Confidence, correct: Correct) -> tuple[Confidence, Correct]:
    """Both as arrays, float64 and bool. Raises ValueError for NaN, values out of [0, 1] and unequal lengths."""
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if confidence.ndim != 1 or confidence.shape != correct.shape or not len(confidence):
        raise ValueError(
            f"expected as many confidences as verdicts, at least one, not {confidence.shape} and {correct.shape}"
        )
    low, high = confidence.min(), confidence.max()
    if not (low >= 0 and high <= 1 + 1e-6):  # a float32 softmax may sum to a little more than 1
        raise ValueError(f"confidences must lie in [0, 1], not [{low:.6g}, {high:.6g}]")
    return np.minimum(confidence, 1), correct.astype(bool)


def assign_bins(confidence: Confidence, n_bins: int, equal_mass: bool = False) -> Int[np.ndarray, " n"]:
    """The bin of each confidence: right-closed of equal width on (0, 1], 0 in the first; or of equal counts.

    Equal counts differ by at most one, but that equal confidences stay together: the order of images changes nothing.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, not {n_bins}")
    if not equal_mass:
        return np.maximum(np.ceil(confidence * n_bins).astype(np.intp) - 1, 0)
    return np.searchsorted(np.sort(confidence), confidence) * n_bins // len(confidence)


def bin_sums(bins: Int[np.ndarray, " n"], n_bins: int, *values: np.ndarray) -> list[Float[np.ndarray, " b"]]:
    """Of each bin the count, and the sum of each of the `values` [n]."""
    return [np.bincount(bins, each, n_bins).astype(np.float64) for each in (None, *values)]


def reliability_bins(
    confidence: Confidence, correct: Correct, *, n_bins: int = 15, equal_mass: bool = False
) -> pd.DataFrame:
    """A reliability diagram as a table, one row per bin that holds an image.

    Columns: bin, left, right (borders; of equal mass: smallest and largest confidence inside), n, confidence (mean),
    accuracy, low, high (Wilson interval of the accuracy).  Source: DeGroot & Fienberg 1983; Guo et al. 2017.

    >>> bins = reliability_bins([0.6, 0.7, 0.9, 1.0], [True, False, True, True], n_bins=4)
    >>> bins[["left", "n", "confidence", "accuracy"]].round(2).to_numpy().tolist()
    [[0.5, 2.0, 0.65, 0.5], [0.75, 2.0, 0.95, 1.0]]
    """
    confidence, correct = check_confidence(confidence, correct)
    bins = assign_bins(confidence, n_bins, equal_mass)
    counts, sums, hits = bin_sums(bins, n_bins, confidence, correct)
    filled = np.flatnonzero(counts)
    left, right = filled / n_bins, (filled + 1) / n_bins
    if equal_mass:
        left, right = pd.Series(confidence).groupby(bins).agg(["min", "max"]).to_numpy().T
    n, hits = counts[filled].astype(int), hits[filled].astype(int)
    low, high = wilson_interval(hits, n)
    values = dict(n=n, confidence=sums[filled] / n, accuracy=hits / n, low=low, high=high)
    return pd.DataFrame(dict(bin=filled, left=left, right=right) | values)
