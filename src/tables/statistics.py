"""Accuracies, intervals and paired tests from tables of predictions, one row per image; no torch."""

import numpy as np
import pandas as pd
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint


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
    low, high = proportion_confint(successes, trials, alpha=1 - level, method="wilson")
    successes, trials = np.asarray(successes), np.asarray(trials)
    # rounding leaves the ends just inside
    return np.where(successes == 0, 0.0, low), np.where(successes == trials, 1.0, high)


def bootstrap_counts(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """How often each of n items is drawn in each bootstrap sample, float32 [n_resamples, n]; rows sum to n."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(np.float32)


def percentile_interval(drawn: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of what a bootstrap drew, as (low, high); draws that are NaN are left out.

    >>> [round(end, 3) for end in percentile_interval(np.arange(1001) / 1000)]
    [0.025, 0.975]
    """
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return np.nan, np.nan
    return tuple(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist())


def first_seed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first training seed that the table has of each model.

    >>> first_seed(pd.DataFrame(dict(model=["cnn", "cnn", "vit"], model_seed=[1, 0, 2])))["model_seed"].tolist()
    [1, 2]
    """
    return table[table["model_seed"] == table.groupby("model")["model_seed"].transform("first")]


def with_holm(tests: pd.DataFrame) -> pd.DataFrame:
    """The table with the column p_holm: `p_value` corrected over its rows (Holm 1979)."""
    return tests.assign(p_holm=multipletests(tests["p_value"], method="holm")[1] if len(tests) else [])


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
