"""Accuracies, intervals and paired tests from tables of predictions, one row per image; no torch."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special


def without_logits(table: pd.DataFrame) -> pd.DataFrame:
    """The table without its logit columns, as results keep it: enough for accuracies, tests and confusion matrices."""
    return table.drop(columns=[name for name in table.columns if name.startswith("logit_")])


def hits(table: pd.DataFrame, *, k: int = 1) -> np.ndarray:
    """Whether the label is among the k largest logits, bool [n].

    k = 1 needs the columns label and prediction, a larger k the column label_rank.
    """
    if k == 1:
        return (table["label"] == table["prediction"]).to_numpy()
    return (table["label_rank"] < k).to_numpy()


def wilson_interval(successes, trials, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson score interval of a proportion (Wilson 1927) as (low, high), exactly 0 and 1 at no and at all successes.

    >>> low, high = wilson_interval(np.array([0, 5, 10]), 10)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.0, 0.237, 0.722], [0.278, 0.763, 1.0])
    """
    from statsmodels.stats.proportion import proportion_confint  # a second to import, as scipy.stats is

    low, high = proportion_confint(successes, trials, alpha=1 - level, method="wilson")
    successes, trials = np.asarray(successes), np.asarray(trials)
    # rounding leaves the ends just inside
    return np.where(successes == 0, 0.0, low), np.where(successes == trials, 1.0, high)


