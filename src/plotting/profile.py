"""The profile of each architecture over all axes, and the 2023 report's points beside what is measured here."""

import pandas as pd
from matplotlib.axes import Axes

from src.plotting.style import model_style
from src.tables.profile import AXES


def profile_axis(summary: pd.DataFrame, ax: Axes) -> Axes:
    """One axis of the profile: a row for each model with its interval, its rank, and a bar for the range over seeds.

    summary: rows of `profile.summarise` for one axis.
    """
    axis = AXES[summary["axis"].iloc[0]]
    models = list(summary["model"])
    for place, row in enumerate(summary.itertuples()):
        style = model_style(row.model)
        value, low, high, first, last = (
            axis.scale * x for x in (row.value, row.low, row.high, row.seed_low, row.seed_high)
        )
        if row.seeds > 1:
            ax.plot([first, last], [place, place], color=style["color"], linewidth=7, alpha=0.25, solid_capstyle="butt")
        spread = [[max(value - low, 0)], [max(high - value, 0)]]
        ax.errorbar(value, place, xerr=spread, color=style["color"], marker=style["marker"], markersize=4, elinewidth=1)
        ax.annotate(
            str(row.rank), (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=7, color="0.3"
        )
    ax.set_yticks(range(len(models)), [model_style(model)["label"] for model in models])
    ax.set_ylim(len(models) - 0.5, -0.5)
    ax.margins(x=0.12)
    ax.tick_params(axis="y", length=0)
    arrow = {1: " →", -1: " ←", 0: ""}[axis.better]
    ax.set_title(axis.title + arrow, fontsize=7.5, loc="left")
    return ax


def published_curves(table: pd.DataFrame, ax: Axes, *, accuracy: str = "accuracy") -> Axes:
    """The 2023 report's accuracies against the radius: hollow markers on thin lines, for its own three networks.

    table: rows of `load_published("adversarial")` for one data set and attack.  accuracy: the column that is drawn.
    """
    for model, rows in table.sort_values("eps").groupby("model", sort=False):
        style = dict(model_style(model))
        style |= dict(label=f"{style['label']}, 2023 report", markerfacecolor="none", linewidth=0.5, alpha=0.8)
        ax.plot(255 * rows["eps"], 100 * rows[accuracy], markersize=4, **style)
    return ax


def published_bars(table: pd.DataFrame, ax: Axes, *, by: str, order: list) -> Axes:
    """The 2023 report's accuracies as hollow markers, a group for each value of `by`, a place for each network."""
    models = sorted(table["model"].unique(), key=["mlp", "cnn", "vit"].index)
    for i, model in enumerate(models):
        rows = table[table["model"] == model].groupby(by)["accuracy"].mean().reindex(order)
        places = [j + 0.25 * (i - (len(models) - 1) / 2) for j in range(len(order))]
        style = model_style(model)
        look = dict(color=style["color"], marker=style["marker"], markerfacecolor="none", linestyle="none")
        ax.plot(places, 100 * rows, label=f"{style['label']}, 2023 report", markersize=5, **look)
    ax.set_xticks(range(len(order)), [str(name).replace("_", " ") for name in order])
    ax.set(ylim=(0, 100), ylabel="accuracy (%)")
    return ax
