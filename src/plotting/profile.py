"""The profile of each architecture over all axes."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plotting.style import PAGE_WIDTH, error_bars, model_style
from src.tables.profile import AXES


def profile(summary: pd.DataFrame, *, dataset: str) -> Figure:
    """All axes, two in a row; summary: of `tables.profile.summarise`."""
    names = list(summary["axis"].unique())
    n_rows = max(1, -(-len(names) // 2))
    figure, axes = plt.subplots(n_rows, 2, figsize=(PAGE_WIDTH, 1.05 * n_rows), squeeze=False)
    for ax, name in zip(axes.flat, names, strict=False):
        profile_axis(summary[summary["axis"] == name], ax)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    figure.suptitle(f"{dataset}: each architecture on {len(names)} axes", fontsize=8)
    return figure


def profile_axis(summary: pd.DataFrame, ax: Axes) -> Axes:
    """One axis of the profile: a row for each model with its interval, its rank, and a bar for the range over seeds.

    No rank stands where neither way is better.  summary: rows of `profile.summarise` for one axis.
    """
    axis = AXES[summary["axis"].iloc[0]]
    models, bars = list(summary["model"]), error_bars(summary, "value", scale=axis.scale)
    for place, row in enumerate(summary.itertuples()):
        style = model_style(row.model)
        if row.seeds > 1:
            ends = [axis.scale * row.seed_low, axis.scale * row.seed_high]
            ax.plot(ends, [place, place], color=style["color"], linewidth=7, alpha=0.25, solid_capstyle="butt")
        look = dict(color=style["color"], marker=style["marker"], markersize=4, elinewidth=1)
        ax.errorbar(axis.scale * row.value, place, xerr=bars[:, [place]], **look)
        beside = dict(xycoords=("axes fraction", "data"), va="center", fontsize=7, color="0.3")
        ax.annotate(f"{row.rank:g}" if axis.better else "", (1.02, place), **beside)
    ax.set_yticks(range(len(models)), [model_style(model)["label"] for model in models])
    ax.set_ylim(len(models) - 0.5, -0.5)
    ax.margins(x=0.12)
    ax.tick_params(axis="y", length=0)
    arrow = {1: " →", -1: " ←", 0: ""}[axis.better]
    ax.set_title(axis.title + arrow, fontsize=7.5, loc="left")
    return ax
