"""Figures of notebook 05, from the tables of `src.tables.calibration`; each model by its first training seed."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plotting.style import PAGE_WIDTH, dataset_title, error_bars, line_with_band, model_style
from src.tables.statistics import first_seed

SCALINGS = {"none": "as trained", "temperature": "after temperature scaling"}
SHIFTS = {"fgsm": (255, "FGSM radius (1/255)"), "occlusion_black": (100, "area occluded (%)")}  # scale, label


def confidences(judged: pd.DataFrame, *, n_bins: int = 20) -> Figure:
    """Histograms of the confidences as trained, over right and over wrong predictions, a panel for each model.

    judged: of `tables.calibration.scaled`.
    """
    judged, borders = first_seed(judged[judged["condition"] == "none"]), np.linspace(0, 1, n_bins + 1)
    models = judged["model"].unique()
    figure, axes = plt.subplots(1, len(models), figsize=(PAGE_WIDTH, 2.1), sharey=True, squeeze=False)
    for ax, model in zip(axes[0], models, strict=True):
        part, style = judged[judged["model"] == model], model_style(model)
        for correct, name, look in (
            (True, "correct", dict(facecolor=style["color"], alpha=0.5, edgecolor="white", linewidth=0.3)),
            (False, "wrong", dict(facecolor="none", edgecolor="0.2", hatch="/////", linewidth=0.8)),
        ):
            values = part.loc[part["correct"] == correct, "confidence"]
            if len(values):
                shares = 100 * np.histogram(values, borders)[0] / len(values)
                label = f"{name}, n = {len(values):,}"
                ax.bar(borders[:-1], shares, np.diff(borders), align="edge", label=label, **look)
        ax.set(xlim=(0, 1), xlabel="confidence", ylabel="images of each kind (%)", title=style["label"])
        ax.legend(loc="upper left")
        ax.label_outer()
    return figure


def reliability(bins: pd.DataFrame, measured: pd.DataFrame, *, dataset: str) -> Figure:
    """Reliability diagrams, a column for each model and a row for each scaling in `bins`; the error and its sign above.

    bins: of `tables.calibration.reliability`.  measured: of `tables.calibration.measured`, of as many bins.
    """
    bins, measured = first_seed(bins), first_seed(measured).set_index(["condition", "model"])
    conditions, models = (list(bins[name].unique()) for name in ("condition", "model"))
    size = dict(figsize=(PAGE_WIDTH, 2.3 * len(conditions)), sharex=True, sharey=True, squeeze=False)
    figure, axes = plt.subplots(len(conditions), len(models), **size)
    for (condition, model), part in bins.groupby(["condition", "model"]):
        ax, row = axes[conditions.index(condition), models.index(model)], measured.loc[(condition, model)]
        reliability_diagram(part, ax, model=model)
        after = "" if condition == "none" else f", {SCALINGS.get(condition, condition)}"
        title = f"{model_style(model)['label']}{after}\nerror {row.debiased:.1%} [{row.low:.1%}, {row.high:.1%}]"
        title += f"\nsure − right {signed(row)}"
        ax.set_title(title, fontsize=7)
        ax.label_outer()
    for ax in axes.flat:
        ax.axison = ax.has_data()  # nothing where a model has no such scaling
    told = "grey: a calibrated model, 95 %; pale: share of the images"
    figure.suptitle(f"{dataset_title(dataset)}, n = {part['n'].sum():,} test images; {told}", fontsize=8)
    return figure


def signed(row) -> str:
    """Mean confidence minus accuracy in points with its interval; row: of `measured`."""
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * np.array([row.gap, row.gap_low, row.gap_high])))


def reliability_diagram(bins: pd.DataFrame, ax: Axes, *, model: str) -> Axes:
    """Accuracy against confidence by bin; grey: where those of a calibrated model of the same confidences would lie.

    bins: of one network and scaling.  Pale bars: the share of the images in each bin.
    """
    style, width, left = model_style(model), bins["right"] - bins["left"], bins["left"]
    ax.bar(left, bins["n"] / bins["n"].sum(), width, align="edge", color=style["color"], alpha=0.18, linewidth=0)
    height = bins["null_high"] - bins["null_low"]
    ax.bar(left, height, width, bottom=bins["null_low"], align="edge", color="0.75", linewidth=0)
    ax.plot([0, 1], [0, 1], color="0.4", linewidth=0.7, linestyle=":")
    look = dict(color=style["color"], marker=style["marker"], markersize=3, linewidth=1, elinewidth=0.8, clip_on=False)
    ax.errorbar(bins["confidence"], bins["accuracy"], yerr=error_bars(bins, "accuracy"), **look)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
    return ax


def errors(measured: pd.DataFrame, by_bins: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """The debiased error by scaling; as trained, the ECE by number of bins, and the error among the images answered.

    measured, by_bins, curves: of `measured`, `errors_by_bins` and `coverage` in `tables.calibration`.
    """
    measured, by_bins, curves = (first_seed(table) for table in (measured, by_bins, curves))
    by_bins, curves = (table[table["condition"] == "none"] for table in (by_bins, curves))
    figure, axes = plt.subplots(1, 3, figsize=(PAGE_WIDTH, 2.5))
    calibration_errors(measured, axes[0])
    error_by_bins(by_bins, axes[1])
    risk_coverage(curves, axes[2])
    handles = axes[0].get_legend_handles_labels()[0] + axes[1].get_legend_handles_labels()[0][-1:]
    figure.legend(handles, [handle.get_label() for handle in handles], ncols=6, loc="outside upper center")
    return figure


def calibration_errors(table: pd.DataFrame, ax: Axes) -> Axes:
    """Debiased error with its interval by scaling (places) and model (colours).

    table: columns model, condition, debiased, low, high; an interval from 0 may be a calibrated model's.
    """
    _by_scaling(table, ax, "debiased", "low", "high")
    ax.set(ylabel="calibration error (%)")
    ax.set_ylim(bottom=0)
    return ax


def signs(table: pd.DataFrame, ax: Axes) -> Axes:
    """Mean confidence minus accuracy with its interval by scaling (places) and model (colours).

    table: columns model, condition, gap, gap_low, gap_high.
    """
    _by_scaling(table, ax, "gap", "gap_low", "gap_high")
    ax.axhline(0, color="0.4", linewidth=0.7, linestyle=":")
    ax.set(ylabel="confidence − accuracy (points)")
    return ax


def _by_scaling(table: pd.DataFrame, ax: Axes, value: str, low: str, high: str) -> None:
    models, conditions = (table[name].unique() for name in ("model", "condition"))
    for i, model in enumerate(models):
        rows, style = table[table["model"] == model].set_index("condition").reindex(conditions), model_style(model)
        places = np.arange(len(conditions)) + 0.6 * ((i + 0.5) / len(models) - 0.5)
        look = dict(color=style["color"], marker=style["marker"], markersize=4, linestyle="", capsize=1.5)
        bars = error_bars(rows.assign(low=rows[low], high=rows[high]), value, scale=100)
        ax.errorbar(places, 100 * rows[value], yerr=bars, elinewidth=0.8, label=style["label"], **look)
    ax.set_xticks(range(len(conditions)), ["as trained" if name == "none" else name for name in conditions])
    ax.tick_params(axis="x", rotation=20)
    ax.set(xlabel="scaling, fitted on the other half")


def against_error(measured: pd.DataFrame, *, dataset: str, n: int) -> Figure:
    """Calibration error against the share of wrong predictions, every training seed; and the sign, of the first one.

    measured: of `tables.calibration.measured`.  n: test images.  Left, hollow: as trained; filled, joined to it: after
    temperature scaling.  As Minderer et al. 2021, figure 1.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 3.0))
    ends = (("wrong", "wrong_low", "wrong_high"), ("debiased", "low", "high"))
    for (model, _), rows in measured.groupby(["model", "model_seed"], sort=False):
        rows, style = rows[rows["condition"].isin(SCALINGS)], model_style(model)
        left.plot(100 * rows["wrong"], 100 * rows["debiased"], color=style["color"], linewidth=0.8)
        for condition, row in rows.groupby("condition"):
            x, y = (error_bars(row.assign(low=row[low], high=row[high]), value, scale=100) for value, low, high in ends)
            face = "white" if condition == "none" else style["color"]
            look = dict(color=style["color"], marker=style["marker"], markersize=5, elinewidth=0.8)
            left.errorbar(100 * row["wrong"], 100 * row["debiased"], xerr=x, yerr=y, markerfacecolor=face, **look)
    faces = [
        left.plot([], [], linestyle="", marker="o", color="0.4", markerfacecolor=face, label=name)[0]
        for face, name in zip(("white", "0.4"), SCALINGS.values(), strict=True)
    ]
    left.set(xlabel="wrong predictions (%)", ylabel="calibration error (%)")
    left.set_xlim(left=0)
    left.set_ylim(bottom=0)
    left.legend(handles=faces, fontsize=6)
    figure.legend(*signs(first_seed(measured), right).get_legend_handles_labels(), ncols=6, loc="outside upper center")
    told = f"n = {n:,} test images; 95 % intervals; left: every training seed, right: the first"
    figure.supxlabel(f"{dataset_title(dataset)}, {told}", fontsize=7)
    return figure


