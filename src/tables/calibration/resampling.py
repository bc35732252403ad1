"""The uncertainty of a calibration error, and the error that a perfectly calibrated model shows by chance."""

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
import pandas as pd

from src.tables.calibration.bins import Confidence, Correct, assign_bins, check_confidence
from src.tables.calibration.measures import binned_gap, gap_of_sums
from src.tables.statistics import percentile_interval

CHUNK = 2**22  # values at a time: a thousand resamples of many images would not fit


def bootstrap(
    confidence: Confidence, correct: Correct, *, n_resamples: int = 1000, seed: int = 0, **binning
) -> np.ndarray:
    """`binned_gap` of images drawn with replacement, [n_resamples]; binning: n_bins, norm and equal_mass, as there.

    One seed draws the same images for every model, so that differences of two results are paired. Chance moves a binned
    error upwards, and a resample has that twice: take the mean shift off for an interval; read it beside `null_band`.

    >>> bootstrap([0.9] * 4, [True, True, True, False], n_resamples=2).shape
    (2,)
    """
    confidence, correct = check_confidence(confidence, correct)
    n, rng, excess = len(confidence), np.random.default_rng(seed), confidence - correct
    draws = (rng.integers(0, n, (size, n)) for size in _chunks(n, n_resamples))
    return _gaps(confidence, ((drawn, excess[drawn]) for drawn in draws), **binning)


def null_band(confidence: Confidence, *, n_resamples: int = 1000, seed: int = 0, **binning) -> np.ndarray:
    """`binned_gap` of a perfectly calibrated model of these confidences, by chance, [n_resamples].

    binning: n_bins, norm and equal_mass, as of `binned_gap`.
    Source: consistency resampling, Bröcker & Smith 2007; Vaicenavicius et al. 2019.

    >>> null_band([1.0] * 4, n_resamples=2).tolist()
    [0.0, 0.0]
    """
    confidence, _ = check_confidence(confidence, np.zeros(np.shape(confidence)))
    everyone, draws = np.arange(len(confidence)), _calibrated(confidence, n_resamples, seed)
    return _gaps(confidence, ((everyone, confidence - correct) for correct in draws), **binning)


def consistency_band(
    confidence: Confidence, *, n_bins: int = 15, level: float = 0.95, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Where the accuracy of each bin would lie if the model were calibrated: columns bin, low, high.

    Bins as of `reliability_bins` with equal width.  Source: Bröcker & Smith 2007.

    >>> consistency_band([1.0] * 4, n_bins=5, n_resamples=2).to_numpy().tolist()
    [[4.0, 1.0, 1.0]]
    """
    confidence, _ = check_confidence(confidence, np.zeros(np.shape(confidence)))
    bins = assign_bins(confidence, n_bins)
    sums = [_sums(bins, correct, n_bins) for correct in _calibrated(confidence, n_resamples, seed)]
    counts, hits = (np.concatenate(values) for values in zip(*sums, strict=True))
    filled = np.flatnonzero(counts[0])
    tail = (1 - level) / 2
    low, high = np.quantile(hits[:, filled] / counts[:, filled], (tail, 1 - tail), axis=0)
    return pd.DataFrame(dict(bin=filled, low=low, high=high))


def verdict(
    confidence: Confidence, correct: Correct, *, level: float = 0.95, n_resamples: int = 1000, seed: int = 0, **binning
) -> dict:
    """Whether the confidences can be told from calibrated ones, with the numbers that say so.

    Keys: ece, low and high (bootstrap, less the upward shift of resamples), null_mean and null_high (of a calibrated
    model), gap (mean confidence minus accuracy) and verdict: "calibrated" when the error is no larger than chance makes
    it, else "overconfident", "underconfident", or "miscalibrated" when the gap's sign is not clear.
    level: of the interval, of null_high, and of the gap's normal interval.  binning: as of `binned_gap`.

    >>> verdict([0.9] * 1000, [True] * 500 + [False] * 500, n_resamples=100)["verdict"]
    'overconfident'
    """
    confidence, correct = check_confidence(confidence, correct)
    options = dict(n_resamples=n_resamples, seed=seed) | binning
    ece, null = binned_gap(confidence, correct, **binning), null_band(confidence, **options)
    samples = bootstrap(confidence, correct, **options)
    low, high = percentile_interval(samples - samples.mean() + ece, level=level)
    null_high, excess = float(np.quantile(null, level)), confidence - correct
    gap, margin = excess.mean(), NormalDist().inv_cdf((1 + level) / 2) * excess.std() / np.sqrt(len(excess))
    said = "calibrated"
    if ece > null_high:
        said = "miscalibrated" if abs(gap) <= margin else "overconfident" if gap > 0 else "underconfident"
    values = dict(ece=ece, low=max(low, 0.0), high=high, null_mean=float(null.mean()), null_high=null_high)
    return values | dict(gap=float(gap), verdict=said)


def _gaps(confidence, draws, *, n_bins: int = 15, norm: str = "l1", equal_mass: bool = False) -> np.ndarray:
    """The gap of each resample; draws: pairs of images [r, n] or [n], and confidence minus correct [r, n] of them."""
    bins = assign_bins(confidence, n_bins, equal_mass)
    return np.concatenate([gap_of_sums(*_sums(bins[images], excess, n_bins), norm) for images, excess in draws])


def _calibrated(confidence: Confidence, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Whether each image is right in a model whose confidences are true, bool [r, n] at a time."""
    rng = np.random.default_rng(seed)
    for size in _chunks(len(confidence), n_resamples):
        yield rng.random((size, len(confidence))) < confidence


def _sums(bins: np.ndarray, values: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and sums of `values` [r, n] in each bin, [r, n_bins], for r resamples at once; bins: [r, n] or [n]."""
    size = len(values)
    places = (np.broadcast_to(bins, values.shape) + n_bins * np.arange(size)[:, None]).ravel()
    counts, sums = (np.bincount(places, each, size * n_bins) for each in (None, values.ravel()))
    return counts.reshape(size, n_bins).astype(np.float64), sums.reshape(size, n_bins)


def _chunks(n: int, n_resamples: int) -> list[int]:
    step = max(1, CHUNK // n)
    return [min(step, n_resamples - first) for first in range(0, n_resamples, step)]
