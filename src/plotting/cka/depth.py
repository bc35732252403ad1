"""CKA at matched depth: beyond untrained networks, and under each choice of the layers."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from src.plotting.cka.names import pair_name
from src.plotting.style import PAGE_WIDTH, dataset_title, error_bars

# of the choices of the layers
CHOICE_LOOKS = (("#222222", "o"), ("#CC79A7", "s"), ("#E69F00", "^"))
CHOICE_LABELS = {"states": "states", "outputs": "what a module gives", "added": "what a block adds"}


def beyond_untrained(comparison: pd.DataFrame, *, dataset: str) -> Figure:
    """CKA at matched depth of every two architectures and of the seeds of each: a column for each measure.

    comparison: of `compare_at_depth`.  Filled: trained networks; hollow: untrained ones of the same architectures;
    crosses: the first layers alone, trained.  Beside each row the excess of trained over untrained networks.
    """
    measures, pairs = list(comparison["measure"].unique()), list(comparison["pair"].unique())
    size = (PAGE_WIDTH, 1 + 0.28 * len(pairs))
    figure, axes = plt.subplots(1, len(measures), figsize=size, sharex=True, sharey=True, squeeze=False)
    looks = {
        ("depth", "trained"): dict(fmt="o", label="trained"),
        ("depth", "untrained"): dict(fmt="o", markerfacecolor="none", label="untrained"),
        ("stem", "trained"): dict(fmt="x", color="0.6", label="first layers, trained"),
    }
    for ax, measure in zip(axes[0], measures, strict=True):
        part = comparison[comparison["measure"] == measure]
        for (layers, what), look in looks.items():
            rows = part[(part["layers"] == layers) & (part["what"] == what)]
            places = [pairs.index(pair) for pair in rows["pair"]]
            look = dict(color="0.15", markersize=4, elinewidth=0.9) | look
            ax.errorbar(rows["value"], places, xerr=error_bars(rows, "value"), **look)
        for row in part[(part["layers"] == "depth") & (part["what"] == "excess")].itertuples():
            said = f"{row.value:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"
            place = dict(xycoords=("axes fraction", "data"), va="center", fontsize=6.5)
            ax.annotate(said, (1.02, pairs.index(row.pair)), **place)
        ax.axvline(0, color="0.6", linewidth=0.7, linestyle=":")
        ax.set(title={"CKA": "CKA", "deconfounded": "inputs taken away"}[measure], xlabel="mean CKA at matched depth")
    names = [pair_name(pair) for pair in pairs]
    axes[0, 0].set_yticks(range(len(pairs)), names)
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=3, loc="outside lower center")
    n, seeds = comparison["n"].iloc[0], comparison.loc[comparison["what"] == "trained", "seeds"].max()
    figure.suptitle(
        f"{dataset_title(dataset)}, n = {n:,} test images, up to {seeds} training seeds; beside: the excess", fontsize=8
    )
    return figure


def by_choice(table: pd.DataFrame, *, dataset: str) -> Figure:
    """CKA at matched depth of every two architectures under each choice of what the layers are, a column a number.

    table: of `tables.cka.by_choice`.  Hollow: the same layers as a choice above, hence the same
    number.  Grey: the range over choices.
    """
    columns = [
        ("CKA", "trained", "CKA, trained"),
        ("CKA", "excess", "CKA, trained\nless untrained"),
        ("deconfounded", "excess", "the same, inputs\ntaken away"),
    ]
    columns = [column for column in columns if ((table["measure"] == column[0]) & (table["what"] == column[1])).any()]
    pairs, choices = list(table["pair"].unique()), list(table["choice"].unique())
    size = (PAGE_WIDTH, 1 + 0.45 * len(pairs))
    figure, axes = plt.subplots(1, len(columns), figsize=size, sharey=True, squeeze=False)
    for ax, (measure, what, title) in zip(axes[0], columns, strict=True):
        part = table[(table["measure"] == measure) & (table["what"] == what)]
        for choice, (colour, marker) in zip(choices, CHOICE_LOOKS, strict=False):
            rows = part[part["choice"] == choice]
            places = np.array([pairs.index(pair) for pair in rows["pair"]]) + 0.22 * (choices.index(choice) - 1)
            bars = dict(fmt="none", color=colour, elinewidth=0.9)
            ax.errorbar(rows["value"], places, xerr=error_bars(rows, "value"), **bars)
            for value, place, same in zip(rows["value"], places, rows["same_as"], strict=True):
                ax.plot(value, place, marker, color=colour, markersize=4, markerfacecolor="white" if same else colour)
            ax.plot([], [], marker, color=colour, markersize=4, label=CHOICE_LABELS.get(choice, choice))
        for pair, rows in part.groupby("pair", sort=False):
            ends = rows["value"].agg(["min", "max"])
            ax.hlines(pairs.index(pair), *ends, color="0.85", linewidth=4, zorder=0)
        ax.axvline(0, color="0.6", linewidth=0.7, linestyle=":")
        ax.set_xlabel(title)
    names = [pair_name(pair) for pair in pairs]
    axes[0, 0].set_yticks(range(len(pairs)), names)
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=3, loc="outside lower center")
    n, seeds = table["n"].iloc[0], table.loc[table["what"] == "trained", "seeds"].max()
    over = f"images and {seeds} training seeds" if seeds > 1 else "images, of one training seed"
    said = f"n = {n:,} test images; bars: 95 % over {over}; grey: range over choices; hollow: layers as above"
    figure.suptitle(f"{dataset_title(dataset)}, {said}", fontsize=7)
    return figure
