"""Transfer: how often what fools one network fools another."""

import pandas as pd

from src.tables.statistics import wilson_interval

TRANSFER_STEPS = 10  # of PGD and MI-FGSM


def summarise_transfer(predictions: pd.DataFrame) -> pd.DataFrame:
    """Success of each attack, source and target on the images that both classify correctly when clean.

    predictions: of `attacks.transfer_predictions`.
    Columns: attack, eps, source, target, n (such images), fooled, success = fooled / n, low, high (Wilson, 95 %).

    >>> pair = dict(attack="pgd", eps=0.1, source="a", target="b", label=3, source_clean=3, target_clean=[3, 3, 5])
    >>> summarise_transfer(pd.DataFrame(pair | dict(prediction=[3, 4, 4])))[["n", "fooled", "success"]].values.tolist()
    [[2.0, 1.0, 0.5]]
    """
    label = predictions["label"]
    both = predictions[(predictions["source_clean"] == label) & (predictions["target_clean"] == label)]
    fooled = (both["prediction"] != both["label"]).rename("fooled")
    keys = ["attack", "eps", "source", "target"]
    table = fooled.groupby([both[key] for key in keys], sort=False).agg(n="size", fooled="sum").reset_index()
    low, high = wilson_interval(table["fooled"], table["n"])
    return table.assign(success=table["fooled"] / table["n"], low=low, high=high)
