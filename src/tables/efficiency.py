"""Numbers from tables of timings: percentiles, ratios with intervals, speed-ups and Pareto fronts; no torch."""

from itertools import combinations

import numpy as np
import pandas as pd

from src.tables.statistics import percentile_interval


def percentiles(timings: pd.DataFrame, *, by: str | list[str]) -> pd.DataFrame:
    """p50, p90 and p99 of the column ms of each group over its repeats: columns of `by`, then n, p50, p90, p99.

    >>> percentiles(pd.DataFrame(dict(model="cnn", ms=range(101))), by="model").to_numpy().tolist()
    [['cnn', 101, 50.0, 90.0, 99.0]]
    """
    grouped = timings.groupby(by, sort=False)["ms"]
    quantiles = grouped.quantile([0.5, 0.9, 0.99]).unstack().set_axis(["p50", "p90", "p99"], axis=1)
    quantiles.insert(0, "n", grouped.size())
    return quantiles.reset_index()


def one_image(timings: pd.DataFrame) -> pd.DataFrame:
    """The timings of one image on the most threads that were swept.

    >>> table = pd.DataFrame(dict(sweep=["latency", "latency", "batches"], threads=[1, 2, 4], ms=[9, 5, 50]))
    >>> one_image(table)["ms"].tolist()
    [5]
    """
    latency = timings[timings["sweep"] == "latency"]
    return latency[latency["threads"] == latency["threads"].max()]


def overview(costs: pd.DataFrame, timings: pd.DataFrame) -> pd.DataFrame:
    """One row per model: accuracy with its interval beside what one image costs.

    Columns: model, accuracy, low, high, p50, p90, p99 (ms of `one_image`), macs and parameters (millions), activations
    (MiB, at once in inference).

    >>> costs = dict(model=["cnn"], accuracy=0.9, low=0.8, high=1.0, macs=2e6, n_parameters=3e6, inference_bytes=2**20)
    >>> timings = dict(model=["cnn", "cnn"], sweep="latency", threads=1, ms=[4, 6])
    >>> overview(pd.DataFrame(costs), pd.DataFrame(timings))[["p50", "macs", "activations"]].to_numpy().tolist()
    [[5.0, 2.0, 1.0]]
    """
    table = costs.merge(percentiles(one_image(timings), by="model"), on="model")
    table["macs"], table["parameters"] = table["macs"] / 1e6, table["n_parameters"] / 1e6
    table["activations"] = table["inference_bytes"] / 2**20
    shown = ("model", "accuracy", "low", "high", "p50", "p90", "p99", "macs", "parameters", "activations")
    return table[list(shown)]


def time_ratios(timings: pd.DataFrame, *, name: str = "model", n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """For every two contenders how many times longer the slower takes, paired within repeats.

    timings: one row per contender, by its `name`, and repeat.  Columns: slower, faster, ratio (of medians of the same
    repeats), low, high (95 % bootstrap over repeats), separated (whether the interval leaves 1 out).
    Raises ValueError when the contenders were not timed in the same repeats, once each.

    >>> timings = pd.DataFrame(dict(model=["cnn", "vit"] * 3, repeat=[0, 0, 1, 1, 2, 2], ms=[1, 2, 2, 4, 1, 2]))
    >>> time_ratios(timings, n_resamples=10).to_numpy().tolist()
    [['vit', 'cnn', 2.0, 2.0, 2.0, True]]
    """
    if timings.duplicated([name, "repeat"]).any():
        raise ValueError(f"a {name} has a repeat twice; choose one variant, batch size and thread count first")
    wide = timings.pivot(index="repeat", columns=name, values="ms")
    if wide.isna().any(axis=None):
        raise ValueError("not every contender was timed in every repeat; ratios need the same repeats")
    drawn = np.random.default_rng(seed).integers(0, len(wide), (n_resamples, len(wide)))
    medians, rows = {column: np.median(wide[column].to_numpy()[drawn], axis=1) for column in wide.columns}, []
    for a, b in combinations(wide.columns, 2):
        slower, faster = (a, b) if wide[a].median() >= wide[b].median() else (b, a)
        low, high = percentile_interval(medians[slower] / medians[faster])
        rows.append((slower, faster, wide[slower].median() / wide[faster].median(), low, high, low > 1))
    return pd.DataFrame(rows, columns=["slower", "faster", "ratio", "low", "high", "separated"])


def speed_ups(timings: pd.DataFrame, *, base: str = "eager", **options) -> pd.DataFrame:
    """How many times as fast as `base` each way to run a model is: columns model, condition, speed_up, low, high.

    options: n_resamples and seed, as of `time_ratios`.  Raises ValueError for a model that was not timed in that way.

    >>> timings = dict(model="cnn", condition=["eager", "compile"] * 2, repeat=[0, 0, 1, 1], ms=[2, 1, 4, 2])
    >>> speed_ups(pd.DataFrame(timings), n_resamples=10)["speed_up"].tolist()
    [1.0, 2.0]
    """
    rows = []
    for model, part in timings.groupby("model", sort=False):
        if base not in set(part["condition"]):
            raise ValueError(f"no condition {base!r} of {model} among {', '.join(sorted(set(part['condition'])))}")
        rows.append((model, base, 1.0, 1.0, 1.0))
        for pair in time_ratios(part, name="condition", **options).itertuples():
            if pair.slower == base:
                rows.append((model, pair.faster, pair.ratio, pair.low, pair.high))
            elif pair.faster == base:
                rows.append((model, pair.slower, 1 / pair.ratio, 1 / pair.high, 1 / pair.low))
    return pd.DataFrame(rows, columns=["model", "condition", "speed_up", "low", "high"])


def pareto_front(table: pd.DataFrame, *, cost: str, gain: str) -> pd.Series:
    """Whether each row is on the front: no other costs as little or less and gains as much or more, one strictly.

    >>> pareto_front(pd.DataFrame(dict(ms=[1, 2, 3], accuracy=[0.8, 0.9, 0.9])), cost="ms", gain="accuracy").tolist()
    [True, True, False]
    """
    costs, gains = table[cost].to_numpy(), table[gain].to_numpy()
    no_worse = (costs[None] <= costs[:, None]) & (gains[None] >= gains[:, None])
    better = (costs[None] < costs[:, None]) | (gains[None] > gains[:, None])
    return pd.Series(~(no_worse & better).any(1), index=table.index, name="on_front")
