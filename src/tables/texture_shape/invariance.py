"""Invariance counted: how often a prediction survives a shift, a turn, a change of size, a flip."""

import numpy as np
import pandas as pd

from src.tables.statistics import wilson_interval
from src.tables.texture_shape.levels import TRANSFORMATIONS

_COUNTED = ("n", "same", "kept", "low", "high", "chance")


def predictions_kept(table: pd.DataFrame, *, by: tuple[str, ...] = ("model", "model_seed")) -> pd.DataFrame:
    """Share of images whose prediction is the one they had before, right or wrong, per network and transformation.

    table: of `predict_images`; other conditions than TRANSFORMATIONS and "clean" are left aside.
    Columns: those of `by`, condition, level, n, same, kept = same / n, low, high (Wilson), chance (of as many
    predictions of each class, were they made without regard to the image).
    Raises ValueError when an image has no clean row.  Source: Azulay & Weiss 2019, section 2, of the top class.

    >>> clean = pd.DataFrame(dict(model="cnn", model_seed=0, sample_id=range(4), prediction=[0, 0, 1, 1], level=0.0))
    >>> clean = clean.assign(condition="clean")
    >>> shifted = clean.assign(condition="shift", level=1.0, prediction=[0, 0, 1, 0])
    >>> predictions_kept(pd.concat([clean, shifted]))[["n", "same", "kept", "chance"]].to_numpy().tolist()
    [[4.0, 3.0, 0.75, 0.5]]
    """
    networks, rows, changed = list(by), [], with_before(table, by=by)
    for key, part in changed.groupby([*networks, "condition", "level"], sort=False):
        n, same = len(part), int((part["prediction"] == part["before"]).sum())
        shares = [part[name].value_counts(normalize=True) for name in ("prediction", "before")]
        low, high = wilson_interval(same, n)
        facts = dict(n=n, same=same, kept=same / n, low=float(low), high=float(high))
        chance = float(np.sum(shares[0].mul(shares[1], fill_value=0)))
        rows.append(dict(zip([*networks, "condition", "level"], key, strict=True)) | facts | dict(chance=chance))
    return pd.DataFrame(rows, columns=[*networks, "condition", "level", *_COUNTED])


def with_before(table: pd.DataFrame, *, by: tuple[str, ...] = ("model", "model_seed")) -> pd.DataFrame:
    """The rows of transformed images with `before`: the same network's prediction of the image as it is.

    Raises ValueError when an image has no clean row.
    """
    clean = table.loc[table["condition"] == "clean", [*by, "sample_id", "prediction"]]
    before = clean.rename(columns={"prediction": "before"})
    changed = table[table["condition"].isin(TRANSFORMATIONS)].merge(before, on=[*by, "sample_id"], how="left")
    if missing := int(changed["before"].isna().sum()):
        raise ValueError(f"{missing} transformed rows have no row of condition 'clean' for their network and image")
    return changed
