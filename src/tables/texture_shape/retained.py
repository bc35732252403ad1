"""Accuracy on manipulated images beside that on clean ones, and how far it drives two models apart."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from src.tables.statistics import accuracy, percentile_interval, with_holm
from src.tables.texture_shape.pairing import ratio, wide, with_clean


def retained_accuracy(
    table: pd.DataFrame,
    *,
    by: Sequence[str] = ("model", "condition", "level"),
    n_resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Accuracy on manipulated images over that of the same model on the same images as they are, per group of `by`.

    Columns: those of `by`, n, clean, accuracy, retained = accuracy / clean, low, high (of `retained`, bootstrap over
    images).  by: must hold model, and model_seed where there are several.  Raises ValueError when an image has no
    clean row.  Source: the curves of Naseer et al. 2021, figures 2 and 5.

    >>> clean = pd.DataFrame({"sample_id": range(4), "label": 1, "prediction": [1, 1, 0, 0], "condition": "clean"})
    >>> table = pd.concat([clean, clean.assign(condition="edges", prediction=[1, 0, 0, 0])])
    >>> retained_accuracy(table.assign(model="cnn", level=1))[["clean", "accuracy", "retained"]].to_numpy().tolist()
    [[0.5, 0.25, 0.5]]
    """
    groups, rows = list(by), []
    for key, part in with_clean(table).groupby(groups, sort=False):
        n = len(part)
        cells = [int(((part["clean"] == c) & (part["right"] == r)).sum()) for c, r in ((1, 1), (1, 0), (0, 1), (0, 0))]
        drawn = np.random.default_rng(seed).multinomial(n, np.array(cells) / n, size=n_resamples)
        low, high = percentile_interval(ratio(drawn[:, 0] + drawn[:, 2], drawn[:, 0] + drawn[:, 1]), level=level)
        clean, right = part["clean"].mean(), part["right"].mean()
        facts = dict(n=n, clean=clean, accuracy=right, retained=ratio(right, clean), low=low, high=high)
        rows.append(dict(zip(groups, key, strict=True)) | facts)
    return pd.DataFrame(rows)


def accuracy_beside_clean(table: pd.DataFrame, *, by: list[str]) -> pd.DataFrame:
    """Accuracy on manipulated images as of `statistics.accuracy`, and `clean`: that on the same images as they are.

    >>> clean = pd.DataFrame({"model": "cnn", "sample_id": range(4), "label": 1, "prediction": 1, "condition": "clean"})
    >>> table = pd.concat([clean, clean.assign(condition="edges", prediction=[1, 0, 0, 0])])
    >>> accuracy_beside_clean(table, by=["condition"])[["condition", "n", "accuracy", "clean"]].to_numpy().tolist()
    [['edges', 4, 0.25, 1.0]]
    """
    paired = with_clean(table)
    return accuracy(paired, by=by).merge(paired.groupby(by)["clean"].mean().reset_index(), on=by)


def separation(table: pd.DataFrame) -> pd.DataFrame:
    """Distance to which each manipulation drives every two models apart, beyond that on clean images.

    table: one training seed.  Columns: condition, level, a, b, n, difference (accuracy of a minus b, manipulated),
    excess (difference minus that on the same images when clean), p_value (exact, two-sided), p_holm (Holm 1979, over
    all rows).  Largest excess first.  The test: were the models alike in what they lose, each image's difference of
    losses would be as likely of the other sign.  Where both are right on all clean images it is McNemar's.

    >>> clean = pd.DataFrame({"sample_id": range(4), "label": 1, "prediction": 1, "condition": "clean", "level": 0})
    >>> edges = clean.assign(condition="edges", level=1)
    >>> table = pd.concat([clean, edges]).assign(model="cnn")
    >>> other = pd.concat([clean, edges.assign(prediction=[0, 0, 0, 1])]).assign(model="mlp")
    >>> separation(pd.concat([table, other]))[["a", "b", "excess", "p_value"]].round(3).to_numpy().tolist()
    [['cnn', 'mlp', 0.75, 0.25]]
    """
    columns = ["condition", "level", "a", "b", "n", "difference", "excess", "p_value", "p_holm"]
    rows = []
    paired = with_clean(table)
    paired["value"] = paired["right"].astype(int) - paired["clean"].astype(int)
    for (condition, level), part in paired.groupby(["condition", "level"], sort=False):
        losses, right = wide(part, "sample_id"), wide(part.assign(value=part["right"].astype(int)), "sample_id")
        for a, b in combinations(losses.columns, 2):
            differences = (losses[a] - losses[b]).to_numpy()
            facts = dict(difference=(right[a] - right[b]).mean(), excess=differences.mean())
            key = dict(condition=condition, level=level, a=a, b=b, n=len(losses))
            rows.append(key | facts | dict(p_value=sign_flip_test(differences)))
    ranked = with_holm(pd.DataFrame(rows)).reindex(columns=columns)  # of one model alone there is nothing to compare
    return ranked.sort_values("excess", key=abs, ascending=False, kind="stable", ignore_index=True)


def sign_flip_test(differences: np.ndarray) -> float:
    """Exact two-sided p-value of a sum of whole numbers, each as likely of either sign; 1 if all are 0.

    The distribution of the sum is the convolution of one binomial for each size that occurs (Fisher 1935).

    >>> round(sign_flip_test(np.array([1, 1, 1, 0])), 3)  # + + + or - - - of eight
    0.25
    """
    from scipy.stats import binom  # a second to import

    differences = np.asarray(differences)
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    masses, reach = np.ones(1), 0
    for size, count in zip(sizes.astype(int), counts, strict=True):
        steps = np.zeros(2 * size * count + 1)  # sums from -size · count to size · count, in steps of 2 · size
        steps[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        masses, reach = np.convolve(masses, steps), reach + size * count
    sums = np.abs(np.arange(-reach, reach + 1))
    return float(min(1.0, masses[sums >= abs(differences.sum())].sum()))
