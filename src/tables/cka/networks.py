"""Agreement of whole networks: means of CKA over pairs of layers, and their differences."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.tables.cka.hsic import EXAMPLE, between, estimates  # noqa: F401 -- EXAMPLE is of the docstrings
from src.tables.statistics import percentile_interval


def drawn_mean(hsic: pd.DataFrame, *, n_resamples: int = 1000, seed: int = 0) -> tuple[float, np.ndarray]:
    """Mean CKA over all pairs of layers in the table, and that of minibatches drawn anew, [n_resamples].

    One seed draws the same minibatches for tables that have the same, so that differences of two are paired.

    >>> value, drawn = drawn_mean(pd.DataFrame(EXAMPLE), n_resamples=2)
    >>> round(value, 2), drawn.shape
    (0.4, (2,))
    """
    _, cka, drawn, _ = estimates(hsic, n_resamples, seed)
    return float(np.nanmean(cka)), np.nanmean(drawn, axis=1)


def mean_with_others(
    hsic: pd.DataFrame, models: Sequence[str], *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """How alike a trained network is to those of other names: mean CKA over all pairs of layers with each, then over
    them.  Columns: model, model_seed, value, low, high (bootstrap over minibatches), n (images).

    >>> mean_with_others(pd.DataFrame(EXAMPLE), ["mlp", "cnn"])[["model", "value", "n"]].round(3).values.tolist()
    [['mlp', 0.4, 128], ['cnn', 0.4, 128]]
    """
    table, cka, drawn, n = estimates(hsic, n_resamples, seed)
    names, kinds, seeds = (table[[f"{what}_a", f"{what}_b"]].to_numpy() for what in ("model", "kind", "seed"))
    among = np.isin(names, list(models)).all(1) & (kinds == "trained").all(1) & (names[:, 0] != names[:, 1])
    rows = []
    for model in models:
        for model_seed in sorted({int(s) for s in seeds[among][names[among] == model]}):
            own = among & ((names == model) & (seeds == model_seed)).any(1)
            other = np.where(names[own, 0] == model, names[own, 1], names[own, 0])
            shares = np.array([1 / (other == name).sum() for name in other]) / len(set(other))
            low, high = percentile_interval(drawn[:, own] @ shares, level=level)
            rows.append((model, model_seed, cka[own] @ shares, low, high, n))
    return pd.DataFrame(rows, columns=["model", "model_seed", "value", "low", "high", "n"])
