"""Figures of notebook 05."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from src.plotting.style import model_style


def confidence_histogram(
    confidence: np.ndarray, correct: np.ndarray, ax: Axes, *, model: str, n_bins: int = 20
) -> Axes:
    """How confidences spread over the images that are classified correctly, and over those that are not.

    confidence: [n] in [0, 1].  correct: bool [n].
    """
    colour, borders = model_style(model)["color"], np.linspace(0, 1, n_bins + 1)
    for chosen, look, name in (
        (correct, dict(facecolor=colour, alpha=0.5, edgecolor="white", linewidth=0.3), "correct"),
        (~correct, dict(facecolor="none", edgecolor="0.2", hatch="/////", linewidth=0.8), "wrong"),
    ):
        if chosen.any():
            shares = np.histogram(confidence[chosen], borders)[0] / chosen.sum()
            label = f"{name}, n = {chosen.sum():,}"
            ax.bar(borders[:-1], 100 * shares, np.diff(borders), align="edge", label=label, **look)
    ax.set(xlim=(0, 1), xlabel="confidence", ylabel="images (%)")
    ax.legend(loc="upper left")
    return ax


def reliability_diagram(bins: pd.DataFrame, band: pd.DataFrame, ax: Axes, *, model: str) -> Axes:
    """Accuracy against confidence by bin; grey: where the accuracies of a calibrated model would lie.

    bins: of `reliability_bins`.  band: of `consistency_band`.  Pale bars: the share of the images in each bin.
    """
    style, n = model_style(model), bins["n"].sum()
    width = bins["right"] - bins["left"]
    ax.bar(bins["left"], bins["n"] / n, width, align="edge", color=style["color"], alpha=0.18, linewidth=0)
    null = bins[["bin", "left", "right"]].merge(band, on="bin")
    ax.bar(
        null["left"],
        null["high"] - null["low"],
        null["right"] - null["left"],
        bottom=null["low"],
        align="edge",
        color="0.75",
        linewidth=0,
    )
    ax.plot([0, 1], [0, 1], color="0.4", linewidth=0.7, linestyle=":")
    errors = np.clip([bins["accuracy"] - bins["low"], bins["high"] - bins["accuracy"]], 0, None)
    ax.errorbar(
        bins["confidence"],
        bins["accuracy"],
        yerr=errors,
        color=style["color"],
        marker=style["marker"],
        markersize=3,
        linewidth=1,
        elinewidth=0.8,
    )
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
    return ax


def calibration_errors(table: pd.DataFrame, ax: Axes, *, conditions: list[str]) -> Axes:
    """ECE with its interval by scaling (places) and model (colours); a tick: what chance gives a calibrated model.

    table: columns model, condition, ece, low, high, null_high (95th percentile of the null).
    """
    models = list(dict.fromkeys(table["model"]))
    for i, model in enumerate(models):
        rows = table[table["model"] == model].set_index("condition").reindex(conditions)
        places = np.arange(len(conditions)) + 0.6 * ((i + 0.5) / len(models) - 0.5)
        style = model_style(model)
        errors = 100 * np.clip([rows["ece"] - rows["low"], rows["high"] - rows["ece"]], 0, None)
        look = dict(color=style["color"], marker=style["marker"], markersize=4, linestyle="", capsize=1.5)
        ax.errorbar(places, 100 * rows["ece"], yerr=errors, elinewidth=0.8, label=style["label"], **look)
        ax.plot(places, 100 * rows["null_high"], linestyle="", marker="_", color="0.2", markersize=9)
    ax.plot([], [], linestyle="", marker="_", color="0.2", markersize=9, label="calibrated, 95 % below")
    ax.set_xticks(range(len(conditions)), ["as trained" if name == "none" else name for name in conditions])
    ax.set_ylim(bottom=0)
    ax.set(ylabel="ECE (%)", xlabel="scaling, fitted on the other half")
    return ax


def error_by_bins(table: pd.DataFrame, ax: Axes) -> Axes:
    """ECE against the number of bins; dotted: the mean of a calibrated model of the same confidences.

    table: columns model, n_bins, ece, null_mean.
    """
    for model, rows in table.groupby("model", sort=False):
        style = model_style(model)
        ax.plot(rows["n_bins"], 100 * rows["ece"], markersize=3, linewidth=1, **style)
        ax.plot(rows["n_bins"], 100 * rows["null_mean"], color=style["color"], linestyle=":", linewidth=1)
    ax.plot([], [], color="0.4", linestyle=":", linewidth=1, label="if calibrated")
    ax.set(xscale="log", xlabel="number of bins", ylabel="ECE (%)")
    ax.set_ylim(bottom=0)
    return ax


def risk_coverage(curves: dict[str, pd.DataFrame], ax: Axes) -> Axes:
    """Error among the images a model is surest of, against their share; curves: model -> of `risk_coverage`."""
    for model, curve in curves.items():
        style = dict(model_style(model))
        marker = style.pop("marker")
        every = max(len(curve) // 8, 1)
        ax.plot(
            100 * curve["coverage"],
            100 * curve["risk"],
            linewidth=1,
            marker=marker,
            markevery=(every - 1, every),
            markersize=3,
            **style,
        )
    ax.set(xlim=(0, 100), xlabel="coverage: images answered (%)", ylabel="error among them (%)")
    ax.set_ylim(bottom=0)
    return ax


def confidence_under_shift(table: pd.DataFrame, ax: Axes, *, xlabel: str) -> Axes:
    """Mean confidence (dashed) and accuracy (solid, with its interval) against the strength of a shift.

    table: columns model, level, accuracy, low, high, confidence.
    """
    for model, rows in table.sort_values("level").groupby("model", sort=False):
        style = model_style(model)
        look = dict(color=style["color"], marker=style["marker"], markersize=3, linewidth=1)
        ax.plot(rows["level"], 100 * rows["accuracy"], linestyle="-", label=style["label"], **look)
        ax.plot(rows["level"], 100 * rows["confidence"], linestyle=":", markerfacecolor="white", **look)
        ax.fill_between(rows["level"], 100 * rows["low"], 100 * rows["high"], color=look["color"], alpha=0.15, lw=0)
    ax.plot([], [], color="0.4", linestyle="-", linewidth=1, label="accuracy")
    ax.plot([], [], color="0.4", linestyle=":", linewidth=1, label="mean confidence")
    ax.set(ylim=(0, 100), xlabel=xlabel, ylabel="%")
    return ax
