"""Confidences sorted into bins, and what must be true of probabilities before anything is measured on them."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from src.tables.statistics import wilson_interval

SUM_TOLERANCE = 1e-3  # what half precision leaves of a sum of 1


def softmax(logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Probabilities of logits, in float64. Raises ValueError for logits that are not finite."""
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite")
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def check_probs(probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
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


def confidence_and_correct(
    probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The probability of each predicted class, in [0, 1], and whether it is the label; of a tie the first class."""
    probs, labels = check_probs(probs, labels)
    prediction = probs.argmax(1)
    confidence = probs.ravel()[np.arange(len(probs)) * probs.shape[1] + prediction].astype(np.float64)
    return np.minimum(confidence, 1), prediction == labels


def check_confidence(confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> tuple:
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


def assign_bins(confidence: Float[np.ndarray, " n"], n_bins: int, *, equal_mass: bool) -> Int[np.ndarray, " n"]:
    """The bin of each confidence: right-closed of equal width on (0, 1], 0 in the first; or of equal counts.

    Equal counts differ by at most one; equal confidences may then fall on both sides of a border.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, not {n_bins}")
    if not equal_mass:
        return np.maximum(np.ceil(confidence * n_bins).astype(np.intp) - 1, 0)
    bins = np.empty(len(confidence), dtype=np.intp)
    bins[np.argsort(confidence, kind="stable")] = np.arange(len(confidence)) * n_bins // len(confidence)
    return bins


def bin_sums(
    confidence: Float[np.ndarray, " n"], correct: Float[np.ndarray, " n"], bins: Int[np.ndarray, " n"], n_bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each bin the count, the sum of confidences and the sum of correct, float64 [n_bins]."""
    counts = np.bincount(bins, minlength=n_bins).astype(np.float64)
    return counts, np.bincount(bins, confidence, n_bins), np.bincount(bins, correct, n_bins)


def reliability_bins(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    n_bins: int = 15,
    equal_mass: bool = False,
) -> pd.DataFrame:
    """A reliability diagram as a table, one row per bin that holds an image.

    Columns: bin, left, right (borders; of equal mass: smallest and largest confidence inside), n, confidence (mean),
    accuracy, low, high (Wilson interval of the accuracy).  Source: DeGroot & Fienberg 1983; Guo et al. 2017.
    """
    confidence, correct = check_confidence(confidence, correct)
    bins = assign_bins(confidence, n_bins, equal_mass=equal_mass)
    counts, sums, hits = bin_sums(confidence, correct, bins, n_bins)
    filled = np.flatnonzero(counts)
    left, right = filled / n_bins, (filled + 1) / n_bins
    if equal_mass:
        groups = pd.Series(confidence).groupby(bins)
        left, right = groups.min().to_numpy(), groups.max().to_numpy()
    n, right_ones = counts[filled].astype(int), hits[filled].astype(int)
    low, high = wilson_interval(right_ones, n)
    return pd.DataFrame(
        {
            "bin": filled,
            "left": left,
            "right": right,
            "n": n,
            "confidence": sums[filled] / n,
            "accuracy": right_ones / n,
            "low": low,
            "high": high,
        }
    )
