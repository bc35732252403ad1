"""Figures of notebook 03."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from src.plotting.style import PAGE_WIDTH, model_style

SHAPE_COLOUR, TEXTURE_COLOUR, NEITHER_COLOUR = "#332288", "#DDCC77", "#E4E4E4"


def manipulation_sheet(
    pictures: Mapping[str, Mapping[str, np.ndarray]], originals: np.ndarray, *, titles: Sequence[str]
) -> Figure:
    """What the models see: a row for each manipulation, its levels side by side, a block of columns for each image.

    pictures: name of the row -> caption of the level -> [k, h, w, 3] in [0, 1], of the k originals.  titles: k names.
    """
    k, widest = len(originals), max(len(levels) for levels in pictures.values())
    ratios = ([1.0] * (widest + 1) + [0.25]) * k  # the last column of a block keeps its distance from the next
    cell = (PAGE_WIDTH - 0.95) / sum(ratios[:-1])
    size = (PAGE_WIDTH, len(pictures) * (cell + 0.15) + 0.2)
    figure, axes = plt.subplots(len(pictures), len(ratios) - 1, figsize=size, squeeze=False, width_ratios=ratios[:-1])
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        sns.despine(ax=ax, left=True, bottom=True)
    for row, (name, levels) in zip(axes, pictures.items(), strict=True):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=6.5)
        for i in range(k):
            first = i * (widest + 2)
            row[first].imshow(originals[i], interpolation="nearest", vmin=0, vmax=1)
            for ax, (caption, images) in zip(row[first + 1 :], levels.items(), strict=False):
                ax.imshow(images[i], interpolation="nearest", vmin=0, vmax=1)
                ax.set_title(caption, fontsize=5.5, pad=1)
    for i, title in enumerate(titles):
        axes[0, i * (widest + 2)].set_title(title, fontsize=5.5, pad=1, fontweight="bold", loc="left")
    return figure


def accuracy_bars(table: pd.DataFrame, ax: Axes, *, by: str, order: Sequence, names: Mapping | None = None) -> Axes:
    """Accuracy with 95 % intervals, a group of bars for each value of `by`, a bar for each model; dashes: clean.

    table: columns model, `by`, accuracy, low, high, and clean (accuracy of the model on the same images as they are).
    order: of the groups.  names: of the groups, where they are not their own.
    """
    models = list(dict.fromkeys(table["model"]))
    width = 0.8 / len(models)
    for i, model in enumerate(models):
        rows = table[table["model"] == model].set_index(by).reindex(order)
        places = np.arange(len(order)) + (i - (len(models) - 1) / 2) * width
        style, values = model_style(model), 100 * rows[["accuracy", "low", "high"]].to_numpy(float).T
        ax.bar(places, values[0], width, color=style["color"], label=style["label"], edgecolor="white", linewidth=0.3)
        spread = np.array([values[0] - values[1], values[2] - values[0]]).clip(min=0)
        ax.errorbar(places, values[0], yerr=spread, fmt="none", ecolor="0.2", elinewidth=0.6)
        ax.hlines(
            100 * rows["clean"],
            places - width / 2,
            places + width / 2,
            color="0.2",
            linewidth=0.9,
            linestyle=(0, (2, 1)),
        )
    ax.plot([], [], color="0.2", linewidth=0.9, linestyle=(0, (2, 1)), label="clean images")
    ax.set_xticks(range(len(order)), [(names or {}).get(key, key) for key in order])
    ax.margins(x=0.01)
    ax.set(ylim=(0, 100), ylabel="accuracy (%)")
    ax.tick_params(axis="x", length=0)
    return ax


def retained_curves(table: pd.DataFrame, ax: Axes, *, unit: str, chance: float | None = None) -> Axes:
    """Share of the clean accuracy that is left at each level, with 95 % bands, a line for each model.

    table: rows of `retained_accuracy` of one manipulation, weakest level first; its levels stand at equal distances.
    chance: accuracy of guessing over clean accuracy, drawn as a line.
    """
    levels = list(dict.fromkeys(table["level"]))
    if chance is not None:
        ax.axhline(100 * chance, color="0.6", linewidth=0.8, linestyle=":")
    for model, rows in table.groupby("model", sort=False):
        rows = rows.set_index("level").reindex(levels)
        style = model_style(model)
        ax.plot(range(len(levels)), 100 * rows["retained"], markersize=3, linewidth=1, **style)
        ax.fill_between(
            range(len(levels)), 100 * rows["low"], 100 * rows["high"], color=style["color"], alpha=0.15, linewidth=0
        )
    ax.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
    ax.set(xlabel=unit, ylim=(0, 108))
    return ax


def cue_shares(table: pd.DataFrame, ax: Axes) -> Axes:
    """Of all cue conflicts those decided for the shape, for neither, and for the texture: a bar for each row.

    table: rows of `shape_bias` with a column `name`, top row first.
    """
    places = np.arange(len(table))[::-1]
    shape, texture = (100 * table[cue] / table["n"] for cue in ("shape", "texture"))
    ax.barh(places, shape, 0.7, color=SHAPE_COLOUR)
    ax.barh(places, 100 - shape - texture, 0.7, left=shape, color=NEITHER_COLOUR)
    ax.barh(places, texture, 0.7, left=100 - texture, color=TEXTURE_COLOUR)
    for place, decisive, n in zip(places, table["decisive"], table["n"], strict=True):
        ax.annotate(f"{100 * decisive:.0f} % of {n}", (101, place), va="center", fontsize=6, annotation_clip=False)
    ax.set_yticks(places, table["name"])
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 100), xlabel="cue conflicts (%); right: decisive")
    kinds = (("shape", SHAPE_COLOUR), ("neither", NEITHER_COLOUR), ("texture", TEXTURE_COLOUR))
    ax.legend(
        handles=[Patch(color=colour, label=cue) for cue, colour in kinds],
        ncols=3,
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
    )
    return ax


def shape_bias_points(table: pd.DataFrame, ax: Axes) -> Axes:
    """Shape bias with its interval for each row, on the scale from texture (0) to shape (1).

    table: as for `cue_shares`, with columns model, shape_bias, low, high.
    """
    places = np.arange(len(table))[::-1]
    ax.axvline(0.5, color="0.6", linewidth=0.8, linestyle=":")
    for place, row in zip(places, table.itertuples(), strict=True):
        if np.isnan(row.shape_bias):
            ax.annotate("nothing decisive", (0.5, place), ha="center", va="center", fontsize=6)
            continue
        style = model_style(row.model)
        ax.plot([row.low, row.high], [place, place], color=style["color"], linewidth=1.2)
        ax.plot(row.shape_bias, place, color=style["color"], marker=style["marker"], markersize=5)
        ax.annotate(
            f"{row.shape_bias:.2f}",
            (row.shape_bias, place),
            (0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=6,
        )
    ax.set_yticks(places, table["name"])
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.6, len(table) - 0.3), xlabel="shape bias  S / (S + T)")
    return ax


def bias_curves(
    table: pd.DataFrame, ax: Axes, *, value: str = "shape_bias", crossovers: pd.DataFrame | None = None
) -> Axes:
    """Shape bias over the cut-off of the hybrids with 95 % bands, a line for each model; ticks below: the crossovers.

    table: rows of `shape_bias` by model and level.  value: "shape_bias", or "decisive" for the decisive share.
    crossovers: of `crossover`; one outside the cut-offs is left out.
    """
    for model, rows in table.sort_values("level").groupby("model", sort=False):
        style = model_style(model)
        ax.plot(rows["level"], rows[value], markersize=3, linewidth=1, **style)
        if value == "shape_bias":
            ax.fill_between(rows["level"], rows["low"], rows["high"], color=style["color"], alpha=0.15, linewidth=0)
    ax.set_xscale("log")
    ax.set_xticks(sorted(table["level"].unique()))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    names = {"shape_bias": "share for the low frequencies", "decisive": "decisive share"}
    ax.set(ylim=(0, 1), xlabel="cut-off (cycles per image)", ylabel=names[value])
    if value == "shape_bias":
        ax.axhline(0.5, color="0.6", linewidth=0.8, linestyle=":")
    for row in () if crossovers is None else crossovers.itertuples():
        if 0 < row.crossover < np.inf:
            ax.axvline(row.crossover, ymax=0.06, color=model_style(row.model)["color"], linewidth=1.5)
    return ax


def corruption_heatmap(table: pd.DataFrame, ax: Axes, *, models: Sequence[str]) -> Axes:
    """Accuracy in percent under each corruption (rows) at each severity (columns), a block of columns for each model.

    table: columns model, condition, level, accuracy.  models: their order.
    """
    cells = table.pivot(index="condition", columns=["model", "level"], values="accuracy")
    levels = sorted(table["level"].unique())
    cells = cells.loc[list(dict.fromkeys(table["condition"])), [(model, level) for model in models for level in levels]]
    sns.heatmap(
        100 * cells.to_numpy(),
        ax=ax,
        annot=True,
        fmt=".0f",
        annot_kws={"fontsize": 5},
        cmap="viridis",
        vmin=0,
        vmax=100,
        cbar_kws={"label": "accuracy (%)", "shrink": 0.6},
        xticklabels=[f"{level:g}" for _ in models for level in levels],
        yticklabels=[name.replace("_", " ") for name in cells.index],
    )
    for i, model in enumerate(models):
        if i:
            ax.axvline(i * len(levels), color="white", linewidth=3)
        ax.annotate(
            model_style(model)["label"],
            ((i + 0.5) / len(models), 1.01),
            xycoords="axes fraction",
            ha="center",
            fontsize=8,
        )
    ax.tick_params(axis="both", length=0, rotation=0)
    ax.set(xlabel="severity", ylabel="")
    return ax
