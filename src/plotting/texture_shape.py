"""Figures of texture and shape, from the tables of notebook 03; each draws one training seed.

Of the arguments that all share: models, their order, by default the table's; model_seed, by default the table's first.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from src import tables
from src.plotting.style import PAGE_WIDTH, error_bars, line_with_band, model_style
from src.tables.texture_shape import CORRUPTIONS, STANDING, UNITS

CURVES = ("occlusion_black", "occlusion_noise", "patch_shuffle", "low_pass")  # whose levels are drawn out
BY_CLASS = ("grayscale", "occlusion_black", "patch_shuffle", "edges", "stylised")
MOST_CLASSES = 10
KEYS = ["model", "condition", "level"]
CUE_COLOURS = {"shape": "#332288", "neither": "#E4E4E4", "texture": "#DDCC77"}
_DASHES = dict(color="0.2", linewidth=0.9, linestyle=(0, (2, 1)))


def manipulation_sheet(
    pictures: Mapping[str, Mapping[str, np.ndarray]], originals: np.ndarray, *, titles: Sequence[str]
) -> Figure:
    """Images as the models see them: a row for each manipulation with its levels, a block of columns for each image.

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


def accuracies(
    table: pd.DataFrame, classes: Sequence[str], *, models: Sequence[str] = (), model_seed: int | None = None
) -> Figure:
    """Bars of accuracy, each condition at the level of STANDING, and below the share that is left along the levels.

    table: of `predict_images`, the models' stored tables one below the other.  classes: all names of the data set.
    """
    table, title = _one_seed(table, models, model_seed)
    bars = _at_standing_level(table, list(STANDING), KEYS)
    order = [name for name in STANDING if name in set(bars["condition"])]
    curves = [name for name in CURVES if name in set(table["condition"])]
    mosaic = [["bars"] * max(len(curves), 1), *([curves] if curves else [])]
    figure, axes = plt.subplot_mosaic(mosaic, figsize=(PAGE_WIDTH, 4.6 if curves else 2.4))
    names = {name: f"{name}\n{STANDING[name]:g}".replace("_", "\n", 1) for name in order}
    accuracy_bars(bars, axes["bars"], by="condition", order=order, names=names)
    axes["bars"].legend(ncols=len(bars["model"].unique()) + 1, loc="lower center", bbox_to_anchor=(0.5, 1))
    retained = tables.texture_shape.retained_accuracy(table[table["condition"].isin(["clean", *curves])], by=KEYS)
    for name in curves:
        retained_curves(retained[retained["condition"] == name], axes[name], unit=UNITS[name], chance=1 / len(classes))
        axes[name].set(title=name.replace("_", " "), ylabel="retained (%)" if name == curves[0] else "")
    counts = bars.groupby("condition")["n"].max()
    fewer = [f"{name.replace('_', ' ')}: {n:,}" for name, n in counts.items() if n < counts.max()]
    note = f" ({', '.join(fewer)})" if fewer else ""
    figure.suptitle(f"{title}, n = {counts.max():,} test images{note}", fontsize=8)
    return figure


def accuracies_by_class(
    table: pd.DataFrame, classes: Sequence[str], *, models: Sequence[str] = (), model_seed: int | None = None
) -> Figure:
    """Bars of accuracy for each class, a panel for each condition of BY_CLASS; arguments as of `accuracies`.

    Of more than ten classes those where the models differ most, on average over the panels.
    """
    table, title = _one_seed(table, models, model_seed)
    bars = _at_standing_level(table, BY_CLASS, [*KEYS, "label"])
    shown = [name for name in BY_CLASS if name in set(bars["condition"])]
    spread = bars.groupby(["condition", "label"])["accuracy"].agg(np.ptp).groupby("label").mean()
    order = sorted(spread.nlargest(MOST_CLASSES).index)
    figure, axes = plt.subplots(len(shown), 1, figsize=(PAGE_WIDTH, 0.3 + 1.3 * len(shown)), sharex=True, squeeze=False)
    for ax, name in zip(axes[:, 0], shown, strict=True):
        rows = bars[bars["condition"] == name]
        accuracy_bars(rows, ax, by="label", order=order, names=dict(enumerate(classes)))
        n = " to ".join(str(n) for n in sorted({rows["n"].min(), rows["n"].max()}))
        ax.set_title(f"{name.replace('_', ' ')} {STANDING[name]:g}, n = {n} a class", fontsize=8)
    axes[0, 0].legend(ncols=len(bars["model"].unique()) + 1, loc="lower center", bbox_to_anchor=(0.5, 1.15))
    few = f": the {len(order)} classes where the models differ most" if len(order) < len(spread) else ""
    figure.suptitle(f"{title}{few}", fontsize=8)
    return figure


