"""How sure a calibration error is, and how large it would be for a model that is perfectly calibrated."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from src.tables.calibration.bins import assign_bins, bin_sums, check_confidence
from src.tables.calibration.measures import gap_of_sums

CHUNK = 2**22  # values at a time: a thousand resamples of many images would not fit


def bootstrap(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    n_bins: int = 15,
    norm: str = "l1",
    equal_mass: bool = False,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Float[np.ndarray, " r"]:
    """The binned error of images drawn with replacement, `n_resamples` times.

    One seed draws the same images for every model, so that differences of two results are paired. Chance moves a binned
    error upwards, and a resample has that twice: take the mean shift off for an interval; read it beside `null_band`.
    """
    confidence, correct = check_confidence(confidence, correct)
    bins = assign_bins(confidence, n_bins, equal_mass=equal_mass)
    n, rng, values = len(bins), np.random.default_rng(seed), []
    for size in _chunks(n, n_resamples):
        drawn = rng.integers(0, n, (size, n))
        counts, excess = _sums(bins[drawn], (confidence - correct)[drawn], n_bins)
        values.append(gap_of_sums(counts, excess, norm))
    return np.concatenate(values)


def null_band(
    confidence: Float[np.ndarray, " n"],
    *,
    n_bins: int = 15,
    norm: str = "l1",
    equal_mass: bool = False,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Float[np.ndarray, " r"]:
    """The binned error that a perfectly calibrated model of these confidences would show by chance, drawn often.

    Source: consistency resampling, Bröcker & Smith 2007; Vaicenavicius et al. 2019.
    """
    confidence, _ = check_confidence(confidence, np.zeros(np.shape(confidence), dtype=bool))
    bins = assign_bins(confidence, n_bins, equal_mass=equal_mass)
    rng, values = np.random.default_rng(seed), []
    for size in _chunks(len(bins), n_resamples):
        correct = rng.random((size, len(bins))) < confidence
        counts, excess = _sums(np.broadcast_to(bins, correct.shape), confidence - correct, n_bins)
        values.append(gap_of_sums(counts, excess, norm))
    return np.concatenate(values)


def consistency_band(
    confidence: Float[np.ndarray, " n"],
    *,
    n_bins: int = 15,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Where the accuracy of each bin would lie if the model were calibrated: columns bin, low, high.

    Bins as of `reliability_bins` with equal width.  Source: Bröcker & Smith 2007.
    """
    confidence, _ = check_confidence(confidence, np.zeros(np.shape(confidence), dtype=bool))
    bins = assign_bins(confidence, n_bins, equal_mass=False)
    rng = np.random.default_rng(seed)
    hits = np.stack(
        [bin_sums(confidence, rng.random(len(bins)) < confidence, bins, n_bins)[2] for _ in range(n_resamples)]
    )
    counts = np.bincount(bins, minlength=n_bins)
    filled = np.flatnonzero(counts)
    tail = (1 - level) / 2
    low, high = np.quantile(hits[:, filled] / counts[filled], (tail, 1 - tail), axis=0)
    return pd.DataFrame({"bin": filled, "low": low, "high": high})


def verdict(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], *, level: float = 0.95, **options
) -> dict:
    """Whether the confidences can be told from calibrated ones, with the numbers that say so.

    Keys: ece, low and high (bootstrap, less the upward shift of resamples), null_mean and null_high (of a calibrated
    model), gap (mean confidence minus accuracy) and verdict: "calibrated" when the error is no larger than chance makes
    it, else "overconfident", "underconfident", or "miscalibrated" when the gap's sign is not clear.  options: as of
    `bootstrap`.
    """
    confidence, correct = check_confidence(confidence, correct)
    samples, null = bootstrap(confidence, correct, **options), null_band(confidence, **options)
    shape = {name: options[name] for name in ("n_bins", "norm", "equal_mass") if name in options}
    bins = assign_bins(confidence, shape.get("n_bins", 15), equal_mass=shape.get("equal_mass", False))
    counts, sums, hits = bin_sums(confidence, correct, bins, shape.get("n_bins", 15))
    ece = float(gap_of_sums(counts, sums - hits, shape.get("norm", "l1")))
    low, high = np.quantile(samples - samples.mean() + ece, ((1 - level) / 2, (1 + level) / 2))
    null_high, difference = float(np.quantile(null, level)), confidence - correct
    error = difference.std() / np.sqrt(len(difference)) * 1.96
    said = "calibrated"
    if ece > null_high:
        said = "miscalibrated" if abs(difference.mean()) <= error else "overconfident"
        said = "underconfident" if difference.mean() < -error else said
    return {
        "ece": ece,
        "low": float(max(low, 0)),
        "high": float(high),
        "null_mean": float(null.mean()),
        "null_high": null_high,
        "gap": float(difference.mean()),
        "verdict": said,
    }


def _sums(bins: np.ndarray, difference: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and sums of confidence minus correct of each bin, [r, n_bins], for r resamples at once."""
    size = len(bins)
    flat = (bins + n_bins * np.arange(size)[:, None]).ravel()
    shape = (size, n_bins)
    counts = np.bincount(flat, minlength=size * n_bins).reshape(shape).astype(np.float64)
    return counts, np.bincount(flat, difference.ravel(), size * n_bins).reshape(shape)


def _chunks(n: int, n_resamples: int) -> list[int]:
    step = max(1, CHUNK // n)
    return [min(step, n_resamples - first) for first in range(0, n_resamples, step)]
