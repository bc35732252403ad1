"""Figures of accuracy on manipulated images: by manipulation, level, class and corruption."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src import tables
from src.plotting.style import PAGE_WIDTH, error_bars, line_with_band, model_style, recolour
from src.plotting.texture_shape.rows import at_standing_level, one_seed
from src.tables.texture_shape import CORRUPTIONS, STANDING, UNITS

CURVES = ("occlusion_black", "occlusion_noise", "patch_shuffle", "low_pass")  # whose levels are drawn out
BY_CLASS = ("grayscale", "occlusion_black", "patch_shuffle", "edges", "stylised")
MOST_CLASSES = 10
KEYS = ["model", "condition", "level"]
_CLEAN = dict(color="0.2", linewidth=1.1)
_CHANCE = dict(color="0.4", linewidth=0.7, linestyle=":")


def accuracies(
    table: pd.DataFrame, classes: Sequence[str], *, models: Sequence[str] = (), model_seed: int | None = None
) -> Figure:
    """Bars of accuracy, each condition at the level of STANDING, and below the share that is left along the levels.

    table: of `predict_images`, the models' stored tables one below the other.  classes: all names of the data set.
    """
    table, title = one_seed(table, models, model_seed)
    bars = _at_standing_level(table, list(STANDING), KEYS)
    order = [name for name in STANDING if name in set(bars["condition"])]
    there = set(table["condition"].unique())
    curves = [name for name in CURVES if name in there]
    mosaic = [["bars"] * max(len(curves), 1), *([curves] if curves else [])]
    figure, axes = plt.subplot_mosaic(mosaic, figsize=(PAGE_WIDTH, 4.6 if curves else 2.4))
    names = {name: at_standing_level(name, "\n").replace(" ", "\n", 1) for name in order}
    accuracy_bars(bars, axes["bars"], by="condition", order=order, names=names)
    axes["bars"].axhline(100 / len(classes), **_CHANCE)
    axes["bars"].legend(ncols=len(bars["model"].unique()) + 1, loc="lower center", bbox_to_anchor=(0.5, 1))
    retained = tables.texture_shape.retained_accuracy(table[table["condition"].isin(["clean", *curves])], by=KEYS)
    for name in curves:
        retained_curves(retained[retained["condition"] == name], axes[name], unit=UNITS[name], chance=1 / len(classes))
        axes[name].set(title=name.replace("_", " "), ylabel="of clean accuracy (%)" if name == curves[0] else "")
    counts = bars.groupby("condition")["n"].max()
    fewer = [f"{name.replace('_', ' ')}: {n:,}" for name, n in counts.items() if n < counts.max()]
    note = f" ({', '.join(fewer)})" if fewer else ""
    figure.suptitle(f"{title}, n = {counts.max():,} test images{note}; dotted: chance", fontsize=8)
    return figure


def accuracies_by_class(
    table: pd.DataFrame, classes: Sequence[str], *, models: Sequence[str] = (), model_seed: int | None = None
) -> Figure:
    """Bars of accuracy for each class, a panel for each condition of BY_CLASS; arguments as of `accuracies`.

    Of more than ten classes those where the models differ most, on average over the panels.
    """
    table, title = one_seed(table, models, model_seed)
    bars = _at_standing_level(table, BY_CLASS, [*KEYS, "label"])
    shown = [name for name in BY_CLASS if name in set(bars["condition"])]
    spread = bars.groupby(["condition", "label"])["accuracy"].agg(np.ptp).groupby("label").mean()
    order = sorted(spread.nlargest(MOST_CLASSES).index)
    figure, axes = plt.subplots(len(shown), 1, figsize=(PAGE_WIDTH, 0.3 + 1.3 * len(shown)), sharex=True, squeeze=False)
    for ax, name in zip(axes[:, 0], shown, strict=True):
        rows = bars[bars["condition"] == name]
        accuracy_bars(rows, ax, by="label", order=order, names=dict(enumerate(classes)))
        ax.axhline(100 / len(classes), **_CHANCE)
        n = " to ".join(str(n) for n in sorted({rows["n"].min(), rows["n"].max()}))
        ax.set_title(f"{at_standing_level(name)}, n = {n} a class", fontsize=8)
    axes[0, 0].legend(ncols=len(bars["model"].unique()) + 1, loc="lower center", bbox_to_anchor=(0.5, 1.15))
    few = f": the {len(order)} classes where the models differ most" if len(order) < len(spread) else ""
    figure.suptitle(f"{title}{few}; dotted: chance", fontsize=8)
    return figure


def corruptions(table: pd.DataFrame, *, models: Sequence[str] = (), model_seed: int | None = None) -> Figure:
    """Accuracy under each corruption (rows) at each severity (columns), a block of columns for each model.

    Above each block, in points: how much more the network errs under corruptions than on the same images as they are.
    table: as of `accuracies`; ValueError where it has no corruptions.
    """
    import seaborn as sns  # a second to import

    corrupted, title = one_seed(table[table["condition"].isin(CORRUPTIONS)], models, model_seed)
    errors = tables.texture_shape.corruption_errors(one_seed(table, models, model_seed)[0]).set_index("model")
    counted, order = tables.statistics.accuracy(corrupted, by=KEYS), list(corrupted["model"].unique())
    cells = 100 * counted.pivot(index="condition", columns=["model", "level"], values="accuracy")
    cells = cells.loc[[name for name in CORRUPTIONS if name in cells.index], order]
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 4))
    names = dict(
        xticklabels=[f"{level:g}" for _, level in cells.columns],
        yticklabels=[name.replace("_", " ") for name in cells.index],
    )
    bar = dict(cbar_kws={"label": "accuracy (%)", "shrink": 0.6}, annot=True, fmt=".0f", annot_kws={"fontsize": 6})
    sns.heatmap(cells.to_numpy(), ax=ax, cmap="viridis", vmin=0, vmax=100, **names, **bar)
    recolour(ax)
    for i, model in enumerate(order):
        if i:
            ax.axvline(i * cells.shape[1] / len(order), color="white", linewidth=3)
        place = ((i + 0.5) / len(order), 1.01)
        cost = "{relative:+.0f} [{relative_low:+.0f}, {relative_high:+.0f}]".format(**100 * errors.loc[model])
        ax.annotate(f"{model_style(model)['label']}\n{cost}", place, xycoords="axes fraction", ha="center", fontsize=8)
    ax.tick_params(axis="both", length=0, rotation=0)
    ax.set(xlabel="severity", ylabel="")
    figure.suptitle(f"{title}, n = {counted['n'].max():,} test images", fontsize=8)
    return figure


def accuracy_bars(table: pd.DataFrame, ax: Axes, *, by: str, order: Sequence, names: Mapping | None = None) -> Axes:
    """Accuracy with 95 % intervals, a group of bars for each value of `by`, a bar for each model; lines: clean.

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
        ax.hlines(100 * rows["clean"], places - width / 2, places + width / 2, clip_on=False, **_CLEAN)
    ax.plot([], [], label="clean images", **_CLEAN)
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
