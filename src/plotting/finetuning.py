"""Figures of fine-tuning: learning curves and accuracies of its conditions, and the confusions of one."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plotting.style import PAGE_WIDTH, dataset_title, error_bars, model_style, recolour

CONDITION_STYLE = {
    "linear": dict(color="#56B4E9", marker="o", linestyle="--", label="linear: new classifier, frozen backbone"),
    "full": dict(color="#CC79A7", marker="D", linestyle="-", label="full: all weights"),
    "scratch": dict(color="#E69F00", marker="v", linestyle="-.", label="scratch: all weights, no pretraining"),
}


def conditions(history: pd.DataFrame, measured: pd.DataFrame) -> Figure:
    """Learning curves, and test accuracy with its interval, of each condition.

    history: as stored.  measured: of `tables.finetuning.accuracies`.
    """
    figure, axes = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 2.8))
    learning_curves(history, axes[0])
    accuracy_points(measured, axes[1])
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=2, loc="outside upper center")
    axes[0].set_title(
        f"{model_style(history['model'].iloc[0])['label']} on {dataset_title(history['dataset'].iloc[0])}"
    )
    axes[1].set_xlabel(f"test accuracy (%), 95 % interval, n = {measured['n'].max():,}")
    return figure


def learning_curves(history: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy on the held-out images by epoch, a line for each condition; dotted: on the training images."""
    for name, style in CONDITION_STYLE.items():
        rows = history[history["condition"] == name]
        if len(rows):
            ax.plot(rows["epoch"], 100 * rows["val_accuracy"], markersize=4, **style)
            ax.plot(rows["epoch"], 100 * rows["accuracy"], color=style["color"], linestyle=":", linewidth=1)
    ax.plot([], [], color="0.4", linestyle=":", linewidth=1, label="on the training images, during the epoch")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel="held-out accuracy (%)")
    return ax


def accuracy_points(measured: pd.DataFrame, ax: Axes) -> Axes:
    """Test accuracy with its interval for each condition (rows) and measure (filled: top-1, hollow: top-5).

    measured: columns condition, measure, accuracy, low, high, fractions in [0, 1].
    """
    names = [name for name in CONDITION_STYLE if name in set(measured["condition"])]
    for measure, filled in (("top-1", True), ("top-5", False)):
        for place, name in enumerate(names):
            row = measured[(measured["condition"] == name) & (measured["measure"] == measure)]
            value, color = 100 * row["accuracy"].item(), CONDITION_STYLE[name]["color"]
            mark = dict(
                marker=CONDITION_STYLE[name]["marker"], markerfacecolor=color if filled else "white", markersize=5
            )
            ax.errorbar(value, place, xerr=error_bars(row, "accuracy", scale=100), color=color, capsize=2, **mark)
            ax.annotate(f"{value:.1f}", (value, place), (0, 7), textcoords="offset points", ha="center", fontsize=7)
        ax.plot([], [], "o", color="0.4", markersize=4, markerfacecolor="0.4" if filled else "white", label=measure)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.5, len(names) - 0.3)
    ax.margins(x=0.1)
    ax.set(xlabel="test accuracy (%), 95 % interval")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return ax


def confusion(table: pd.DataFrame, *, classes: list[str]) -> Figure:
    """Confusion matrix of one condition's rows of the stored table, with its data set and n as the title."""
    figure, ax = plt.subplots(figsize=(0.75 * PAGE_WIDTH, 0.65 * PAGE_WIDTH))
    confusion_matrix(table, ax, classes=classes)
    first = table.iloc[0]
    what = f"{model_style(first['model'])['label']}, {first['condition']}, on {dataset_title(first['dataset'])}"
    ax.set_title(f"{what}: n = {len(table):,} test images")
    return figure


def confusion_matrix(table: pd.DataFrame, ax: Axes, *, classes: list[str]) -> Axes:
    """Share of each class's images (rows) that the model calls each class (columns), in percent.

    With more than 20 classes the numbers and most names are left out, and the mistakes are shown alone.
    """
    import seaborn as sns  # a second to import

    k, few = len(classes), len(classes) <= 20
    counts = np.zeros((k, k))
    np.add.at(counts, (table["label"], table["prediction"]), 1)
    percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shown = percent if few else np.where(np.eye(k), np.nan, percent)
    names = dict.fromkeys(("xticklabels", "yticklabels"), list(classes) if few else 10)
    bar = {"label": "% of the class's images", "shrink": 0.7}
    scale = dict(cmap="Blues", vmin=0, vmax=100 if few else None, square=True, cbar_kws=bar)
    sns.heatmap(shown, ax=ax, annot=few, fmt=".0f", annot_kws={"fontsize": 6}, **scale, **names)
    if few:
        recolour(ax)
    ax.set(xlabel="predicted", ylabel="label")
    ax.tick_params(axis="x", rotation=45 if few else 0)
    for label in ax.get_xticklabels():
        label.set_horizontalalignment("right" if few else "center")
    return ax
