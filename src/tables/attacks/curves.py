"""Accuracy along the radius: grids, curves, breaking radii, and comparisons of models."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from src.results import load_tables, table_path
from src.tables.statistics import accuracy, paired_test, with_holm

# radii of the 2023 report, and those that the field compares at
FGSM_GRID = tuple(np.linspace(0, 0.25, 21).round(6).tolist())
PGD_GRID = tuple(np.linspace(0, 0.0229, 12).round(6).tolist())
LINF_GRID = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
ENSEMBLE_255 = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # radii of the ensemble, in 1/255
L2_GRID = (0.0, 0.25, 0.5, 1.0)


def stored_curves(folder: str | Path, models: Sequence[str]) -> pd.DataFrame:
    """Stored curves of the models and, where there is one, of `cnn_robust`: one row per image, condition and radius.

    Raises FileNotFoundError, which names the notebook to run, for a model without a table.
    """
    robust = ["cnn_robust"] if table_path(folder, "02_attacks", "cnn_robust").exists() else []
    return load_tables(folder, "02_attacks", dict.fromkeys([*models, *robust]))


def _images(curve: pd.DataFrame) -> list[str]:
    return [name for name in ("model", "model_seed", "condition", "sample_id") if name in curve]


def cumulative(curve: pd.DataFrame, *, k: int = 1) -> pd.DataFrame:
    """The curve, sorted by image and radius, with every image broken at all radii from its first break on.

    k: an image is broken when its label is not among the top k.  Later rows repeat prediction, confidence, label_rank
    and distance of the first break.

    >>> curve = pd.DataFrame(dict(sample_id=7, eps=[0.0, 0.1, 0.2], label_rank=[0, 3, 0]))
    >>> cumulative(curve)["label_rank"].tolist()
    [0, 3, 3]
    """
    table = curve.sort_values([*_images(curve), "eps"], kind="stable", ignore_index=True)
    row = pd.Series(np.arange(len(table)))
    first = row.where(table["label_rank"] >= k).groupby([table[name] for name in _images(table)]).transform("min")
    facts = [name for name in ("prediction", "confidence", "label_rank", "distance") if name in table]
    table[facts] = table[facts].iloc[np.fmin(row, first).astype(int)].reset_index(drop=True)
    return table


def breaking_radius(curve: pd.DataFrame, *, k: int = 1) -> pd.DataFrame:
    """Smallest radius of the grid that breaks each image, inf for none: sample_id, label, eps, after model and seed.

    >>> curve = pd.DataFrame(dict(sample_id=[1, 1, 2, 2], label=0, eps=[0.0, 0.1] * 2, label_rank=[0, 4, 0, 0]))
    >>> breaking_radius(curve)["eps"].tolist()
    [0.1, inf]
    """
    radii = curve["eps"].where(curve["label_rank"] >= k, np.inf)
    keys = [curve[name] for name in [*_images(curve), "label"]]
    return radii.groupby(keys, sort="model" not in curve).min().rename("eps").reset_index()


def compare_models(table: pd.DataFrame, *, by: str = "eps") -> pd.DataFrame:
    """McNemar's test of every two models on the same images: a row for each pair and value of `by`.

    table: predictions with one training seed of each model.  Columns: `by`, a, b, those of `paired_test`, and p_holm,
    corrected over all rows.  Empty for one model alone.

    >>> table = pd.DataFrame(dict(eps=0.1, sample_id=[0, 1] * 2, label=1, prediction=[1, 1, 1, 0], model=list("ccmm")))
    >>> compare_models(table)[["a", "b", "difference", "p_holm"]].values.tolist()
    [['c', 'm', 0.5, 1.0]]
    """
    rows = []
    for value, part in table.groupby(by):
        of = dict(list(part.groupby("model", sort=False)))
        rows += [{by: value, "a": a, "b": b} | paired_test(of[a], of[b]) for a, b in combinations(of, 2)]
    columns = [by, "a", "b", "n", "only_a", "only_b", "difference", "p_value"]
    return with_holm(pd.DataFrame(rows, columns=columns))


def less_printed(curves: pd.DataFrame, printed: pd.DataFrame, *, model: str) -> pd.DataFrame:
    """Accuracies of a network that the 2023 report has too, less those that it printed: condition, eps, n, difference.

    curves: stored curves of that network on one data set.  printed: `load_published("adversarial")`.  model: the name
    that the report gives it.  Radii that one of the two lacks are left out.
    """
    measured = accuracy(curves, by=["dataset", "condition", "eps"]).round({"eps": 6})
    theirs = printed[printed["model"] == model].round({"eps": 6})
    both = measured.merge(theirs, on=["dataset", "condition", "eps"], suffixes=("", "_printed"))
    both["difference"] = both["accuracy"] - both["accuracy_printed"]
    return both[["condition", "eps", "n", "difference"]]
