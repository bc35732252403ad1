"""What the tables of `src.attacks` say: curves, smallest breaking radii, transfer, the attack's reach; no torch."""

import numpy as np
import pandas as pd

from src.tables.statistics import wilson_interval

# the radii of the 2023 report, and those that the field compares at
FGSM_GRID = tuple(np.linspace(0, 0.25, 21).round(6).tolist())
PGD_GRID = tuple(np.linspace(0, 0.0229, 12).round(6).tolist())
LINF_GRID = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
L2_GRID = (0.0, 0.25, 0.5, 1.0)


def cumulative(curve: pd.DataFrame, *, k: int = 1) -> pd.DataFrame:
    """The curve with every image, once broken, broken at all larger radii too: it keeps the row of its first break."""
    table = curve.sort_values(["sample_id", "eps"], kind="stable", ignore_index=True)
    broken = table["label_rank"] >= k
    first = table["eps"].where(broken).groupby(table["sample_id"]).transform("min")
    after = broken.groupby(table["sample_id"]).cummax() & (table["eps"] > first)
    facts = [name for name in ("prediction", "confidence", "label_rank", "distance") if name in table]
    kept = table[facts].where(table["eps"] == first).groupby(table["sample_id"]).ffill()
    for name in facts:
        table[name] = table[name].where(~after, kept[name]).astype(table[name].dtype)
    return table


def breaking_radius(curve: pd.DataFrame, *, k: int = 1) -> pd.DataFrame:
    """Of each image the smallest radius of the grid at which it was broken, inf if at none: sample_id, label, eps."""
    broken = curve["eps"].where(curve["label_rank"] >= k, np.inf)
    return broken.groupby([curve["sample_id"], curve["label"]]).min().rename("eps").reset_index()


def summarise_transfer(predictions: pd.DataFrame) -> pd.DataFrame:
    """Success of each attack, source and target on the images that both classify correctly when clean.

    Columns: attack, eps, source, target, n (such images), fooled, success = fooled / n, low, high (Wilson, 95 %).
    """
    label = predictions["label"]
    both = predictions[(predictions["source_clean"] == label) & (predictions["target_clean"] == label)]
    fooled = (both["prediction"] != both["label"]).rename("fooled")
    keys = ["attack", "eps", "source", "target"]
    table = fooled.groupby([both[key] for key in keys], sort=False).agg(n="size", fooled="sum").reset_index()
    low, high = wilson_interval(table["fooled"], table["n"])
    return table.assign(success=table["fooled"] / table["n"], low=low, high=high)
