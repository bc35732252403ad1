"""Figures of notebook 01."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

MODE_STYLE = {
    "linear": dict(color="#56B4E9", marker="o", linestyle="--", label="linear: new classifier, frozen backbone"),
    "full": dict(color="#CC79A7", marker="D", linestyle="-", label="full: all weights"),
    "scratch": dict(color="#E69F00", marker="v", linestyle="-.", label="scratch: all weights, no pretraining"),
}


def learning_curves(history: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy on the held-out images by epoch, a line for each condition; dotted: on the training images."""
    for mode, style in MODE_STYLE.items():
        rows = history[history["condition"] == mode]
        if rows.empty:
            continue
        ax.plot(rows["epoch"], 100 * rows["val_accuracy"], markersize=4, **style)
        ax.plot(rows["epoch"], 100 * rows["accuracy"], color=style["color"], linestyle=":", linewidth=1)
    ax.plot([], [], color="0.4", linestyle=":", linewidth=1, label="on the training images, during the epoch")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel="held-out accuracy (%)")
    ax.legend(loc="lower right")
    return ax


def accuracy_points(table: pd.DataFrame, ax: Axes) -> Axes:
    """Test accuracy with its interval for each condition (rows) and measure (top-1 and top-5).

    table: columns condition, measure, accuracy, low, high, fractions in [0, 1].
    """
    modes = [mode for mode in MODE_STYLE if mode in set(table["condition"])]
    for measure, filled in (("top-1", True), ("top-5", False)):
        for place, mode in enumerate(modes):
            row = table[(table["condition"] == mode) & (table["measure"] == measure)].iloc[0]
            value, low, high = 100 * row[["accuracy", "low", "high"]].astype(float)
            style = MODE_STYLE[mode]
            ax.errorbar(
                value,
                place,
                xerr=[[value - low], [high - value]],
                color=style["color"],
                marker=style["marker"],
                markerfacecolor=style["color"] if filled else "white",
                markersize=5,
                capsize=2,
            )
            ax.annotate(f"{value:.1f}", (value, place), (0, 7), textcoords="offset points", ha="center", fontsize=7)
    ax.plot([], [], "o", color="0.4", markersize=4, label="top-1")
    ax.plot([], [], "o", color="0.4", markersize=4, markerfacecolor="white", label="top-5")
    ax.set_yticks(range(len(modes)), modes)
    ax.set_ylim(-0.5, len(modes) - 0.3)
    ax.margins(x=0.1)
    ax.set(xlabel="test accuracy (%), 95 % interval")
    ax.legend(loc="upper left")
    return ax


def confusion_matrix(table: pd.DataFrame, ax: Axes, *, classes: list[str]) -> Axes:
    """Share of each class's images (rows) that the model calls each class (columns), in percent.

    With more than 20 classes the numbers and most names are left out, and the mistakes are shown alone.
    """
    k = len(classes)
    counts = np.zeros((k, k))
    np.add.at(counts, (table["label"], table["prediction"]), 1)
    percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    few = k <= 20
    sns.heatmap(
        percent if few else np.where(np.eye(k), np.nan, percent),
        ax=ax,
        cmap="Blues",
        vmin=0,
        vmax=100 if few else None,
        square=True,
        annot=few,
        fmt=".0f",
        annot_kws={"fontsize": 6},
        cbar_kws={"label": "% of the class's images", "shrink": 0.7},
        xticklabels=list(classes) if few else 10,
        yticklabels=list(classes) if few else 10,
    )
    ax.set(xlabel="predicted", ylabel="label")
    ax.tick_params(axis="x", rotation=45 if few else 0)
    for label in ax.get_xticklabels():
        label.set_horizontalalignment("right" if few else "center")
    return ax
