"""Figures of notebook 06, from its tables costs, timings and blocks."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from src.plotting.style import PAGE_WIDTH, dataset_title, error_bars, line_with_band, model_style
from src.tables.efficiency import headline as rows_of_headline
from src.tables.efficiency import one_image, overview, pareto_front, speed_ups

COSTS = {  # column of `overview` -> label
    "p50": "latency of one image (ms)",
    "macs": "MACs (millions)",
    "parameters": "parameters (millions)",
    "activations": "activations (MiB an image)",
}


def pareto(costs: pd.DataFrame, timings: pd.DataFrame) -> Figure:
    """Accuracy against each of COSTS; networks without an accuracy are left out."""
    rated = overview(costs, timings).dropna(subset="accuracy")
    figure, axes = plt.subplots(1, len(COSTS), figsize=(PAGE_WIDTH, 2.3), sharey=True)
    for ax, (cost, label) in zip(axes, COSTS.items(), strict=True):
        front = pareto_front(rated, cost=cost, gain="accuracy")
        accuracy_against_cost(rated.assign(on_front=front), ax, cost=cost, label=label)
        ax.label_outer()
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=6, loc="outside lower center")
    figure.suptitle(f"{_conditions(one_image(timings))}; grey: no other network beats these in both", fontsize=8)
    return figure


def _conditions(timings: pd.DataFrame) -> str:
    row = timings.iloc[0]
    return (
        f"{dataset_title(row['dataset'])}, {row['device']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    )


def accuracy_against_cost(table: pd.DataFrame, ax: Axes, *, cost: str, label: str) -> Axes:
    """Accuracy with its interval against one cost, on a log scale where costs are far apart; a line joins the front.

    table: one row per model, columns model, accuracy, low, high, on_front, and `cost`.
    """
    front = table[table["on_front"]].sort_values(cost)
    ax.plot(front[cost], 100 * front["accuracy"], color="0.7", linewidth=1, zorder=0)
    for model, row in table.groupby("model", sort=False):
        style = model_style(model) | dict(linestyle="", markersize=5)
        ax.errorbar(
            row[cost], 100 * row["accuracy"], yerr=error_bars(row, "accuracy", scale=100), elinewidth=0.8, **style
        )
    ax.margins(x=0.25)
    if table[cost].max() > 3 * table[cost].min():
        log_axis(ax)
    elif table[cost].max() < 1.2 * table[cost].min():  # all but equal: no front to see
        ax.set_xlim(0, 1.5 * table[cost].max())
    ax.set(xlabel=label, ylabel="accuracy (%)")
    return ax


def log_axis(ax: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5 of each decade, or at the decades where there are many."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    subs = (1, 2, 5) if high / low < 100 else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def headline(costs: pd.DataFrame, timings: pd.DataFrame) -> Figure:
    """MACs, time an image at saturation and latency of one image, side by side; the latency for each thread count.

    Right panels: filled where networks take turns, hollow where each ran alone (not in tables of older code).
    """
    table = rows_of_headline(costs, timings)
    models = list(table.loc[table["what"] == "MACs"].sort_values("value")["model"])
    latency, units = table["what"].isin(["latency", "alone"]), sorted(table["threads"].dropna().unique())
    panels = [("MACs (millions)", table["what"] == "MACs"), ("ms an image,\nsaturated", table["what"] == "saturation")]
    panels += [(f"ms of one image,\nthreads: {n:g}", latency & (table["threads"] == n)) for n in units]
    panels = [(label, table[rows]) for label, rows in panels if rows.any()]
    figure, axes = plt.subplots(1, len(panels), figsize=(PAGE_WIDTH, 0.9 + 0.25 * len(models)), sharey=True)
    for ax, (label, rows) in zip(axes, panels, strict=True):
        for row in rows.itertuples():
            look = dict(color=model_style(row.model)["color"], marker=model_style(row.model)["marker"], markersize=4.5)
            look |= dict(markerfacecolor="none") if row.what == "alone" else {}
            place = models.index(row.model) + (0.2 if row.what == "alone" else 0)
            ends = None if np.isnan(row.low) else error_bars(rows.loc[[row.Index]], "value")
            ax.errorbar(row.value, place, xerr=ends, elinewidth=0.9, **look)
        ax.set(xlabel=label, xlim=(rows["value"].min() / 3, rows["value"].max() * 3))  # few processes: endless bars
        log_axis(ax)
    axes[0].set_yticks(range(len(models)), [model_style(model)["label"] for model in models])
    axes[0].set_ylim(len(models) - 0.4, -0.6)
    processes = timings["process"].nunique() if "process" in timings else 1
    where = f"{dataset_title(timings['dataset'].iloc[0])}, {timings['device'].iloc[0]}"
    alone = "; hollow: alone" if (table["what"] == "alone").any() else "; not timed alone"
    figure.suptitle(f"{where}, processes: {processes}{alone}", fontsize=8)
    return figure


def times(timings: pd.DataFrame) -> Figure:
    """Latency of one image in every repeat, images a second by batch size, and ways to run the networks beside eager.

    The last two without the networks that are there for scale: those that were timed in one way only.
    """
    ways, single = timings[timings["sweep"] == "variants"], one_image(timings)
    rates = timings[(timings["sweep"] == "batches") & timings["model"].isin(ways["model"])]
    figure, axes = plt.subplots(1, 3, figsize=(PAGE_WIDTH, 2.5), width_ratios=(1.2, 1, 1))
    latency_spread(single, axes[0])
    throughput_against_batch(rates, axes[1])
    axes[1].legend()
    variant_ratios(speed_ups(ways), axes[2])
    axes[2].set_xlabel(f"batch of {ways['batch_size'].iloc[0]}")
    figure.suptitle(f"{_conditions(single)} (left)", fontsize=8)
    return figure


def throughput_against_batch(table: pd.DataFrame, ax: Axes) -> Axes:
    """Images a second against the batch size: median over the repeats, band from the 10th to the 90th percentile.

    table: one row per model, batch size and repeat, columns model, batch_size, images_per_s.
    """
    order = table.groupby("model")["images_per_s"].max().sort_values(ascending=False).index
    for model in order:
        rates = table[table["model"] == model].groupby("batch_size")["images_per_s"]
        rows = rates.quantile([0.1, 0.5, 0.9]).unstack().set_axis(["low", "median", "high"], axis=1)
        line_with_band(ax, rows.index, rows, value="median", **model_style(model))
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
        ms = table.loc[table["model"] == model, "ms"].to_numpy()
        look = dict(s=4, color=model_style(model)["color"], alpha=0.5, linewidth=0)
        ax.scatter(ms, place + rng.uniform(-0.25, 0.25, len(ms)), **look)
        ax.vlines(np.median(ms), place - 0.35, place + 0.35, color="0.1", linewidth=1.2)
    ax.set_yticks(range(len(models)), [model_style(model)["label"] for model in models])
    ax.invert_yaxis()
    log_axis(ax)
    ax.set(xlabel="latency of one image (ms)")
    return ax


def variant_ratios(table: pd.DataFrame, ax: Axes) -> Axes:
    """How many times as fast as "eager" each way to run a model is, with its interval.

    table: columns model, condition, speed_up, low, high.
    """
    models, conditions = (list(dict.fromkeys(table[name])) for name in ("model", "condition"))
    conditions = [name for name in conditions if name != "eager"]
    for i, model in enumerate(models):
        rows = table[table["model"] == model].set_index("condition").reindex(conditions)
        places = np.arange(len(conditions)) + 0.5 * ((i + 0.5) / len(models) - 0.5)
        look = model_style(model) | dict(markersize=4, linestyle="", elinewidth=0.8)
        ax.errorbar(places, rows["speed_up"], yerr=error_bars(rows, "speed_up"), **look)
    ax.axhline(1, color="0.6", linewidth=0.7, linestyle=":")
    ax.set_xticks(range(len(conditions)), conditions, rotation=20)
    ax.set(ylabel="times as fast as eager", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.tick_params(axis="y", which="both", labelsize=6)
    return ax


def blocks(table: pd.DataFrame) -> Figure:
    """Share of the time by block, in the order they run, among those that take a hundredth or more of a forward pass.

    table: blocks of notebook 06, a panel for each model.
    """
    models = table["model"].unique()
    figure, axes = plt.subplots(1, len(models), figsize=(PAGE_WIDTH, 2.4), squeeze=False)
    for ax, model in zip(axes[0], models, strict=True):
        medians = table[table["model"] == model].groupby(["order", "block"])["ms"].median().reset_index()
        medians = medians[medians["ms"] >= 0.01 * medians["ms"].sum()]
        shares, style = 100 * medians["ms"] / medians["ms"].sum(), model_style(model)
        ax.barh(range(len(medians)), shares, color=style["color"], alpha=0.7)
        ax.set_yticks(range(len(medians)), medians["block"], fontsize=6)
        ax.invert_yaxis()
        ax.set(xlabel="time (%)", title=style["label"])
    return figure
