"""Numbers from tables of timings: percentiles, ratios with intervals, speed-ups and Pareto fronts; no torch."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special

from src.tables.statistics import percentile_interval, with_holm


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
    """For every two contenders how many times longer the slower takes, paired within processes and repeats.

    timings: one row per contender, by its `name`, process (one, where there is no such column) and repeat.  Columns:
    slower, faster, ratio (of medians of the same repeats), low, high (95 %: see `medians_drawn`; of one process, this
    process's), p_value (of a ratio of 1), processes, p_holm (Holm 1979, over the rows), separated (p_holm below 0.05).
    Raises ValueError when the contenders were not timed in the same repeats, once each.

    >>> timings = pd.DataFrame(dict(model=["cnn", "vit"] * 3, repeat=[0, 0, 1, 1, 2, 2], ms=[1, 2, 2, 4, 1, 2]))
    >>> time_ratios(timings, n_resamples=10)[["slower", "faster", "ratio", "separated"]].round(6).values.tolist()
    [['vit', 'cnn', 2.0, True]]
    """
    wide, drawn, wider = medians_drawn(timings, name=name, n_resamples=n_resamples, seed=seed)
    medians, processes, rows = typical(wide), wide.index.get_level_values("process").nunique(), []
    for a, b in combinations(range(len(medians)), 2):
        slower, faster = (a, b) if medians.iloc[a] >= medians.iloc[b] else (b, a)
        ratio = medians.iloc[slower] / medians.iloc[faster]
        low, high = _widened(ratio, drawn[:, slower] / drawn[:, faster], wider)
        p_value = p_value_of(np.log(ratio), np.log(drawn[:, slower] / drawn[:, faster]), processes)
        rows.append((wide.columns[slower], wide.columns[faster], ratio, low, high, p_value, processes))
    names = ["slower", "faster", "ratio", "low", "high", "p_value", "processes"]
    return with_holm(pd.DataFrame(rows, columns=names)).assign(separated=lambda table: table["p_holm"] < 0.05)


def compare_times(timings: pd.DataFrame, *, n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Typical ms of each model and the difference of every two, paired within processes and repeats.

    timings: as of `time_ratios`; models stay in its order.  Columns: model, other ("" for the time itself, or the model
    that is subtracted), value, low, high (95 %, as there), p_value (of a difference, by the ratio of the two), n
    (processes, or the repeats of a single one), of (which of the two).

    >>> timings = pd.DataFrame(dict(model=["cnn", "vit"] * 3, repeat=[0, 0, 1, 1, 2, 2], ms=[1, 2, 2, 4, 1, 2]))
    >>> compare_times(timings, n_resamples=10)[["model", "other", "value", "n"]].round(6).values.tolist()
    [['cnn', '', 1.0, 3], ['vit', '', 2.0, 3], ['cnn', 'vit', -1.0, 3]]
    """
    wide, drawn, wider = medians_drawn(timings, n_resamples=n_resamples, seed=seed)
    order = wide.columns.get_indexer(timings["model"].unique())
    wide, drawn = wide.iloc[:, order], drawn[:, order]
    medians, processes, rows = typical(wide).to_numpy(), wide.index.get_level_values("process").nunique(), []
    n, of = (processes, "processes") if processes > 1 else (len(wide), "repeats of one process")
    for i, model in enumerate(wide.columns):
        rows.append((model, "", medians[i], *_widened(medians[i], drawn[:, i], wider), np.nan, n, of))
    for i, j in combinations(range(len(medians)), 2):
        value, draws = medians[i] - medians[j], drawn[:, i] - drawn[:, j]
        low, high = (float(value + wider * (end - value)) for end in percentile_interval(draws))
        p_value = p_value_of(np.log(medians[i] / medians[j]), np.log(drawn[:, i] / drawn[:, j]), processes)
        rows.append((wide.columns[i], wide.columns[j], value, low, high, p_value, n, of))
    return pd.DataFrame(rows, columns=["model", "other", "value", "low", "high", "p_value", "n", "of"])


def medians_drawn(
    timings: pd.DataFrame, *, name: str = "model", n_resamples: int = 2000, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray, float]:
    """Times by (process, repeat) and contender; what a bootstrap over processes, then over their repeats, draws,
    [n_resamples, contenders], the same for all of them: medians, of which the geometric mean over processes; and how
    much wider few processes make an interval.

    Of a process that had more repeats than another as many are drawn as that one had, of its first.
    Few processes drawn with replacement vary too little: by the root of (k - 1) / k, and less surely than the normal,
    by Student's t with k - 1 degrees of freedom.  Both are in the factor, which is 1 for one process.
    """
    timings = timings if "process" in timings else timings.assign(process=0)
    if timings.duplicated([name, "process", "repeat"]).any():
        raise ValueError(f"a {name} has a repeat twice; choose one variant, batch size and thread count first")
    wide = timings.pivot(index=["process", "repeat"], columns=name, values="ms")
    counts = wide.groupby(level="process").size()
    if wide.isna().any(axis=None):
        raise ValueError("not every contender was timed in every repeat; ratios need the same repeats")
    k, n = len(counts), int(counts.min())  # under a budget of seconds processes may differ in it
    values = wide.groupby(level="process").head(n).to_numpy().reshape(k, n, -1)
    rng = np.random.default_rng(seed)
    processes, repeats = rng.integers(0, k, (n_resamples, k, 1)), rng.integers(0, n, (n_resamples, k, n))
    drawn = np.exp(np.log(np.median(values[processes, repeats], axis=2)).mean(axis=1))
    wider = special.stdtrit(k - 1, 0.975) / special.ndtri(0.975) * np.sqrt(k / (k - 1)) if k > 1 else 1.0
    return wide, drawn, float(wider)


def typical(wide: pd.DataFrame) -> pd.Series:
    """The geometric mean over processes of the medians of their repeats, of each contender."""
    return np.exp(np.log(wide.groupby(level="process").median()).mean())


def p_value_of(value: float, drawn: np.ndarray, k: int) -> float:
    """Two-sided, of a value of 0: by Student's t over k processes, by the normal over the repeats of one.

    >>> round(p_value_of(1.0, np.array([0.0, 2.0]), k=2), 2)
    0.61
    """
    error = drawn.std() * (np.sqrt(k / (k - 1)) if k > 1 else 1)
    if not error > 1e-12:  # the draws move together to the last digit
        return float(abs(value) <= 1e-12)
    return float(2 * special.stdtr(k - 1 if k > 1 else np.inf, -abs(value) / error))


def _widened(value: float, drawn: np.ndarray, wider: float) -> tuple[float, float]:
    """95 % interval on a logarithmic scale, `wider` times as wide on each side."""
    low, high = percentile_interval(np.log(drawn))
    return tuple(float(value * np.exp(wider * (end - np.log(value)))) for end in (low, high))


def at_saturation(timings: pd.DataFrame) -> pd.DataFrame:
    """The rows of each model's batch of most images a second, the median over all repeats, with ms of one image.

    Only batches that were timed in every process count.

    >>> table = dict(sweep="batches", model="cnn", batch_size=[1, 4], repeat=0, ms=[4.0, 8.0], images_per_s=[250, 500])
    >>> at_saturation(pd.DataFrame(table))[["batch_size", "ms"]].values.tolist()
    [[4.0, 2.0]]
    """
    table = timings[timings["sweep"] == "batches"]
    table = table if "process" in table else table.assign(process=0)
    everywhere = table.groupby(["model", "batch_size"])["process"].transform("nunique") == table["process"].nunique()
    rates = table[everywhere].groupby(["model", "batch_size"], sort=False)["images_per_s"].median()
    best = pd.MultiIndex.from_tuples(rates.groupby("model", sort=False).idxmax())
    chosen = table[pd.MultiIndex.from_frame(table[["model", "batch_size"]]).isin(best)]
    return chosen.assign(ms=chosen["ms"] / chosen["batch_size"])


def headline(costs: pd.DataFrame, timings: pd.DataFrame, *, n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """What an image costs each model, side by side: rows of model, what, threads, batch_size, value, low, high.

    what: "MACs" (millions), "saturation" (ms an image in the batch of most images a second), "latency" (ms of one
    image, networks in turns), "alone" (the same, one network after the other) and "turns over alone", their ratio; the
    last two where they were timed.  Intervals: 95 %, over processes and repeats (`medians_drawn`).

    >>> timings = dict(sweep=["latency"] * 2 + ["batches"] * 2, model="cnn", threads=1, batch_size=[1, 1, 8, 8])
    >>> timings = pd.DataFrame(timings | dict(repeat=[0, 1] * 2, ms=[4.0, 4.0, 16.0, 16.0], images_per_s=500.0))
    >>> headline(pd.DataFrame(dict(model=["cnn"], macs=2e6)), timings)[["what", "value"]].round(6).values.tolist()
    [['MACs', 2.0], ['saturation', 2.0], ['latency', 4.0]]
    """
    rows = [dict(model=row.model, what="MACs", value=row.macs / 1e6) for row in costs.itertuples()]
    parts = {"saturation": at_saturation(timings)}
    parts |= {what: timings[timings["sweep"] == what] for what in ("latency", "alone")}
    found = {}
    for what, table in parts.items():
        for (model, threads), part in table.groupby(["model", "threads"], sort=False):
            key = dict(model=model, threads=threads, batch_size=part["batch_size"].iloc[0])
            wide, drawn, wider = medians_drawn(part, n_resamples=n_resamples, seed=seed)
            found[what, model, threads] = value, drawn = typical(wide).iloc[0], drawn[:, 0]
            rows.append(key | dict(what=what, value=value, **_ends(value, drawn, wider)))
            if what == "alone":
                turns, drawn_turns = found["latency", model, threads]
                ends = _ends(turns / value, drawn_turns / drawn, wider)
                rows.append(key | dict(what="turns over alone", value=turns / value, **ends))
    columns = ["model", "what", "threads", "batch_size", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _ends(value: float, drawn: np.ndarray, wider: float) -> dict[str, float]:
    return dict(zip(("low", "high"), _widened(value, drawn, wider), strict=True))


def speed_ups(timings: pd.DataFrame, *, base: str = "eager", **options) -> pd.DataFrame:
    """How many times as fast as `base` each way to run a model is: columns model, condition, speed_up, low, high.

    options: n_resamples and seed, as of `time_ratios`.  Raises ValueError for a model that was not timed in that way.

    >>> timings = dict(model="cnn", condition=["eager", "compile"] * 2, repeat=[0, 0, 1, 1], ms=[2, 1, 4, 2])
    >>> speed_ups(pd.DataFrame(timings), n_resamples=10)["speed_up"].round(6).tolist()
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
