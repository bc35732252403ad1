"""CKA beside other measures of similarity, from rows of `cka.measure_table`."""

import numpy as np
import pandas as pd
from scipy import special

from src.tables.cka.hsic import EXAMPLE, SIDE_A, SIDE_B, same_network  # noqa: F401 -- EXAMPLE is of the docstrings


def agreement_with_cka(measures: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Do other measures order pairs of layers as CKA does: rank correlations over pairs, within and across networks.

    measures: rows of `cka.measure_table`.  Columns: measure, pairs ("within" or "across"), spearman (the mean over
    batches), low, high (Student's t over batches, NaN for one), n (pairs of different layers), null (the mean value of
    the measure for shuffled images).

    >>> table = pd.DataFrame(EXAMPLE | dict(batch=0, index_b=[0, 1], value=[0.2, 0.9], null=0.1))
    >>> table = pd.concat([table.assign(measure="CKA"), table.assign(measure="SVCCA", value=table["value"] ** 2)])
    >>> agreement_with_cka(table)[["measure", "pairs", "spearman", "n"]].round(3).values.tolist()
    [['SVCCA', 'across', 1.0, 2]]
    """
    from scipy.stats import spearmanr  # a second to import

    own, rows = same_network(measures), []
    for where, chosen in (("within", own & (measures["index_a"] != measures["index_b"])), ("across", ~own)):
        part = measures[chosen]
        if part.empty:
            continue
        wide = part.pivot(index=["batch", *SIDE_A, *SIDE_B], columns="measure", values="value")
        null = part.groupby("measure")["null"].mean()
        for name in wide.columns.drop("CKA"):
            values = np.array([spearmanr(b["CKA"], b[name]).statistic for _, b in wide.groupby("batch")])
            low, high = _t_interval(values, level)
            rows.append((name, where, values.mean(), low, high, len(wide) // len(values), null[name]))
    return pd.DataFrame(rows, columns=["measure", "pairs", "spearman", "low", "high", "n", "null"])


def beyond_chance(measures: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """How alike two different networks are by each measure: the mean over pairs of layers of (value - null)/(1 - null).

    0 is what shuffled images give, 1 is the same up to what the measure does not see; pairs whose shuffled images are
    the same already are left out.  Columns: measure, model_a, model_b, value (mean over batches), low, high (t interval
    over batches, NaN for one).

    >>> beyond_chance(pd.DataFrame(EXAMPLE | dict(measure="CKA", value=0.6, null=0.2)))["value"].round(3).tolist()
    [0.5]
    """
    across = measures[measures["model_a"] != measures["model_b"]]
    room = (1 - across["null"]).where(across["null"] < 1 - 1e-9)  # so few images that shuffled ones are the same too
    excess = (across["value"] - across["null"]) / room
    keys = ["measure", "model_a", "model_b"]
    by_batch = across.assign(excess=excess).groupby([*keys, "batch"], sort=False)["excess"].mean()
    rows = []
    for key, values in by_batch.groupby(keys, sort=False):
        rows.append((*key, values.mean(), *_t_interval(values.to_numpy(), level)))
    return pd.DataFrame(rows, columns=[*keys, "value", "low", "high"])


def _t_interval(values: np.ndarray, level: float) -> tuple[float, float]:
    if len(values) < 2:
        return float("nan"), float("nan")
    half = special.stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half
