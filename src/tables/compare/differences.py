"""Differences of two measurements, B less A, with intervals and tests, in pairs or of independent lots; no torch.

Each function returns a dict: a, b (the two values), difference = b - a, low, high (95 %) and p_value (two-sided).
"""

import numpy as np
from scipy import special

from src.tables.statistics import wilson_interval

Z = special.ndtri(0.975)


def of_shares(a: np.ndarray, b: np.ndarray, *, paired: bool) -> dict:
    """Difference of two shares, from bool arrays; in pairs, row by row, or of independent lots.

    In pairs: exact McNemar test, interval of Newcombe 1998 (Stat. Med. 17:2635), method 10.  Independent: score test
    and the interval of Newcombe 1998 (Stat. Med. 17:873), method 10.

    >>> found = of_shares(np.array([True, True, False, True]), np.array([True, False, False, False]), paired=True)
    >>> found["difference"], found["p_value"]
    (-0.5, 0.5)
    """
    from statsmodels.stats import proportion  # a second to import
    from statsmodels.stats.contingency_tables import mcnemar

    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if not paired:
        counts = (int(b.sum()), len(b), int(a.sum()), len(a))
        low, high = proportion.confint_proportions_2indep(*counts, method="newcomb")
        varies = 0 < a.sum() + b.sum() < len(a) + len(b)
        p_value = proportion.proportions_ztest(counts[::2], counts[1::2])[1] if varies else 1.0
        return _found(a.mean(), b.mean(), low, high, p_value)
    both, only_a, only_b, neither = (int(np.sum(cell)) for cell in (a & b, a & ~b, ~a & b, ~a & ~b))
    p_value = mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue
    together = both * neither - only_a * only_b
    together = max(together - len(a) / 2, 0) if together > 0 else together
    spread = np.sqrt(float(a.sum()) * (~a).sum() * b.sum() * (~b).sum())
    ends = [wilson_interval(side.sum(), len(side)) for side in (a, b)]
    low, high = _square_and_add(a.mean(), b.mean(), *ends, together / spread if spread else 0.0)
    return _found(a.mean(), b.mean(), low, high, p_value)


def of_ratios(a: np.ndarray, b: np.ndarray, *, paired: bool) -> dict:
    """Difference of S / (S + T), from arrays of cues: 1 for S, -1 for T, 0 for neither.

    Wilson's intervals over the decisive ones, put together by Zou & Donner 2008; in pairs with the correlation of what
    each pair adds to the two ratios.  The p-value is that of the interval (Altman & Bland 2011).  NaN where a side has
    nothing decisive.

    >>> of_ratios(np.array([1, 1, -1, 0]), np.array([1, -1, -1, 0]), paired=True)["difference"]
    -0.3333333333333333
    """
    counts = [(np.sum(side == 1), np.sum(side != 0)) for side in (a, b)]
    if any(decisive == 0 for _, decisive in counts):
        return _found(*(s / n if n else np.nan for s, n in counts), np.nan, np.nan, np.nan)
    p, q = (s / n for s, n in counts)
    adds = [(side == 1) - ratio * (side != 0) for side, ratio in ((a, p), (b, q))]
    varied = paired and all(part.std() > 0 for part in adds)
    correlation = np.corrcoef(*adds)[0, 1] if varied else 0.0
    low, high = _square_and_add(p, q, *(wilson_interval(s, n) for s, n in counts), correlation)
    reach = (q - p) - low if q > p else high - (q - p)
    return _found(p, q, low, high, 2 * special.ndtr(-Z * abs(q - p) / reach) if q != p else 1.0)


def of_means(a: np.ndarray, b: np.ndarray, *, paired: bool) -> dict:
    """Difference of two means by Student's t, of pairs or, for independent lots, Welch's.

    NaN for interval and p-value where they need more than one value, or some that vary.

    >>> of_means(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.5, 3.5]), paired=True)["difference"]
    1.0
    """
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

    if paired and np.array_equal(a, b):
        return _found(a.mean(), b.mean(), 0.0, 0.0, 1.0)
    varied = (b - a).std() > 0 if paired else min(len(a), len(b)) > 1 and a.std() + b.std() > 0
    if not varied:
        return _found(a.mean(), b.mean(), np.nan, np.nan, np.nan)
    if paired:
        gaps = DescrStatsW(b - a)
        return _found(a.mean(), b.mean(), *gaps.tconfint_mean(), gaps.ttest_mean()[1])
    means = CompareMeans(DescrStatsW(b), DescrStatsW(a))
    low, high = means.tconfint_diff(usevar="unequal")
    return _found(a.mean(), b.mean(), low, high, means.ttest_ind(usevar="unequal")[1])


def of_draws(a: float, drawn_a: np.ndarray, b: float, drawn_b: np.ndarray, *, n: int) -> dict:
    """Difference of two values by the standard error of their bootstraps, with Student's t of n - 1.

    Draws in pairs, of the same items row by row, keep what the two have in common; others are of different seeds.
    n: items that were drawn.  NaN for interval and p-value where that is 1, or the draws say nothing.

    >>> drawn = np.array([0.5, 1.5])
    >>> of_draws(1.0, drawn, 1.0, drawn, n=9)["p_value"]
    1.0
    """
    if n < 2:
        return _found(a, b, np.nan, np.nan, np.nan)
    error = np.nanstd(drawn_b - drawn_a, ddof=1) * np.sqrt(n / (n - 1))  # a bootstrap divides by n
    if not error > 1e-12:  # the draws move together to the last digit
        return _found(a, b, 0.0, 0.0, 1.0) if abs(b - a) <= 1e-12 else _found(a, b, np.nan, np.nan, np.nan)
    half = error * special.stdtrit(n - 1, 0.975)
    return _found(a, b, b - a - half, b - a + half, 2 * special.stdtr(n - 1, -abs(b - a) / error))


def of_times(a: np.ndarray, b: np.ndarray, *, n_resamples: int = 2000, seed: int = 0) -> dict:
    """Relative change of the median, b / a - 1, with a bootstrap interval over the repeats of each.

    The two are of different runs of the clock: what else the machine did then is in the change and not in the interval,
    so there is no p-value.

    >>> of_times(np.array([2.0, 2.0]), np.array([3.0, 3.0]))["difference"]
    0.5
    """
    drawn = []
    for lot, values in enumerate((a, b)):
        places = np.random.default_rng((seed, lot)).integers(0, len(values), (n_resamples, len(values)))
        drawn.append(np.median(values[places], axis=1))
    low, high = np.quantile(drawn[1] / drawn[0] - 1, (0.025, 0.975))
    first, second = np.median(a), np.median(b)
    return _found(first, second, low, high, np.nan) | dict(difference=float(second / first - 1))


def of_counts(a: float, b: float) -> dict:
    """Relative change of an exact number, b / a - 1: its interval has no width, and there is nothing to test."""
    change = b / a - 1 if a else 0.0 if b == a else np.inf
    return _found(a, b, change, change, np.nan) | dict(difference=change)


def _found(a, b, low, high, p_value) -> dict:
    found = dict(a=a, b=b, difference=b - a, low=low, high=high, p_value=p_value)
    return {name: float(value) for name, value in found.items()}


def _square_and_add(a: float, b: float, ends_a, ends_b, correlation: float) -> tuple[float, float]:
    """The interval of b - a from those of a and b and the correlation of the two estimates."""
    (low_a, high_a), (low_b, high_b) = ends_a, ends_b

    def reach(one: float, other: float) -> float:
        return float(np.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0)))

    return b - a - reach(b - low_b, high_a - a), b - a + reach(high_b - b, a - low_a)
