"""Ranks from paired tests, all axes and pairs of models in one Holm family, and what they say in words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.tables.profile.axes import AXES
from src.tables.statistics import with_holm

LEVEL = 0.05  # of Holm's test
TESTS = ["axis", "label", "a", "b", "difference", "low", "high", "p_value", "p_holm", "n", "of", "seeds"]
SUMMARY = ["axis", "label", "model", "value", "low", "high", "n", "of", "seeds", "seed_low", "seed_high", "chance"]


def paired_tests(table: pd.DataFrame) -> pd.DataFrame:
    """A row for every two models on each axis that has a better side: TESTS; table: of `profile`.

    difference: a less b, over all training seeds, with its 95 % interval.  p_holm: p_value corrected over all rows, one
    family (Holm 1979); NaN where nothing could be tested.
    """
    rows = table[(table["other"] != "") & (_better(table) != 0)].reset_index(drop=True)
    rows = rows.rename(columns={"model": "a", "other": "b", "value": "difference"})
    return with_holm(rows)[TESTS]


def summarise(table: pd.DataFrame, models: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row for each axis and model, SUMMARY and rank; and the tests that ranks come from (`paired_tests`).

    table: of `profile`.  value, low, high: over all training seeds; seed_low, seed_high: the range over them.  A rank
    is 1 and how many others are surely better (p_holm below LEVEL), NaN where neither way is better.  Models that no
    test parts share one; a model may share its rank with two that a test does part, as parted they need not be in turn.
    """
    tests = paired_tests(table)
    sure = tests[tests["p_holm"] < LEVEL]
    ahead = sure["difference"] * _better(sure) > 0
    behind = sure.assign(model=sure["b"].where(ahead, sure["a"])).groupby(["axis", "model"]).size()
    summary = table[(table["other"] == "") & table["model"].isin(models)].reset_index(drop=True)
    order = {model: place for place, model in enumerate(models)}
    axes = {name: place for place, name in enumerate(table["axis"].unique())}
    places = pd.DataFrame(dict(axis=summary["axis"].map(axes), model=summary["model"].map(order)), index=summary.index)
    summary = summary.loc[places.sort_values(["axis", "model"]).index, SUMMARY].reset_index(drop=True)
    ranks = 1 + behind.reindex(pd.MultiIndex.from_frame(summary[["axis", "model"]]), fill_value=0).to_numpy(float)
    return summary.assign(rank=np.where(_better(summary) != 0, ranks, np.nan)), tests


def as_text(summary: pd.DataFrame, *, names: dict[str, str] | None = None) -> pd.DataFrame:
    """For print: a row for each axis, a column for each model (value, interval, range over seeds, rank), chance, n."""
    names, cells = names or {}, {}
    for name, part in summary.groupby("axis", sort=False):
        axis, row = AXES[name], {}
        label = axis.title(part["label"].iloc[0]) + {1: " ↑", -1: " ↓", 0: ""}[axis.better]
        for of in part.itertuples():
            first, last = (_shown(x, name) for x in (of.seed_low, of.seed_high))
            seeds = f"; seeds {first} to {last}" if of.seeds > 1 else ""
            rank = f" (rank {of.rank:g})" if axis.better else ""
            row[names.get(of.model, of.model)] = f"{_with_interval(of.value, of, name)}{seeds}{rank}"
        cells[label] = row | dict(chance=_chance(part, name), n=counted(part))
    return pd.DataFrame.from_dict(cells, orient="index").rename_axis("axis").fillna("")


def paired_as_text(tests: pd.DataFrame, *, names: dict[str, str] | None = None) -> pd.DataFrame:
    """For print: a row for each test: axis, the two models, difference with interval, p as it is and after Holm, n."""
    names, rows = names or {}, []
    for test in tests.itertuples():
        axis, a, b = AXES[test.axis], names.get(test.a, test.a), names.get(test.b, test.b)
        unit = "points" if axis.unit == "%" else axis.unit
        found = {"difference [95 %]": _with_interval(test.difference, test, test.axis), "unit": unit}
        found |= {"p": _p(test.p_value), "p, Holm": _p(test.p_holm), "n": counted(tests.loc[[test.Index]])}
        rows.append(dict(axis=test.label, models=f"{a} less {b}") | found)
    return pd.DataFrame(rows, columns=["axis", "models", "difference [95 %]", "unit", "p", "p, Holm", "n"])


def counted(rows: pd.DataFrame) -> str:
    """What the rows of an axis rest on: n of what, one number where all have it, and seeds where there are several.

    >>> counted(pd.DataFrame(dict(n=[5000, 4000], of="images", seeds=[3, 1])))
    '5,000 / 4,000 images, 3 / 1 seeds'
    """
    n, seeds = ([f"{number:,.0f}" for number in rows[name]] for name in ("n", "seeds"))
    n, seeds = (" / ".join(values if len(set(values)) > 1 else values[:1]) for values in (n, seeds))
    return f"{n} {rows['of'].iloc[0]}" + f", {seeds} seeds" * (seeds != "1")


def sentences(summary: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """A sentence for each axis: who no other is surely better than, how far apart the ends are, what seeds change.

    names: of the models, in the order of the summary.
    """
    labels, said = dict(zip(summary["model"].unique(), names, strict=True)), []
    for name, part in summary.groupby("axis", sort=False):
        axis, first = AXES[name], " and ".join(labels[model] for model in part.loc[part["rank"] == 1, "model"])
        gap, spread = part["value"].max() - part["value"].min(), (part["seed_high"] - part["seed_low"]).max()
        seeds = f"; seeds of one architecture differ by up to {axis.scale * spread:.2g}" * bool(part["seeds"].max() > 1)
        best = f"best {first}; " if part["rank"].max() > 1 else "no test parts them; "
        ends = f"from end to end {axis.scale * gap:.3g} {axis.unit}".rstrip()
        said.append(f"{part['label'].iloc[0]}: {best if axis.better else ''}{ends}{seeds}.")
    return said


def _better(table: pd.DataFrame) -> np.ndarray:
    return np.array([AXES[name].better for name in table["axis"]], dtype=int)


def _shown(value: float, axis: str) -> str:
    scale = AXES[axis].scale
    return f"{value:.3g}" if scale == 1 else f"{scale * value:.1f}"


def _with_interval(value: float, row, axis: str) -> str:
    """A number with the row's interval, where it has one: a run of one minibatch has none of CKA."""
    ends = "" if pd.isna(row.low) else f" [{_shown(row.low, axis)}, {_shown(row.high, axis)}]"
    return f"{_shown(value, axis)}{ends}"


def _p(value: float) -> str:
    return "not tested" if pd.isna(value) else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _chance(part: pd.DataFrame, axis: str) -> str:
    """The chance of an axis, once where it is the same for all models, in the order of the models elsewhere."""
    values = dict.fromkeys("none" if pd.isna(x) else _shown(x, axis) for x in part["chance"])
    return " / ".join(values) if len(values) == 1 else " / ".join(_shown(x, axis) for x in part["chance"])
