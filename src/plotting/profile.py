"""The profile of each architecture over all axes."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plotting.style import PAGE_WIDTH, dataset_title, error_bars, model_style
from src.tables.profile import AXES, counted

KEY = """Arrows point to the better side.
Bars: 95 % intervals; pale: range over training seeds.
Numbers: ranks by paired tests (Holm over all axes);
models that no test tells apart share one, and there
is none where no side is better.
Dotted: what would show nothing. Shape is of each
network's own pairs: intervals there part no two."""


def profile(summary: pd.DataFrame, *, dataset: str) -> Figure:
    """All axes, two in a row; summary: of `tables.profile.summarise`."""
    names = list(summary["axis"].unique())
    n_rows = max(1, -(-len(names) // 2))
    figure, axes = plt.subplots(n_rows, 2, figsize=(PAGE_WIDTH, 1.2 * n_rows), squeeze=False)
    for ax, name in zip(axes.flat, names, strict=False):
        profile_axis(summary[summary["axis"] == name], ax)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    if len(names) < axes.size:
        place = dict(transform=axes[-1, -1].transAxes, va="center", in_layout=False)
        axes[-1, -1].text(0, 0.4, KEY, fontsize=7, color="0.3", **place)
    figure.suptitle(f"{dataset_title(dataset)}: each architecture on {len(names)} axes", fontsize=8)
    return figure


def profile_axis(summary: pd.DataFrame, ax: Axes) -> Axes:
    """One axis of the profile: a row for each model with its interval, its rank, and a bar for the range over seeds.

    Dotted: what would be seen by chance, which may differ by model.  No rank stands where neither way is better.
    summary: rows of `profile.summarise` for one axis.
    """
    axis, label = AXES[summary["axis"].iloc[0]], summary["label"].iloc[0]
    models, bars = list(summary["model"]), error_bars(summary, "value", scale=axis.scale)
    for place, row in enumerate(summary.itertuples()):
        style = model_style(row.model)
        if row.seeds > 1:
            ends = [axis.scale * row.seed_low, axis.scale * row.seed_high]
            ax.plot(ends, [place, place], color=style["color"], linewidth=7, alpha=0.25, solid_capstyle="butt")
        look = dict(color=style["color"], marker=style["marker"], markersize=4, elinewidth=1)
        ax.errorbar(axis.scale * row.value, place, xerr=bars[:, [place]], **look)
        ax.plot([axis.scale * row.chance] * 2, [place - 0.5, place + 0.5], color="0.3", linewidth=0.9, linestyle=":")
        beside = dict(xycoords=("axes fraction", "data"), va="center", fontsize=7, color="0.3")
        ax.annotate(f"{row.rank:g}" if axis.better else "", (1.02, place), **beside)
    ax.set_yticks(range(len(models)), [model_style(model)["label"] for model in models])
    ax.set_ylim(len(models) - 0.3, -0.5)  # room for a word below
    ax.margins(x=0.12)
    ax.tick_params(axis="y", length=0)
    arrow = {1: " →", -1: " ←", 0: ""}[axis.better]
    ax.set_title(axis.title(label) + arrow, fontsize=7.5, loc="left")
    ax.set_xlabel(f"n = {counted(summary)}", loc="right", fontsize=6, color="0.3", labelpad=1)
    chance = axis.scale * summary["chance"].dropna().to_numpy()
    if len(chance):
        side = -1 if chance[-1] > np.mean(ax.get_xlim()) else 1  # away from the nearer end
        look = dict(ha="left" if side > 0 else "right", va="bottom", fontsize=6, color="0.3")
        ax.annotate(axis.null, (chance[-1], 0), (2 * side, 1), ("data", "axes fraction"), "offset points", **look)
    return ax