@lru_cache(maxsize=6)  # tables are of the same images, and drawing them takes longer than all that follows
def bootstrap_counts(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """How often each of n items is drawn in a bootstrap sample: float32 [n_resamples, n], rows sum to n; read-only."""
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(np.float32)
    counts.setflags(write=False)
    return counts


def percentile_interval(drawn: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of what a bootstrap drew, as (low, high); draws that are NaN are left out.

    >>> [round(end, 3) for end in percentile_interval(np.arange(1001) / 1000)]
    [0.025, 0.975]
    """
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return np.nan, np.nan
    return tuple(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist())


def interval_over_seeds(
    value: float, drawn: np.ndarray, seeds: Iterable[tuple[float, float]], *, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Interval of an estimate over images and training seeds, and the p-value of it being 0: (low, high, p_value).

    drawn: what a bootstrap over images drew, [n_resamples].  seeds: for each group of seeds the variance that they add
    to the estimate, and the square of its raw estimate over its degrees of freedom.  Three seeds are too few to draw
    from: normal numbers of that variance are added to the draws, which are then widened as Student's t is wider than
    the normal, with the degrees of freedom of Satterthwaite 1946.  Without seeds: the percentiles of `drawn`.

    >>> low, high, p_value = interval_over_seeds(0.0, np.linspace(-1, 1, 1001), [], level=0.5)
    >>> round(low, 3), round(high, 3), p_value
    (-0.5, 0.5, 1.0)
    """
    seeds, drawn = list(seeds), drawn[~np.isnan(drawn)]
    added, unsure = (sum(part) for part in zip(*seeds, strict=True)) if seeds else (0.0, 0.0)
    total = drawn.var() + added if len(drawn) else np.nan
    freedom = total**2 / unsure if unsure else np.inf
    wider = special.stdtrit(freedom, (1 + level) / 2) / special.ndtri((1 + level) / 2)
    shaken = drawn + np.random.default_rng(seed).normal(0, np.sqrt(added), len(drawn))
    low, high = (value + wider * (end - value) for end in percentile_interval(shaken, level=level))
    p_value = 2 * special.stdtr(freedom, -abs(value) / np.sqrt(total)) if total > 0 else float(value == 0) + 0 * total
    return float(low), float(high), float(p_value)


def two_level_bootstrap(
    table: pd.DataFrame, *, n_resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Mean of each architecture over images and training seeds, and the difference of every two, with intervals.

    table: columns model, model_seed, sample_id, value; every network on the same images, seeds nested in models.
    Columns: model, other ("" for the mean itself, or the model that is subtracted), value, low, high, p_value (of 0), n
    (images), seeds (the fewer of the two).  Images are drawn for all networks at once.  What seeds add
    is the variance of the networks' means less what single images add to it (a random-effects analysis of variance of
    images crossed with seeds).  A model of one seed adds nothing: its interval is of this network.
    Raises ValueError where a network lacks an image or has it twice.

    >>> rows = dict(model=["cnn"] * 4, model_seed=[0, 0, 1, 1], sample_id=[3, 4, 3, 4], value=[0.0, 1.0, 0.5, 0.5])
    >>> two_level_bootstrap(pd.DataFrame(rows))[["model", "value", "n", "seeds"]].values.tolist()
    [['cnn', 0.5, 2, 2]]
    """
    if table.duplicated(["model", "model_seed", "sample_id"]).any():
        raise ValueError("a network has an image twice; choose one condition first")
    wide = table.pivot(index="sample_id", columns=["model", "model_seed"], values="value").astype(float)
    if wide.isna().any(axis=None):
        raise ValueError("the networks were not measured on the same images; choose those that all have")
    n, models, rows = len(wide), list(table["model"].unique()), []
    values = {model: wide[model].to_numpy() for model in models}
    weights = bootstrap_counts(n, n_resamples, seed).astype(float) / n
    drawn = {model: weights @ of_model.mean(1) for model, of_model in values.items()}
    added = {model: _added_by_seeds(of_model) for model, of_model in values.items()}
    for model, other in [*((model, "") for model in models), *combinations(models, 2)]:
        parts = [name for name in (model, other) if name]
        value = values[model].mean() - (values[other].mean() if other else 0)
        draws, seeds = drawn[model] - (drawn[other] if other else 0), [part for name in parts for part in added[name]]
        low, high, p_value = interval_over_seeds(value, draws, seeds, level=level, seed=seed)
        fewest = min(values[name].shape[1] for name in parts)
        rows.append((model, other, value, low, high, p_value, n, fewest))
    return pd.DataFrame(rows, columns=["model", "other", "value", "low", "high", "p_value", "n", "seeds"])


def _added_by_seeds(values: np.ndarray) -> list[tuple[float, float]]:
    """What seeds add to the variance of the mean of values [images, seeds], as `interval_over_seeds` takes it."""
    n, n_seeds = values.shape
    if n_seeds < 2:
        return []
    raw = values.mean(0).var(ddof=1) / n_seeds
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    of_images = (rest**2).sum() / ((n - 1) * (n_seeds - 1)) / (n * n_seeds) if n > 1 else 0.0
    return [(max(raw - of_images, 0.0), raw**2 / (n_seeds - 1))]


def added_by_seeds(values: np.ndarray, drawn: np.ndarray) -> list[tuple[float, float]]:
    """What seeds add to the variance of the mean of estimates that are no means over images, for `interval_over_seeds`.

    values: an estimate for each seed, [k].  drawn: the same of images that a bootstrap drew, alike for all, [r, k].
    The variance of the values less what images alone make of it.  Empty for one seed.

    >>> added_by_seeds(np.array([1.0, 4.0, 7.0]), np.array([[0.0, 3.0, 6.0], [3.0, 3.0, 3.0]]))
    [(2.25, 4.5)]
    """
    k = len(values)
    if k < 2:
        return []
    raw = values.var(ddof=1) / k
    of_images = (drawn - drawn.mean(0)).var(axis=1, ddof=1).mean() / k
    return [(float(max(raw - of_images, 0.0)), float(raw**2 / (k - 1)))]


def first_seed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first training seed that the table has of each model.

    >>> first_seed(pd.DataFrame(dict(model=["cnn", "cnn", "vit"], model_seed=[1, 0, 2])))["model_seed"].tolist()
    [1, 2]
    """
    return table[table["model_seed"] == table.groupby("model")["model_seed"].transform("first")]


def with_holm(tests: pd.DataFrame) -> pd.DataFrame:
    """The table with the column p_holm: `p_value` corrected over the rows that have one (Holm 1979).

    >>> with_holm(pd.DataFrame({"p_value": [0.01, np.nan, 0.04]}))["p_holm"].tolist()
    [0.02, nan, 0.04]
    """
    if tests.empty:
        return tests.assign(p_holm=[])
    tested = tests["p_value"].notna()
    if tested.sum() < 2:  # nothing to correct; statsmodels would collect garbage first, a third of a second
        return tests.assign(p_holm=tests["p_value"])
    from statsmodels.stats.multitest import multipletests

    corrected = multipletests(tests.loc[tested, "p_value"], method="holm")[1]
    return tests.assign(p_holm=pd.Series(corrected, index=tests.index[tested]))


def accuracy(
    table: pd.DataFrame, *, by: str | list[str] | None = None, k: int = 1, level: float = 0.95
) -> pd.DataFrame:
    """Top-k accuracy per group with its Wilson interval: columns of `by`, then n, correct, accuracy, low, high.

    by: a column or columns to group by; None for one row.  Accuracies are fractions in [0, 1].
    """
    groups = [by] if isinstance(by, str) else list(by or [])
    hit_table = table[groups].assign(hit=hits(table, k=k))
    if groups:
        counted = (
            hit_table.groupby(groups, observed=True, dropna=False)["hit"].agg(n="size", correct="sum").reset_index()
        )
    else:
        counted = pd.DataFrame({"n": [len(hit_table)], "correct": [int(hit_table["hit"].sum())]})
    low, high = wilson_interval(counted["correct"], counted["n"], level=level)
    return counted.assign(accuracy=counted["correct"] / counted["n"], low=low, high=high)


def paired_test(a: pd.DataFrame, b: pd.DataFrame) -> dict:
    """Exact McNemar test of whether model a is right more often than b on the same images.

    a, b: tables with sample_id, label, prediction; each sample_id once, the same set in both, in any order.
    Returns n, only_a and only_b (images that one alone gets right), difference (accuracy of a minus b), p_value.
    Raises ValueError when the images differ.  Source: McNemar 1947, exact binomial form.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    for table, name in ((a, "a"), (b, "b")):
        if table["sample_id"].duplicated().any():
            raise ValueError(f"table {name} holds an image twice; test one model and one condition at a time")
    paired = a.merge(b, on=["sample_id", "label"], suffixes=("_a", "_b"))
    if not len(a) == len(b) == len(paired):
        raise ValueError(
            f"the tables hold {len(a)} and {len(b)} images, {len(paired)} of them in both with the same label; "
            "a paired test needs the same images"
        )
    right_a = (paired["prediction_a"] == paired["label"]).to_numpy()
    right_b = (paired["prediction_b"] == paired["label"]).to_numpy()
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    both, neither = int((right_a & right_b).sum()), int((~right_a & ~right_b).sum())
    result = mcnemar([[both, only_a], [only_b, neither]], exact=True)
    difference = (only_a - only_b) / len(paired)
    return dict(n=len(paired), only_a=only_a, only_b=only_b, difference=difference, p_value=float(result.pvalue))


def seed_spread(values: pd.DataFrame, *, value: str = "accuracy", by: str | list[str] | None = None) -> pd.DataFrame:
    """What a training seed changes, beside what the architecture does: one row per group of `by` and model.

    values: one row per model, model_seed and group.  Columns: those of `by`, then model, n_seeds, mean, low and high
    (smallest and largest over the seeds), spread = high - low, nearest (the model whose mean is closest), gap (distance
    of the two means), separated (whether the two ranges over the seeds leave each other alone).
    A model alone in its group has no nearest one. Raises ValueError when a model has a seed twice in a group.
    """
    groups = [by] if isinstance(by, str) else list(by or [])
    keys = [*groups, "model"]
    if values.duplicated([*keys, "model_seed"]).any():
        raise ValueError(f"a model has a seed twice; name in `by` what tells the rows apart, besides {keys}")
    grouped = values.groupby(keys, sort=False)[value]
    table = grouped.agg(n_seeds="size", mean="mean", low="min", high="max").reset_index()
    table["spread"] = table["high"] - table["low"]
    table[["nearest", "gap", "separated"]] = None, np.nan, None
    for _, part in table.groupby(groups or (lambda _: 0)):
        for i, row in part.iterrows():
            gaps = (part["mean"] - row["mean"]).abs().drop(i)
            if len(gaps):
                other = part.loc[gaps.idxmin()]
                apart = bool(other["low"] > row["high"] or row["low"] > other["high"])
                table.loc[i, ["nearest", "gap", "separated"]] = other["model"], gaps.min(), apart
    return table


def in_words(
    rows: pd.DataFrame,
    value: str = "value",
    low: str = "low",
    high: str = "high",
    *,
    form: str = ".2f",
    scale: float = 1,
) -> pd.Series:
    """Each value with the ends of its interval, all times `scale`; alone where these are NaN, "–" where it is.

    >>> in_words(pd.DataFrame(dict(value=[0.3, 0.1], low=[0.2, np.nan], high=[0.4, np.nan])), form="+.1f").tolist()
    ['+0.3 [+0.2, +0.4]', '+0.1']
    """
    middle, first, last = (scale * rows[name] for name in (value, low, high))
    said = middle.map(f"{{:{form}}}".format).where(middle.notna(), "–")
    interval = first.map(f" [{{:{form}}}, ".format) + last.map(f"{{:{form}}}]".format)
    return said + interval.where(first.notna() & last.notna(), "")
