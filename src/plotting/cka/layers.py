"""Layers against layers, along the depth, matched, and by other measures.

Networks are of one training seed: `model_seed`, or the first the table has of a model.
"""

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plotting.cka.names import layer_label, network_name
from src.plotting.style import PAGE_WIDTH, dataset_title, line_with_band, model_style
from src.tables.cka import between, by_distance, matched_layers, one_seed
from src.tables.cka.hsic import NETWORK_A, NETWORK_B

MOST = 4  # models that a page has room for


def layer_grid(table: pd.DataFrame, models: Sequence[str] = (), *, model_seed: int | None = None) -> Figure:
    """CKA of all layers within each network, on the diagonal, and across networks.

    table: of `cka_table`, of stored HSIC (with its column dataset).  models: the first four are drawn; by default those
    of the table.  Layers stand in the order in which they run; those that do not vary stay white.
    """
    table, models = one_seed(table, model_seed), _shown(table, models)
    n = len(models)
    figure, axes = plt.subplots(n, n, figsize=(PAGE_WIDTH, 0.95 * PAGE_WIDTH), squeeze=False)
    for (i, a), (j, b) in product(enumerate(models), repeat=2):
        if i > j:
            axes[i, j].set_visible(False)
        else:
            _layer_heatmap(between(table, a, b), axes[i, j])
    _colour_bar(figure, axes, "CKA")
    figure.suptitle(_caption(table), fontsize=8)
    return figure


def trained_against_untrained(
    table: pd.DataFrame, models: Sequence[str] = (), *, model_seed: int | None = None
) -> Figure:
    """CKA of the layers of each network with those of the same network with random weights; as `layer_grid`."""
    table, models = one_seed(table, model_seed), _shown(table, models)
    figure, axes = plt.subplots(1, len(models), figsize=(PAGE_WIDTH, 2.4), squeeze=False)
    for ax, name in zip(axes[0], models, strict=True):
        rows = between(table, name, name, kinds=("trained", "untrained"))
        _layer_heatmap(rows, ax)
    _colour_bar(figure, axes, "CKA")
    figure.suptitle(_caption(table), fontsize=8)
    return figure


def along_depth(table: pd.DataFrame, *, model_seed: int | None = None) -> Figure:
    """Left: mean CKA of two layers of a network against how many layers apart they are; right: CKA of each layer with
    the labels against depth, with intervals over minibatches.  Untrained networks are dotted.  table: as `layer_grid`.
    """
    table = one_seed(table, model_seed)
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 2.8))
    for (name, kind), rows in by_distance(table).groupby(["model", "kind"], sort=False):
        left.plot(rows["distance"], rows["cka"], markersize=3, **_line_style(name, kind))
    to_labels = table[(table["kind_b"] == "labels") & (table["kind_a"] != "labels")]
    for (name, kind), rows in to_labels.groupby(["model_a", "kind_a"], sort=False):
        rows = rows.sort_values("depth_a")
        line_with_band(right, rows["depth_a"], rows, value="cka", **_line_style(name, kind))
    left.set(ylim=(0, 1.02), xlabel="layers apart", ylabel="mean CKA")
    right.set(xlim=(-0.03, 1.03), xlabel="depth", ylabel="CKA with the labels")
    figure.legend(*right.get_legend_handles_labels(), ncols=MOST, loc="outside upper center")
    figure.supxlabel(_caption(table), fontsize=8)
    return figure


