"""The uncertainty of a calibration error, and the error that a perfectly calibrated model shows by chance."""

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
import pandas as pd

from src.tables.calibration.bins import Confidence, Correct, assign_bins, check_confidence
from src.tables.calibration.interval import debiased_interval
from src.tables.calibration.measures import binned_gap, gap_of_sums

CHUNK = 2**22  # values at a time: a thousand resamples of many images would not fit


def bootstrap(
    confidence: Confidence, correct: Correct, *, n_resamples: int = 1000, seed: int = 0, **binning
) -> np.ndarray:
    """`binned_gap` of images drawn with replacement, [n_resamples]; binning: n_bins, norm and equal_mass, as there.

    One seed draws the same images for every model, so that two results are paired. Chance moves a binned error upwards,
    and a resample has that twice: these are no interval of the error (`interval.debiased_interval` is).

    >>> bootstrap([0.9] * 4, [True, True, True, False], n_resamples=2).shape
    (2,)
    """
    confidence, correct = check_confidence(confidence, correct)
    n, rng, excess = len(confidence), np.random.default_rng(seed), confidence - correct
    draws = (rng.integers(0, n, (size, n)) for size in _chunks(n, n_resamples))
    return _gaps(confidence, ((drawn, excess[drawn]) for drawn in draws), **binning)


def null_band(confidence: Confidence, *, n_resamples: int = 1000, seed: int = 0, **binning) -> np.ndarray:
    """`binned_gap` of a perfectly calibrated model of these confidences, by chance, [n_resamples].

    The confidences stay as they are and only the outcomes are drawn, as a test that is conditional on them has it;
    Bröcker & Smith 2007, whose consistency resampling this comes from, draw the forecasts with replacement as well.
    binning: n_bins, norm and equal_mass, as of `binned_gap`.  Source: Vaicenavicius et al. 2019, section 4.

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

    Bins as of `reliability_bins` with equal width; confidences fixed, as in `null_band`.

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
    confidence: Confidence,
    correct: Correct,
    *,
    n_bins: int = 15,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Whether the confidences can be told from calibrated ones, with the numbers that say so.

    Keys: debiased, low and high (the headline, `debiased_interval`); ece, null_mean and null_high (the plug-in ECE, and
    what it is of a calibrated model by chance); gap, gap_low and gap_high (mean confidence minus accuracy, with its
    normal interval); verdict: "calibrated" when the ECE is no larger than chance makes it, else "overconfident",
    "underconfident", or "miscalibrated" when the gap's sign is not clear.
    level: of the intervals and of null_high.  n_resamples: of the null.

    >>> verdict([0.9] * 1000, [True] * 500 + [False] * 500, n_resamples=100)["verdict"]
    'overconfident'
    """
    confidence, correct = check_confidence(confidence, correct)
    ece = binned_gap(confidence, correct, n_bins=n_bins)
    null = null_band(confidence, n_resamples=n_resamples, seed=seed, n_bins=n_bins)
    null_high, excess = float(np.quantile(null, level)), confidence - correct
    gap, margin = excess.mean(), NormalDist().inv_cdf((1 + level) / 2) * excess.std() / np.sqrt(len(excess))
    said = "calibrated"
    if ece > null_high:
        said = "miscalibrated" if abs(gap) <= margin else "overconfident" if gap > 0 else "underconfident"
    debiased, low, high = debiased_interval(confidence, correct, n_bins=n_bins, level=level, seed=seed)
    values = dict(debiased=debiased, low=low, high=high, ece=ece, null_mean=float(null.mean()), null_high=null_high)
    return values | dict(gap=float(gap), gap_low=float(gap - margin), gap_high=float(gap + margin), verdict=said)


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
