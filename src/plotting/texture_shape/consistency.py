"""Figure of error consistency: which networks fail on the same images."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src import tables
from src.plotting.style import PAGE_WIDTH, dataset_title, error_bars, model_style
from src.plotting.texture_shape.rows import at_standing_level
from src.tables.texture_shape import STANDING

MARKERS = "osD^vP"  # of pairs


def consistency(table: pd.DataFrame, *, models: Sequence[str] = ()) -> Figure:
    """κ of every two networks, all training seeds, on clean images and on each condition at its level of STANDING.

    table: as of `accuracies`, of two networks or more.
    """
    table = table[table["model"].isin(list(models) or table["model"])]
    there = set(table["condition"].unique())
    conditions = [name for name in ("clean", *STANDING) if name in there]
    table = table[table["level"] == table["condition"].map({"clean": 0} | STANDING)]
    counted = tables.texture_shape.error_consistency(table[table["condition"].isin(conditions)])
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 3))
    consistency_points(counted, ax, order=conditions)
    images = sorted({counted["n"].min(), counted["n"].max()})
    n = " to ".join(f"{number:,}" for number in images)
    said = f"n = {n} test images, 95 % bootstrap; grey: independent errors; dashes: the most that accuracies allow"
    figure.suptitle(f"{dataset_title(table['dataset'].iloc[0])}, {said}", fontsize=8)
    return figure


def consistency_points(table: pd.DataFrame, ax: Axes, *, order: Sequence[str]) -> Axes:
    """κ with its interval, a group for each condition, halves of a marker in the colours of the two models.

    table: of `error_consistency`.  Grey: where κ of independent errors lies; the tick above: the highest that the two
    accuracies allow.
    """
    pairs = list(table[["a", "b"]].drop_duplicates().itertuples(index=False, name=None))
    width = 0.8 / len(pairs)
    for i, (a, b) in enumerate(pairs):
        rows = table[(table["a"] == a) & (table["b"] == b)]
        places = rows["condition"].map(order.index).to_numpy() + (i - (len(pairs) - 1) / 2) * width
        first, second = model_style(a), model_style(b)
        chance = rows["chance_high"] - rows["chance_low"]
        ax.bar(places, chance, 0.9 * width, bottom=rows["chance_low"], color="0.85", zorder=0)
        ax.plot(places, rows["highest"], "_", color="0.5", markersize=5, markeredgewidth=0.6)
        spread = error_bars(rows, "kappa")
        ax.errorbar(places, rows["kappa"], yerr=spread, fmt="none", ecolor="0.4", elinewidth=0.6)
        name = f"two of {first['label']}" if a == b else f"{first['label']} – {second['label']}"
        look = dict(
            marker=MARKERS[i % len(MARKERS)], fillstyle="left", linestyle="none", markersize=5, markeredgewidth=0
        )
        colours = dict(markerfacecolor=first["color"], markerfacecoloralt=second["color"])
        ax.plot(places, rows["kappa"], label=name, **look, **colours)
    ax.axhline(0, color="0.6", linewidth=0.6)
    ax.set_xticks(np.arange(len(order)), [_caption(name) for name in order])
    ax.tick_params(axis="x", length=0)
    ax.set(
        xlim=(-0.6, len(order) - 0.4),
        ylim=(min(-0.1, table[["low", "chance_low"]].min(axis=None) - 0.02), 1),
        ylabel="error consistency κ",
    )
    ax.legend(ncols=len(pairs), loc="lower center", bbox_to_anchor=(0.5, 1))
    return ax


def _caption(condition: str) -> str:
    return at_standing_level(condition, "\n").replace(" ", "\n", 1)