def matching(table: pd.DataFrame, models: Sequence[str] = (), *, model_seed: int | None = None) -> Figure:
    """Every two networks as columns of layers, the stem below; lines join matched layers, the darker the more alike.

    table, models: as of `layer_grid`.
    """
    table = one_seed(table, model_seed)
    couples = list(combinations(_shown(table, models), 2))
    if not couples:
        raise ValueError("layers are matched between two models, and there is one")
    n_rows = -(-len(couples) // 3)
    figure, axes = plt.subplots(n_rows, -(-len(couples) // n_rows), figsize=(PAGE_WIDTH, 2.9 * n_rows), squeeze=False)
    for ax, (a, b) in zip(axes.flat, couples, strict=True):
        rows = between(table, a, b)
        for x, side, name in ((0, "a", a), (1, "b", b)):
            layers = rows.drop_duplicates(f"index_{side}")
            ax.plot([x] * len(layers), layers[f"depth_{side}"], "o", markersize=3, color=model_style(name)["color"])
            place = dict(textcoords="offset points", ha=("right", "left")[x], va="center", fontsize=6)
            for layer, depth in zip(layers[f"layer_{side}"], layers[f"depth_{side}"], strict=True):
                ax.annotate(layer_label(layer), (x, depth), (8 * x - 4, 0), **place)
        for row in matched_layers(rows, [a, b]).itertuples():
            grey = str(1 - np.clip(row.cka, 0.1, 1))
            ax.plot([0, 1], [row.depth_a, row.depth_b], color=grey, linewidth=1, zorder=0)
        ax.set(xlim=(-0.6, 1.6), xticks=[0, 1], xticklabels=[network_name(a), network_name(b)], yticks=[])
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    figure.suptitle(_caption(table), fontsize=8)
    return figure


def by_measure(measures: pd.DataFrame, *, model_seed: int | None = None) -> Figure:
    """All layers of all networks with each other by each measure, the mean over batches; lines between networks.

    measures: of `cka.measure_table`, as stored (with its column dataset).
    """
    measures = one_seed(measures, model_seed)
    names = list(measures["measure"].unique())
    figure, axes = plt.subplots(1, len(names), figsize=(PAGE_WIDTH, 2.6), squeeze=False)
    sides = [[*NETWORK_A, "index_a"], [*NETWORK_B, "index_b"]]
    for ax, name in zip(axes[0], names, strict=True):
        mean = measures[measures["measure"] == name].groupby(sides[0] + sides[1], sort=False)["value"].mean()
        mean = mean.unstack(sides[1], sort=False)
        cells = np.fmax(mean.to_numpy(), mean.to_numpy().T)  # each pair stands once
        _heatmap(cells, ax)
        networks = mean.index.get_level_values("model_a")
        starts = np.flatnonzero(~networks.duplicated())
        middles = (starts + np.append(starts[1:], len(networks))) / 2
        labels = [network_name(network) for network in networks[starts]]
        ax.set_xticks(middles, labels, rotation=90)
        ax.set_yticks(middles, labels if ax is axes[0, 0] else [""] * len(labels), rotation=0)
        ax.tick_params(length=0)
        ax.hlines(starts[1:], 0, len(cells), color="white", linewidth=0.8)
        ax.vlines(starts[1:], 0, len(cells), color="white", linewidth=0.8)
        ax.set_title(name)
    _colour_bar(figure, axes, "similarity")
    figure.suptitle(_caption(measures), fontsize=8)
    return figure


def _layer_heatmap(rows: pd.DataFrame, ax: Axes) -> None:
    """rows: one pair of networks, a down and b across."""
    cells = rows.pivot(index=["index_a", "layer_a"], columns=["index_b", "layer_b"], values="cka")
    down, across = ([layer_label(layer) for _, layer in index] for index in (cells.index, cells.columns))
    _heatmap(cells.to_numpy(float), ax)
    ax.set_xticks(np.arange(len(across)) + 0.5, across, rotation=90)
    ax.set_yticks(np.arange(len(down)) + 0.5, down)
    ax.tick_params(length=0, labelsize=6)
    names = {side: network_name(rows[f"model_{side}"].iloc[0], rows[f"kind_{side}"].iloc[0]) for side in "ab"}
    ax.set(xlabel=names["b"], ylabel=names["a"])


def _heatmap(cells: np.ndarray, ax: Axes) -> None:
    """Cells from 0 to 1, the first row at the top; seaborn's draws the whole figure again for each panel."""
    ax.pcolormesh(cells, cmap="magma", vmin=0, vmax=1)
    ax.invert_yaxis()
    ax.spines[:].set_visible(False)


def _colour_bar(figure: Figure, axes: np.ndarray, label: str) -> None:
    """One for all panels, which have one scale."""
    figure.colorbar(axes[0, 0].collections[0], ax=axes, label=label, shrink=0.7, aspect=30, pad=0.01)


def _line_style(model: str, kind: str) -> dict:
    style = model_style(model) | dict(label=network_name(model, kind))
    return style | (dict(linestyle=":", markerfacecolor="none", linewidth=0.8) if kind == "untrained" else {})


def _shown(table: pd.DataFrame, models: Sequence[str]) -> list[str]:
    return list(models or table.loc[table["kind_a"] == "trained", "model_a"].unique())[:MOST]


def _caption(table: pd.DataFrame) -> str:
    """Data set, what was measured, on how many images, and of what training seeds."""
    seeds = ", ".join(map(str, sorted(table.loc[table["kind_a"] == "trained", "seed_a"].unique())))
    first = table.iloc[0]
    if "measure" in table:
        measured = f"{table['batch'].nunique()} batches of {first['n']} test images"
    else:
        estimate = "unbiased" if first["unbiased"] else "biased"
        measured = f"{estimate} {first['kernel']} CKA, n = {first['n']:,} test images"
    return f"{dataset_title(first['dataset'])}, {measured}, training seed {seeds}"