def corruptions(table: pd.DataFrame, *, models: Sequence[str] = (), model_seed: int | None = None) -> Figure:
    """Accuracy under each corruption (rows) at each severity (columns), a block of columns for each model.

    table: as of `accuracies`; ValueError where it has no corruptions.
    """
    table, title = _one_seed(table[table["condition"].isin(CORRUPTIONS)], models, model_seed)
    counted, order = tables.statistics.accuracy(table, by=KEYS), list(table["model"].unique())
    cells = 100 * counted.pivot(index="condition", columns=["model", "level"], values="accuracy")
    cells = cells.loc[[name for name in CORRUPTIONS if name in cells.index], order]
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 4))
    names = dict(
        xticklabels=[f"{level:g}" for _, level in cells.columns],
        yticklabels=[name.replace("_", " ") for name in cells.index],
    )
    bar = dict(cbar_kws={"label": "accuracy (%)", "shrink": 0.6}, annot=True, fmt=".0f", annot_kws={"fontsize": 5})
    sns.heatmap(cells.to_numpy(), ax=ax, cmap="viridis", vmin=0, vmax=100, **names, **bar)
    for i, model in enumerate(order):
        if i:
            ax.axvline(i * cells.shape[1] / len(order), color="white", linewidth=3)
        place = ((i + 0.5) / len(order), 1.01)
        ax.annotate(model_style(model)["label"], place, xycoords="axes fraction", ha="center", fontsize=8)
    ax.tick_params(axis="both", length=0, rotation=0)
    ax.set(xlabel="severity", ylabel="")
    figure.suptitle(f"{title}, n = {counted['n'].max():,} test images", fontsize=8)
    return figure


def cue_conflicts(
    table: pd.DataFrame,
    *,
    calibration: pd.DataFrame | None = None,
    models: Sequence[str] = (),
    model_seed: int | None = None,
) -> Figure:
    """Shares of the cues and shape bias; below, hybrids along the cut-off, their crossovers and decisive shares.

    table: of `predict_conflicts`, stored as cue_conflict.  calibration: of `calibration_images.calibrate`, stored under
    that name: rules of one cue, whose hybrids are drawn dotted.
    """
    table, title = _one_seed(table, models, model_seed)
    biases = tables.texture_shape.shape_bias(table, by=["condition", "level", "model"])
    points = biases[biases["condition"] != "hybrid"].sort_values("condition", kind="stable")
    points["name"] = [f"{row.condition}: {model_style(row.model)['label']}" for row in points.itertuples()]
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
            axes[1, 0].plot(rows["level"], rows["shape_bias"], "k:", linewidth=0.8, zorder=0, label=label)
        handles, labels = axes[1, 0].get_legend_handles_labels()
        axes[1, 0].legend(handles[-1:], labels[-1:], loc="lower right", bbox_to_anchor=(1, 0.98))
    pairs = ", ".join(f"{n:,} {kind}" for kind, n in biases.groupby("condition", sort=False)["n"].max().items())
    figure.suptitle(f"{title}, pairs: {pairs}", fontsize=8)
    return figure


