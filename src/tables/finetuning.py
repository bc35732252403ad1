"""Fine-tuning in numbers: accuracies of the conditions, paired tests between them, confusions; no torch."""

from collections.abc import Mapping

import pandas as pd

from src.tables.statistics import accuracy, paired_test, with_holm

CONDITIONS = ("linear", "full", "scratch")  # new classifier, all weights, all weights without pretraining


def by_condition(parts: Mapping[str, pd.DataFrame], model: str) -> pd.DataFrame:
    """One table of each condition's, with the columns condition (first), model and model_seed (last).

    >>> by_condition({"linear": pd.DataFrame({"epoch": [1]}), "full": pd.DataFrame({"epoch": [1]})}, "vit")
      condition  epoch model  model_seed
    0    linear      1   vit           0
    1      full      1   vit           0
    """
    table = pd.concat(parts, names=["condition"]).reset_index("condition").reset_index(drop=True)
    return table.assign(model=model, model_seed=0)


def accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """Top-1 and top-5 accuracy of each condition: condition, measure, n, correct, accuracy, low, high (fractions).

    table: one row per image and condition, with label, prediction and label_rank.

    >>> table = pd.DataFrame({"condition": "full", "label": [0, 1], "prediction": [0, 2], "label_rank": [0, 3]})
    >>> accuracies(table)[["condition", "measure", "n", "accuracy"]].values.tolist()
    [['full', 'top-1', 2, 0.5], ['full', 'top-5', 2, 1.0]]
    """
    rows = pd.concat(accuracy(table, by="condition", k=k).assign(measure=f"top-{k}") for k in (1, 5))
    rows.insert(1, "measure", rows.pop("measure"))
    order = {name: place for place, name in enumerate(CONDITIONS)}
    return rows.sort_values("condition", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """McNemar's test of "full" against each other condition: a, b, the columns of `paired_test`, and p_holm.

    >>> rows = {"sample_id": [7, 8], "label": [0, 1], "prediction": [0, 1]}
    >>> full, linear = (pd.DataFrame(rows).assign(condition=name) for name in ("full", "linear"))
    >>> comparisons(pd.concat([full, linear.assign(prediction=0)]))[["a", "b", "only_a", "difference"]].values.tolist()
    [['full', 'linear', 1, 0.5]]
    """
    parts = dict(list(table.groupby("condition")))
    others = [name for name in CONDITIONS if name in parts and name != "full"]
    tests = [dict(a="full", b=name) | paired_test(parts["full"], parts[name]) for name in others]
    return with_holm(pd.DataFrame(tests))


def confusions(table: pd.DataFrame) -> pd.DataFrame:
    """Confusions of one class with another, most frequent first: label, prediction, n, share (of the label's images).

    >>> confusions(pd.DataFrame({"label": [0, 0, 0, 1], "prediction": [0, 2, 2, 0]})).round(3).values.tolist()
    [[0.0, 2.0, 2.0, 0.667], [1.0, 0.0, 1.0, 1.0]]
    """
    wrong = table[table["label"] != table["prediction"]]
    pairs = wrong.value_counts(["label", "prediction"]).rename("n").reset_index()
    return pairs.assign(share=pairs["n"] / pairs["label"].map(table["label"].value_counts()))
