"""Rows beside each other, manipulated and clean, model and model; ratios and p-values of what is drawn."""

import numpy as np
import pandas as pd

from src.tables.statistics import hits

AMONG = ("own", "all models", "all pairs")  # which pairs count


def with_clean(table: pd.DataFrame) -> pd.DataFrame:
    """The manipulated rows with `right`, and `clean`: whether the same model is right on the same image as it is."""
    keys = ["model", "sample_id"] + (["model_seed"] if "model_seed" in table else [])
    right = table.assign(right=hits(table))
    clean = right.loc[right["condition"] == "clean", [*keys, "right"]].rename(columns={"right": "clean"})
    if clean.duplicated(keys).any():
        raise ValueError("an image has two clean rows of one model; name the models apart, by model and model_seed")
    paired = right[right["condition"] != "clean"].merge(clean, on=keys, how="left")
    missing = int(paired["clean"].isna().sum())
    if missing:
        raise ValueError(f"{missing} manipulated rows have no row of condition 'clean' for their model and image")
    return paired.assign(clean=paired["clean"].astype(bool))


def wide(table: pd.DataFrame, index: str) -> pd.DataFrame:
    """`value` with a row for each image or pair and a column for each model; ValueError unless all models have all."""
    if table.duplicated([index, "model"]).any():
        raise ValueError(f"a model has a {index} twice; compare one kind of conflict and one training seed at a time")
    table = table.pivot(index=index, columns="model", values="value")[list(dict.fromkeys(table["model"]))]
    if table.isna().any(axis=None):
        raise ValueError(f"the columns {list(table.columns)} do not have the same {index}s; a paired test needs that")
    return table


def counted(table: pd.DataFrame, among: str) -> pd.Series:
    """Whether each cue conflict counts, for one model: a mask of the table's rows; `among` as of AMONG.

    By "own" the pairs count whose two images the row's network classifies correctly as they are, by "all models" those
    that every network of the table does, by "all pairs" all.  A table without a column clean_right, as of decision
    rules or of older code, which chose its pairs right for all models, counts whole.

    >>> table = pd.DataFrame(dict(model=["mlp", "cnn"], pair=0, clean_right=[False, True]))
    >>> [counted(table, among).tolist() for among in AMONG]
    [[False, True], [False, False], [True, True]]
    """
    if among not in AMONG:
        raise ValueError(f"among must be {', '.join(map(repr, AMONG))}, not {among!r}")
    if among == "all pairs" or "clean_right" not in table:
        return pd.Series(True, table.index)
    if among == "own":
        return table["clean_right"]
    keys = [name for name in ("condition", "level", "painter", "pair") if name in table]
    return table.groupby(keys)["clean_right"].transform("all")


def ratio(part, whole):
    """part / whole, NaN where whole is 0."""
    whole = np.asarray(whole, float)
    shares = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return shares if shares.ndim else float(shares)


def two_sided(drawn: np.ndarray) -> float:
    """Two-sided p-value: how often the bootstrap lands on the rarer side of 0, doubled."""
    drawn = drawn[~np.isnan(drawn)]
    rarer = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(drawn) + 1)))
