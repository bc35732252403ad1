"""Figures of cue conflicts: shares of the cues, shape bias, hybrids along the cut-off."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from src import tables
from src.plotting.style import PAGE_WIDTH, line_with_band, model_style
from src.plotting.texture_shape.rows import one_seed

KEYS = ["condition", "level", "pair"]
CUE_COLOURS = {"shape": "#332288", "neither": "#E4E4E4", "texture": "#DDCC77"}


def cue_conflicts(
    table: pd.DataFrame,
    *,
    calibration: pd.DataFrame | None = None,
    models: Sequence[str] = (),
    model_seed: int | None = None,
) -> Figure:
    """Shares of the cues and shape bias; below, hybrids along the cut-off, their crossovers and decisive shares.

    table: of `predict_conflicts`, stored as cue_conflict.  calibration: of `calibration_images.calibrate`, stored under
    that name: rules of one cue, whose hybrids are drawn dotted; a conflict on which they fail is marked.
    Each model's numbers are of the pairs whose two images it gets right as they are; of stylised images those by
    outsiders count, pooled (`painter_matrix` has the others).
    """
    table, title = one_seed(table, models, model_seed)
    table = tables.texture_shape.by_outsiders(table)
    biases = tables.texture_shape.shape_bias(table, by=["condition", "level", "model"])
    points = biases[biases["condition"] != "hybrid"].sort_values("condition", kind="stable")
    valid = (
        [] if calibration is None else tables.texture_shape.validated(calibration).query("valid")["condition"].tolist()
    )
    marks = ["" if calibration is None or condition in valid else " *" for condition in points["condition"]]
    labels = [model_style(model)["label"] for model in points["model"]]
    points["name"] = [
        f"{name}{mark}: {label}" for name, mark, label in zip(points["condition"], marks, labels, strict=True)
    ]
    curves, hybrids = (rows[rows["condition"] == "hybrid"] for rows in (biases, table))
    figure, axes = plt.subplots(2, 2, figsize=(PAGE_WIDTH, 4.8))
    cue_shares(points, axes[0, 0])
    shape_bias_points(points, axes[0, 1])
    axes[0, 1].set_yticks([])
    bias_curves(curves, axes[1, 0], crossovers=tables.texture_shape.crossover(hybrids))
    bias_curves(curves, axes[1, 1], value="decisive")
    axes[1, 1].legend()
    if calibration is not None:
        scores = tables.texture_shape.shape_bias(calibration.query("condition == 'hybrid'"), by=["level", "model"])
        for label, (_, rows) in zip(("rules of one cue", None), scores.groupby("model"), strict=False):
            axes[1, 0].plot(
                rows["level"], rows["shape_bias"], color="0.1", linestyle=":", linewidth=0.8, zorder=0, label=label
            )
        handles, labels = axes[1, 0].get_legend_handles_labels()
        axes[1, 0].legend(handles[-1:], labels[-1:], loc="lower right", bbox_to_anchor=(1, 0.98))
    images = table.assign(model=0).drop_duplicates([*KEYS, *({"painter"} & set(table))])
    shown = images[images["level"] == images.groupby("condition")["level"].transform("first")]
    pairs = ", ".join(f"{n:,} {kind}" for kind, n in shown.groupby("condition", sort=False).size().items())
    note = "\n* not validated: the rules of one cue do not follow it" if any(marks) else ""
    counted = "; each model on those it gets right" if "clean_right" in table else ""
    figure.suptitle(f"{title}, conflicts: {pairs}{counted}{note}", fontsize=8)
    return figure


def cue_shares(table: pd.DataFrame, ax: Axes) -> Axes:
    """Of all cue conflicts those decided for the shape, for neither, and for the texture: a bar for each row.

    table: rows of `shape_bias` with a column `name`, top row first.
    """
    places = np.arange(len(table))[::-1]
    shape, texture = (100 * table[cue] / table["n"] for cue in ("shape", "texture"))
    ax.barh(places, shape, 0.7, color=CUE_COLOURS["shape"])
    ax.barh(places, 100 - shape - texture, 0.7, left=shape, color=CUE_COLOURS["neither"])
    ax.barh(places, texture, 0.7, left=100 - texture, color=CUE_COLOURS["texture"])
    for place, decisive, n in zip(places, table["decisive"], table["n"], strict=True):
        ax.annotate(
            f"{100 * decisive:.0f} % of {n}" if n else "none right",
            (101, place),
            va="center",
            fontsize=6,
            annotation_clip=False,
        )
    ax.set_yticks(places, table["name"])
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 100), xlabel="cue conflicts (%); right: decisive")
    handles = [Patch(color=colour, label=cue) for cue, colour in CUE_COLOURS.items()]
    ax.legend(handles=handles, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
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
        style, value = model_style(row.model), row.shape_bias
        ax.plot([row.low, row.high], [place, place], color=style["color"], linewidth=1.2)
        ax.plot(value, place, color=style["color"], marker=style["marker"], markersize=5)
        ax.annotate(f"{value:.2f}", (value, place), (0, 4), textcoords="offset points", ha="center", fontsize=6)
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
    for model, rows in table.sort_values("level", kind="stable").groupby("model", sort=False):
        if value == "shape_bias":
            line_with_band(ax, rows["level"], rows, value=value, **model_style(model))
        else:
            ax.plot(rows["level"], rows[value], markersize=3, linewidth=1, **model_style(model))
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
            ax.set_xlabel("cut-off (cycles per image); ticks: half")
    return ax
