"""Differences between two folders of tables, from the rows of `tables.compare`."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plotting.style import COLUMN_WIDTH, error_bars
from src.tables.compare import EACH, label_of, largest
from src.tables.compare.samples import MEASURES

DIFFERS, ALIKE, UNTESTED = "#D55E00", "#777777", "#0072B2"
PAPER = dict(facecolor="white", edgecolor="none", pad=0.3)  # behind a label, over the line at 0
HEIGHT = 0.27  # inches of a row: its label, and the interval below


def differences(rows: pd.DataFrame, *, at_most: int = 15) -> Figure:
    """The largest differences of one experiment, B less A with 95 % intervals; an axis for each unit.

    rows: of `tables.compare.compare` for one experiment.  Those that differ come first, coloured; of all radii or
    levels of a condition the largest is shown.  Raises ValueError where every difference is 0.
    """
    units = {unit: part for unit, part in rows.groupby(rows["measure"].map(_unit), sort=False)}
    shown = {unit: found for unit, part in units.items() if len(found := largest(part, at_most, each=EACH))}
    if not shown:
        raise ValueError("every difference is 0; there is nothing to draw")
    heights = [HEIGHT * len(part) + 0.75 for part in shown.values()]
    figure, axes = plt.subplots(
        len(shown), 1, figsize=(COLUMN_WIDTH, sum(heights)), height_ratios=heights, squeeze=False
    )
    for ax, (unit, part) in zip(axes.flat, shown.items(), strict=True):
        _axis(part, ax, of=int(units[unit]["difference"].notna().sum()))
    return figure


def _unit(measure: str) -> str:
    return MEASURES[measure].unit


def _axis(rows: pd.DataFrame, ax: Axes, *, of: int) -> None:
    how = MEASURES[rows["measure"].iloc[0]]
    bars = error_bars(rows, "difference", scale=how.scale)
    for place, (_, row) in enumerate(rows.iterrows()):
        tested = pd.notna(row["p_holm"])
        color = DIFFERS if row["differs"] else ALIKE if tested else UNTESTED
        look = dict(color=color, marker="o", markersize=3.5, elinewidth=1.2, mfc=color if row["differs"] else "white")
        ax.errorbar(how.scale * row["difference"], place, xerr=bars[:, [place]], **look)
        ax.annotate(
            label_of(row),
            (0, place - 0.3),
            xycoords=("axes fraction", "data"),
            fontsize=6.3,
            va="bottom",
            color="0.25",
            bbox=PAPER,
        )
    ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set_ylim(len(rows) - 0.5, -0.9)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.margins(x=0.08)
    ax.set_xlabel(f"B − A{f', {how.unit}' if how.unit else ''}")
    ax.set_title(f"{len(rows)} of {of:,} rows: the largest of each condition", loc="left", fontsize=7)
