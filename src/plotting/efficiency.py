"""Figures of notebook 06."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from src.plotting.style import model_style


def accuracy_against_cost(table: pd.DataFrame, ax: Axes, *, cost: str, label: str) -> Axes:
    """Accuracy with its interval against one cost on a log scale; the line joins the models on the Pareto front.

    table: one row per model, columns model, accuracy, low, high, on_front, and `cost`; optional <cost>_low, _high.
    """
    front = table[table["on_front"]].sort_values(cost)
    ax.plot(front[cost], 100 * front["accuracy"], color="0.7", linewidth=1, zorder=0)
    for row in table.to_dict("records"):
        style, value = model_style(row["model"]), 100 * row["accuracy"]
        across = None
        if f"{cost}_low" in row:
            across = [[row[cost] - row[f"{cost}_low"]], [row[f"{cost}_high"] - row[cost]]]
        ax.errorbar(
            row[cost],
            value,
            xerr=across,
            yerr=[[value - 100 * row["low"]], [100 * row["high"] - value]],
            color=style["color"],
            marker=style["marker"],
            markersize=5,
            linestyle="",
            elinewidth=0.8,
            label=style["label"],
        )
    if table[cost].max() > 3 * table[cost].min():
        log_axis(ax)
    ax.set(xlabel=label, ylabel="accuracy (%)")
    ax.margins(x=0.25)
    return ax


def log_axis(ax: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5 of each decade, or at the decades where there are many."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    subs = (1, 2, 5) if high / low < 100 else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def throughput_against_batch(table: pd.DataFrame, ax: Axes) -> Axes:
    """Images a second against the batch size: median over the repeats, band from the 10th to the 90th percentile.

    table: one row per model, batch size and repeat, columns model, batch_size, images_per_s.
    """
    order = table.groupby("model")["images_per_s"].max().sort_values(ascending=False).index
    for model in order:
        rows, style = table[table["model"] == model], model_style(model)
        quantiles = rows.groupby("batch_size")["images_per_s"].quantile([0.1, 0.5, 0.9]).unstack()
        ax.plot(quantiles.index, quantiles[0.5], markersize=3, linewidth=1, **style)
        ax.fill_between(quantiles.index, quantiles[0.1], quantiles[0.9], color=style["color"], alpha=0.15, linewidth=0)
    ax.set(xscale="log", yscale="log", xlabel="batch size", ylabel="images a second")
    sizes = sorted(table["batch_size"].unique())
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    return ax


def latency_spread(table: pd.DataFrame, ax: Axes) -> Axes:
    """Every repeat as a dot, a row for each model, the fastest first; the line is the median.

    table: columns model, ms.
    """
    models = table.groupby("model")["ms"].median().sort_values().index
    rng = np.random.default_rng(0)
    for place, model in enumerate(models):
        style, ms = model_style(model), table.loc[table["model"] == model, "ms"].to_numpy()
        ax.scatter(ms, place + rng.uniform(-0.25, 0.25, len(ms)), s=4, color=style["color"], alpha=0.5, linewidth=0)
        ax.vlines(np.median(ms), place - 0.35, place + 0.35, color="0.1", linewidth=1.2)
    ax.set_yticks(range(len(models)), [model_style(model)["label"] for model in models])
    ax.invert_yaxis()
    log_axis(ax)
    ax.set(xlabel="latency of one image (ms)")
    return ax


def block_times(table: pd.DataFrame, ax: Axes, *, model: str) -> Axes:
    """Share of the time of a forward pass by block, in the order they run; table: of `time_blocks`."""
    medians = table.groupby(["order", "block"])["ms"].median().reset_index()
    medians = medians[medians["ms"] >= 0.01 * medians["ms"].sum()]
    ax.barh(
        range(len(medians)), 100 * medians["ms"] / medians["ms"].sum(), color=model_style(model)["color"], alpha=0.7
    )
    ax.set_yticks(range(len(medians)), medians["block"], fontsize=6)
    ax.invert_yaxis()
    ax.set(xlabel="time (%)", title=model_style(model)["label"])
    return ax


def variant_ratios(table: pd.DataFrame, ax: Axes) -> Axes:
    """How many times as fast as "eager" each way to run a model is, with its interval.

    table: columns model, condition, speed_up, low, high.
    """
    models, conditions = (list(dict.fromkeys(table[name])) for name in ("model", "condition"))
    conditions = [name for name in conditions if name != "eager"]
    for i, model in enumerate(models):
        rows, style = table[table["model"] == model].set_index("condition").reindex(conditions), model_style(model)
        places = np.arange(len(conditions)) + 0.5 * ((i + 0.5) / len(models) - 0.5)
        errors = np.clip([rows["speed_up"] - rows["low"], rows["high"] - rows["speed_up"]], 0, None)
        look = dict(color=style["color"], marker=style["marker"], markersize=4, linestyle="", elinewidth=0.8)
        ax.errorbar(places, rows["speed_up"], yerr=errors, label=style["label"], **look)
    ax.axhline(1, color="0.6", linewidth=0.7, linestyle=":")
    ax.set_xticks(range(len(conditions)), conditions)
    ax.set(ylabel="times as fast as eager", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.tick_params(axis="y", which="both", labelsize=6)
    sns.despine(ax=ax)
    return ax
