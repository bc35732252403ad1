"""An interval for the debiased calibration error, by turning a test round: which errors could have shown what is seen.

A bootstrap of a binned error cannot give one: chance moves the error upwards, resamples have that twice, and near 0
what is left after a correction is skewed. `benchmarks/bench_calibration_coverage.py` simulates the coverage of both.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from scipy import special

from src.tables.calibration.bins import Confidence, Correct
from src.tables.calibration.measures import debiased_gap, mass_bins

N_DRAWS = 2000  # of what chance does in each bin
N_STEPS = 40  # of true errors that are tried, before the ends are looked for between two

PerBin = Float[np.ndarray, " b"]


def debiased_interval(
    confidence: Confidence, correct: Correct, *, n_bins: int = 15, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """`debiased_gap` with its interval, (error, low, high), fractions in [0, 1].

    low and high: the smallest and the largest true error whose plug-in (the root of the bins' mean squared gap) would
    fall beyond what is seen with a chance of (1 - level) / 2; an end gives way to an error beyond it.  low is 0 where a
    calibrated model may show as much.  The true errors that are tried have the signs and, but for chance, the shares of
    the gaps that are seen; in each bin the accuracy varies as a binomial's share, taken as normal.  Of the error of the
    bins, as Kumar et al. 2019 define it: what over- and underconfidence cancel within a bin is not in it.  Simulated
    coverage of the 95 %: 94 to 96 % in the mean over shapes of the gap, at worst 91 %, where a large gap changes sign
    within a bin or stands on few images, and 98 to 100 % for a network that is right more surely than it says.
    Source: test inversion, Carpenter 1999; Kumar et al. 2019, section 5, for the error.

    >>> error, low, high = debiased_interval([0.9] * 400, [True] * 320 + [False] * 80, n_bins=2)
    >>> round(error, 2), round(low, 2), round(high, 2)
    (0.1, 0.06, 0.14)
    """
    from scipy.optimize import brentq  # half a second to import

    n, sure, accuracy = mass_bins(confidence, correct, n_bins)
    seen, tail = _size(n, sure - accuracy), (1 - level) / 2
    chance = np.random.default_rng(seed).standard_normal((N_DRAWS, len(n)))
    smoothed = (n * sure + 1) / (n + 2)  # of a bin of certainty, too, the noise is not 0
    direction = np.hypot(sure - accuracy, np.sqrt(smoothed * (1 - smoothed) / n))
    direction = np.where(sure < accuracy, -direction, direction)
    steps = np.r_[0, np.geomspace(1e-3, 1, N_STEPS)] / np.abs(direction).min()  # at the last each bin is at 0 or at 1

    def size_at(step: float) -> float:
        return float(_size(n, sure - np.clip(sure - step * direction, 0, 1)))

    def excess(step: float, quantile: float) -> float:
        true = np.clip(sure - step * direction, 0, 1)
        drawn = _size(n, sure - true + np.sqrt(true * (1 - true) / n) * chance)
        return float(np.quantile(drawn, quantile)) - seen

    def end(place: int, quantile: float) -> float:
        """The error between two steps where what is seen begins, or ceases, to fit."""
        return size_at(brentq(excess, steps[place], steps[place + 1], args=(quantile,), xtol=1e-4))

    # the plug-in need not grow with the true error: towards certainty chance adds less to it
    enough = [place for place, step in enumerate(steps) if excess(step, 1 - tail) >= 0]
    within = [place for place, step in enumerate(steps) if excess(step, tail) <= 0]
    least, most = (enough or [N_STEPS])[0], (within or [0])[-1]
    low = end(least - 1, 1 - tail) if enough and least else size_at(steps[least])
    high = end(most, tail) if within and most < N_STEPS else size_at(steps[most])
    error = debiased_gap(confidence, correct, n_bins=n_bins)
    return error, min(low, error), max(high, error)


def contrast_interval(
    ends: np.ndarray,
    weights: np.ndarray,
    correlations: np.ndarray,
    seeds: Iterable[tuple[float, float]] = (),
    *,
    level: float = 0.95,
    null: float = 0.0,
) -> tuple[float, float, float, float]:
    """A weighted sum of numbers with intervals, and the p-value of its size being `null`: (value, low, high, p_value).

    ends: (value, low, high) of each number, [k, 3], intervals of `level`.  weights: [k].  correlations: of the numbers'
    errors, [k, k].  seeds: what training seeds add to the variance of the sum, as `statistics.interval_over_seeds`
    takes it.  Each side of the interval adds the squares of the distances that make the sum small or large, as the
    numbers go together; with seeds it is as wide as Student's t.  p_value: below 1 - level where `null`, of the sign of
    the sum, is outside.
    Source: Zou & Donner 2008 (MOVER); Zou 2007 for correlated numbers; Satterthwaite 1946 for the degrees of freedom.

    >>> ends = np.array([(0.05, 0.02, 0.09), (0.03, 0.0, 0.07)])
    >>> [round(number, 3) for number in contrast_interval(ends, np.array([1, -1]), np.eye(2))]
    [0.02, -0.03, 0.07, 0.433]
    """
    value, to_low, to_high = float(weights @ ends[:, 0]), ends[:, 0] - ends[:, 1], ends[:, 2] - ends[:, 0]
    added, unsure = (sum(part) for part in zip(*seeds, strict=True)) if (seeds := list(seeds)) else (0.0, 0.0)
    tail, errors, freedoms = (1 + level) / 2, [], []
    for rising, falling in ((to_low, to_high), (to_high, to_low)):  # towards smaller sums, towards larger ones
        reach = weights * np.where(weights > 0, rising, falling)
        total = max(float(reach @ correlations @ reach), 0.0) / special.ndtri(tail) ** 2 + added
        errors.append(np.sqrt(total))
        freedoms.append(total**2 / unsure if unsure else np.inf)
    half = special.stdtrit(freedoms, tail) * errors
    farther = abs(value) - null
    side = int((value > 0) != (farther > 0))  # on which the null lies: 0 for smaller sums
    p_value = (
        2 * special.stdtr(freedoms[side], -abs(farther) / errors[side]) if errors[side] > 0 else float(not farther)
    )
    return value, float(value - half[0]), float(value + half[1]), float(p_value)


def _size(n: PerBin, gaps: np.ndarray) -> np.ndarray:
    """The root of the mean square of gaps [..., b] over bins of n images."""
    return np.sqrt((gaps**2 @ n) / n.sum())