def accuracy_bars(table: pd.DataFrame, ax: Axes, *, by: str, order: Sequence, names: Mapping | None = None) -> Axes:
    """Accuracy with 95 % intervals, a group of bars for each value of `by`, a bar for each model; dashes: clean.

    table: of `accuracy_beside_clean`.  order: of the groups.  names: of the groups, where they are not their own.
    """
    models = list(dict.fromkeys(table["model"]))
    width = 0.8 / len(models)
    for i, model in enumerate(models):
        rows = table[table["model"] == model].set_index(by).reindex(order)
        places = np.arange(len(order)) + (i - (len(models) - 1) / 2) * width
        style, heights = model_style(model), 100 * rows["accuracy"]
        ax.bar(places, heights, width, color=style["color"], label=style["label"], edgecolor="white", linewidth=0.3)
        spread = error_bars(rows, "accuracy", scale=100)
        ax.errorbar(places, heights, yerr=spread, fmt="none", ecolor="0.2", elinewidth=0.6)
        ax.hlines(100 * rows["clean"], places - width / 2, places + width / 2, clip_on=False, **_DASHES)
    ax.plot([], [], label="clean images", **_DASHES)
    ax.set_xticks(range(len(order)), [(names or {}).get(key, key) for key in order])
    ax.margins(x=0.01)
    ax.set(ylim=(0, 100), ylabel="accuracy (%)")
    ax.tick_params(axis="x", length=0)
    return ax


def retained_curves(table: pd.DataFrame, ax: Axes, *, unit: str, chance: float | None = None) -> Axes:
    """Share of the clean accuracy that is left at each level, with 95 % bands, a line for each model.

    table: rows of `retained_accuracy` of one manipulation, weakest level first; its levels stand at equal distances.
    chance: accuracy of guessing; of each model, its share of the clean accuracy is dotted in the model's colour.
    """
    levels = list(dict.fromkeys(table["level"]))
    for model, rows in table.groupby("model", sort=False):
        style = model_style(model)
        reached = rows.set_index("level").reindex(levels)
        line_with_band(ax, range(len(levels)), reached, value="retained", scale=100, **style)
        if chance is not None:
            ax.axhline(100 * chance / rows["clean"].iloc[0], color=style["color"], linewidth=0.6, linestyle=":")
    ax.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
    ax.set(xlabel=unit, ylim=(0, 108))
    return ax


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
        ax.annotate(f"{100 * decisive:.0f} % of {n}", (101, place), va="center", fontsize=6, annotation_clip=False)
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
    return ax


def _one_seed(table: pd.DataFrame, models: Sequence[str], model_seed: int | None) -> tuple[pd.DataFrame, str]:
    """The rows of one training seed, model by model, and what a title says of them; ValueError where there are none."""
    seed = table["model_seed"].iloc[0] if model_seed is None and len(table) else model_seed
    table = table[(table["model_seed"] == seed) & table["model"].isin(list(models) or table["model"])]
    if table.empty:
        raise ValueError(f"the table has no rows of {', '.join(models) or 'any model'} with training seed {seed}")
    order = list(models) or list(table["model"].unique())
    table = table.sort_values("model", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)
    return table, f"{table['dataset'].iloc[0]}, training seed {seed}"


def _at_standing_level(table: pd.DataFrame, conditions: Sequence[str], by: list[str]) -> pd.DataFrame:
    """Rows of `accuracy_beside_clean` of the conditions at their levels of STANDING, models in the table's order."""
    standing = table["condition"].isin(conditions) & (table["level"] == table["condition"].map(STANDING))
    rows = tables.texture_shape.accuracy_beside_clean(table[standing | (table["condition"] == "clean")], by=by)
    return rows.sort_values("model", key=lambda names: names.map(list(table["model"].unique()).index), kind="stable")


def report_2023(published: pd.DataFrame) -> Figure:
    """The 2023 report's accuracies on manipulated images, means over classes: `load_published("texture_shape")`."""
    conditions = ["grayscale", "occlusion", "patch_shuffle", "edges", "stylised"]
    means = published.groupby(["model", "condition"])["accuracy"].mean().unstack()[conditions]
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 2.4))
    for i, model in enumerate(name for name in ("mlp", "cnn", "vit") if name in means.index):
        style = model_style(model)
        look = style | dict(markerfacecolor="none", linestyle="none", markersize=5)
        ax.plot(np.arange(len(conditions)) + 0.25 * (i - 1), 100 * means.loc[model], **look)
    ax.set_xticks(range(len(conditions)), [name.replace("_", " ") for name in conditions])
    ax.set(ylim=(0, 100), ylabel="accuracy (%)", title="2023 report, as printed")
    ax.legend(ncols=3, loc="lower left")
    return figure