def error_by_bins(table: pd.DataFrame, ax: Axes) -> Axes:
    """ECE against the number of bins; dotted: the mean of a calibrated model of the same confidences.

    table: columns model, n_bins, ece, null_mean.
    """
    for model, rows in table.groupby("model", sort=False):
        style = model_style(model) | dict(linestyle="-", markersize=3, linewidth=1)
        ax.plot(rows["n_bins"], 100 * rows["ece"], **style)
        ax.plot(rows["n_bins"], 100 * rows["null_mean"], color=style["color"], linestyle=":", linewidth=1)
    ax.plot([], [], color="0.4", linestyle=":", linewidth=1, label="calibrated: mean")
    ax.set(xscale="log", xlabel="number of bins", ylabel="ECE (%)")
    ax.set_ylim(bottom=0)
    return ax


def risk_coverage(curves: pd.DataFrame, ax: Axes) -> Axes:
    """Error among the images a model is surest of, against their share; curves: columns model, coverage, risk."""
    for model, curve in curves.groupby("model", sort=False):
        every = max(len(curve) // 8, 1)
        look = dict(markevery=(every - 1, every), markersize=3, linewidth=1) | model_style(model)
        ax.plot(100 * curve["coverage"], 100 * curve["risk"], **look)
    ax.set(xlim=(0, 100), xlabel="coverage: images answered (%)", ylabel="error among them (%)")
    ax.set_ylim(bottom=0)
    return ax


def shift(table: pd.DataFrame) -> Figure:
    """Accuracy (solid, with its interval) and mean confidence (dotted) by the strength of a shift, a panel for each.

    table: of `tables.calibration.under_shift`; its conditions are the shifts.
    """
    shifts = table["condition"].unique()
    size = (PAGE_WIDTH / 2 * len(shifts), 2.4)
    figure, axes = plt.subplots(1, len(shifts), figsize=size, sharey=True, squeeze=False)
    for ax, condition in zip(axes[0], shifts, strict=True):
        part = table[table["condition"] == condition].sort_values("level", kind="stable")
        scale, label = SHIFTS.get(condition, (1, condition))
        for model, rows in part.groupby("model", sort=False):
            style = model_style(model) | dict(linestyle="-", markersize=3, linewidth=1)
            line_with_band(ax, scale * rows["level"], rows, value="accuracy", scale=100, **style)
            style |= dict(linestyle=":", markerfacecolor="white", label=None)
            ax.plot(scale * rows["level"], 100 * rows["confidence"], **style)
        ax.set(ylim=(0, 100), xlabel=label, ylabel="accuracy, confidence (%)")
        ax.label_outer()
    for linestyle, name in (("-", "accuracy"), (":", "mean confidence")):
        ax.plot([], [], color="0.4", linestyle=linestyle, linewidth=1, label=name)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
