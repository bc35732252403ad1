"""What tables of timings say: percentiles, ratios with intervals, what can be told apart, Pareto fronts; no torch."""

from itertools import combinations

import numpy as np
import pandas as pd


def percentiles(timings: pd.DataFrame, *, by: str | list[str], value: str = "ms") -> pd.DataFrame:
    """p50, p90 and p99 of each group over its repeats: columns of `by`, then n, p50, p90, p99."""
    grouped = timings.groupby(by, sort=False)[value]
    quantiles = grouped.quantile([0.5, 0.9, 0.99]).unstack()
    quantiles.columns = ["p50", "p90", "p99"]
    return quantiles.assign(n=grouped.size()).reset_index()[[*np.atleast_1d(by), "n", "p50", "p90", "p99"]]


def time_ratios(
    timings: pd.DataFrame, *, name: str = "model", value: str = "ms", n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """For every two contenders how many times longer the slower takes, paired within repeats.

    timings: one row per contender and repeat.  Columns: slower, faster, ratio (of medians of the same repeats), low,
    high (95 % bootstrap over repeats), separated (whether the interval leaves 1 out).
    Raises ValueError when the contenders were not timed in the same repeats, once each.
    """
    wide = _by_repeat(timings, name, value)
    rng, rows = np.random.default_rng(seed), []
    drawn = rng.integers(0, len(wide), (n_resamples, len(wide)))
    medians = {column: np.median(wide[column].to_numpy()[drawn], axis=1) for column in wide.columns}
    for a, b in combinations(wide.columns, 2):
        slower, faster = (a, b) if wide[a].median() >= wide[b].median() else (b, a)
        low, high = np.quantile(medians[slower] / medians[faster], (0.025, 0.975))
        ratio = wide[slower].median() / wide[faster].median()
        rows.append(dict(slower=slower, faster=faster, ratio=ratio, low=low, high=high, separated=bool(low > 1)))
    return pd.DataFrame(rows, columns=["slower", "faster", "ratio", "low", "high", "separated"])


def _by_repeat(timings: pd.DataFrame, name: str, value: str) -> pd.DataFrame:
    if timings.duplicated([name, "repeat"]).any():
        raise ValueError(f"a {name} has a repeat twice; choose one variant, batch size and thread count first")
    wide = timings.pivot(index="repeat", columns=name, values=value)
    if wide.isna().any(axis=None):
        raise ValueError("not every contender was timed in every repeat; ratios need the same repeats")
    return wide


def ratio_to(timings: pd.DataFrame, base: str, **options) -> pd.DataFrame:
    """Each contender's time over that of `base`: columns name, ratio, low, high; options as of `time_ratios`."""
    name = options.get("name", "model")
    if base not in set(timings[name]):
        raise ValueError(f"no {name} {base!r} among {', '.join(sorted(set(timings[name])))}")
    pairs = time_ratios(timings, **options)
    rows = [dict(zip((name, "ratio", "low", "high"), (base, 1.0, 1.0, 1.0), strict=True))]
    for pair in pairs.itertuples():
        if pair.faster == base:
            rows.append({name: pair.slower, "ratio": pair.ratio, "low": pair.low, "high": pair.high})
        elif pair.slower == base:
            rows.append({name: pair.faster, "ratio": 1 / pair.ratio, "low": 1 / pair.high, "high": 1 / pair.low})
    return pd.DataFrame(rows)


def pareto_front(table: pd.DataFrame, *, cost: str, gain: str) -> pd.Series:
    """Whether each row is on the front: no other costs as little or less and gains as much or more, one strictly."""
    costs, gains = table[cost].to_numpy(), table[gain].to_numpy()
    no_worse = (costs[None] <= costs[:, None]) & (gains[None] >= gains[:, None])
    better = (costs[None] < costs[:, None]) | (gains[None] > gains[:, None])
    return pd.Series(~(no_worse & better).any(1), index=table.index, name="on_front")
