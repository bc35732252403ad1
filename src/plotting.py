"""Every figure of the study, from tables alone: one function a figure, `(table, ax) -> ax`, no torch.

Colours are Okabe & Ito's, told apart with any colour vision; markers and dashes keep them apart in grey print.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src import paths
from src.files import written_whole

MODEL_STYLE = {
    "mlp": dict(color="#D55E00", marker="s", linestyle="-", label="MLP"),
    "cnn": dict(color="#0072B2", marker="o", linestyle="--", label="CNN"),
    "vit": dict(color="#009E73", marker="^", linestyle="-.", label="ViT"),
}
MODE_STYLE = {
    "linear": dict(color="#56B4E9", marker="o", linestyle="--", label="linear: new classifier, frozen backbone"),
    "full": dict(color="#CC79A7", marker="D", linestyle="-", label="full: all weights"),
}
COLUMN_WIDTH, PAGE_WIDTH = 3.4, 7.0  # inches, of a two-column paper
FORMATS = ("pdf", "svg", "png")


def use_style() -> None:
    """Set matplotlib up for the study: sizes that print, fonts embedded, nothing that is not data."""
    sns.set_theme(context="paper", style="ticks")
    mpl.rcParams.update(
        {
            "figure.dpi": 120,
            "savefig.dpi": 300,
            "figure.constrained_layout.use": True,
            "font.size": 8,
            "axes.titlesize": 9,
            "axes.labelsize": 8,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "pdf.fonttype": 42,  # TrueType: text stays text
            "svg.fonttype": "none",
        }
    )


def save_figure(figure: Figure, name: str, *, folder: Path | None = None) -> list[Path]:
    """Write figures/<name>.pdf, .svg and .png, each whole; return their paths."""
    written = [(folder or paths.FIGURES) / f"{name}.{kind}" for kind in FORMATS]
    for path in written:
        with written_whole(path) as partial:
            figure.savefig(partial, format=path.suffix[1:])
    return written


def images(pictures: np.ndarray, titles: list[str], *, columns: int = 10) -> Figure:
    """A sheet of pictures, uint8 or [0, 1] floats [n, h, w, 3], each under its title."""
    rows = -(-len(pictures) // columns)
    cell = PAGE_WIDTH / columns
    lines = 1 + max(title.count("\n") for title in titles)
    figure, axes = plt.subplots(rows, columns, figsize=(PAGE_WIDTH, rows * (cell + 0.12 * lines + 0.1)), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, title in zip(axes.flat, pictures, titles, strict=False):
        ax.imshow(picture, interpolation="nearest")
        ax.set_title(title, fontsize=6.5, pad=2)
    return figure


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
