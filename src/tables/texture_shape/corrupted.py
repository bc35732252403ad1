"""Corruption error summed up: what the corruptions cost a network, beyond what it errs on clean images."""

import numpy as np
import pandas as pd

from src.tables.statistics import bootstrap_counts, percentile_interval
from src.tables.texture_shape.levels import CORRUPTIONS
from src.tables.texture_shape.pairing import with_clean

KEYS = ["model", "model_seed"]


def corruption_errors(
    table: pd.DataFrame, *, n_resamples: int = 2_000, seed: int = 0, level: float = 0.95
) -> pd.DataFrame:
    """Mean corruption error of each network, and the same less its clean error: a row for each.

    table: of `predict_images`; the same images under every corruption and severity, for all networks.
    Columns: model, model_seed, n, clean (error on the same images), mce, mce_low, mce_high, relative = mce - clean,
    relative_low, relative_high.  Errors are shares, means over the severities, then over the corruptions; bootstrap
    over images, the same ones for all networks.  Raises ValueError when a network lacks an image or severity.
    Source: mCE and relative mCE of Hendrycks & Dietterich 2019, section 4.1, but not divided by a reference network's:
    a network that loses nothing under one corruption, as the study's MLP when images get brighter, would divide by 0.

    >>> clean = pd.DataFrame(dict(model="cnn", model_seed=0, sample_id=range(4), label=1, prediction=[1, 1, 1, 0]))
    >>> fog = clean.assign(condition="fog", level=1.0, prediction=[1, 1, 0, 0])
    >>> table = pd.concat([clean.assign(condition="clean", level=0.0), fog])
    >>> corruption_errors(table)[["clean", "mce", "relative"]].to_numpy().tolist()
    [[0.25, 0.5, 0.25]]
    """
    paired = with_clean(table[table["condition"].isin(["clean", *CORRUPTIONS])])
    _check_whole(paired)
    rows = []
    for key, part in paired.groupby(KEYS, sort=False):
        right = part.groupby(["sample_id", "condition"])["right"].mean().unstack()
        wrong = np.stack([1 - right.mean(axis=1), 1 - part.groupby("sample_id")["clean"].mean()])
        draws = bootstrap_counts(len(right), n_resamples, seed) / len(right)
        mce, clean = (draws @ values for values in wrong)
        facts = dict(n=len(right), clean=wrong[1].mean())
        for name, observed, drawn in (("mce", wrong[0], mce), ("relative", wrong[0] - wrong[1], mce - clean)):
            low, high = percentile_interval(drawn, level=level)
            facts |= {name: observed.mean(), f"{name}_low": low, f"{name}_high": high}
        rows.append(dict(zip(KEYS, key, strict=True)) | facts)
    return pd.DataFrame(rows)


def _check_whole(paired: pd.DataFrame) -> None:
    """Raise unless every network saw every image once at every corruption and severity that there is."""
    if paired.empty:
        raise ValueError(f"the table has no corruptions; there are {', '.join(CORRUPTIONS)}")
    seen = paired.groupby([*KEYS, "condition", "level", "sample_id"]).size()
    networks, images = paired[KEYS].drop_duplicates(), paired["sample_id"].nunique()
    conditions = paired[["condition", "level"]].drop_duplicates()
    if (seen != 1).any() or len(seen) != len(networks) * len(conditions) * images:
        raise ValueError("the networks did not see the same images, each once, at all corruptions and severities")
