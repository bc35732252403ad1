"""How alike layers are: heatmaps, curves along the depth, and which layers belong together."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from src.plotting.style import model_style

UNTRAINED = " untrained"  # what the name of a network with random weights ends with


def network_name(network: str) -> str:
    """As a reader knows it: the label of the architecture, and whether it is untrained."""
    own = network.removesuffix(UNTRAINED)
    return model_style(own)["label"] + (", untrained" if own != network else "")


def cka_heatmap(table: pd.DataFrame, ax: Axes, *, colour_bar: bool = False) -> Axes:
    """CKA of the layers of one network (rows) with those of another (columns), each from the stem on.

    table: rows of `cka_table` for one pair of networks.  Layers that do not vary stay white.
    """
    cells = table.pivot(index="index_a", columns="index_b", values="cka")
    names = {side: table.drop_duplicates(f"index_{side}").set_index(f"index_{side}")[f"layer_{side}"] for side in "ab"}
    short = {side: [layer_label(name) for name in names[side].sort_index()] for side in "ab"}
    sns.heatmap(
        cells.to_numpy(float),
        ax=ax,
        cmap="magma",
        vmin=0,
        vmax=1,
        cbar=colour_bar,
        cbar_kws={"label": "CKA", "shrink": 0.7},
        xticklabels=short["b"],
        yticklabels=short["a"],
    )
    ax.tick_params(axis="x", rotation=90, length=0, labelsize=5.5)
    ax.tick_params(axis="y", rotation=0, length=0, labelsize=5.5)
    ax.set(xlabel=network_name(table["model_b"].iloc[0]), ylabel=network_name(table["model_a"].iloc[0]))
    return ax


def measure_heatmap(table: pd.DataFrame, ax: Axes, *, colour_bar: bool = False) -> Axes:
    """All layers of all networks with each other by one measure, from each stem on, lines between networks.

    table: rows of `cka.measure_table` for one measure; batches are averaged.
    """
    sides = [[f"{what}_{side}" for what in ("model", "seed", "index")] for side in "ab"]
    mean = table.groupby([*sides[0], *sides[1]], sort=False)["value"].mean().reset_index()
    layers = list(mean[sides[0]].drop_duplicates().itertuples(index=False, name=None))
    place = {layer: i for i, layer in enumerate(layers)}
    cells = np.full((len(layers), len(layers)), np.nan)
    for *key, value in mean.itertuples(index=False, name=None):
        i, j = place[tuple(key[:3])], place[tuple(key[3:])]
        cells[i, j] = cells[j, i] = value
    bar = {"label": "similarity", "shrink": 0.7}
    sns.heatmap(cells, ax=ax, cmap="magma", vmin=0, vmax=1, cbar=colour_bar, cbar_kws=bar, square=True)
    networks = pd.Series([layer[:2] for layer in layers])
    starts = networks.drop_duplicates().index.to_numpy()
    middles = (starts + np.append(starts[1:], len(layers))) / 2
    names = [network_name(networks[start][0]) for start in starts]
    ax.set_xticks(middles, names, rotation=90)
    ax.set_yticks(middles, names, rotation=0)
    ax.tick_params(length=0)
    for start in starts[1:]:
        ax.axhline(start, color="white", linewidth=0.8)
        ax.axvline(start, color="white", linewidth=0.8)
    ax.set_title(table["measure"].iloc[0])
    return ax


def layer_label(layer: str) -> str:
    """Short enough for an axis; what goes into a LayerNorm of an MLP is the state before it."""
    return (
        layer.removeprefix("net.")
        .replace("layernorms.", "state ")
        .replace("linear_out", "state, last")
        .removesuffix(":input")
    )


def similarity_by_depth(table: pd.DataFrame, ax: Axes) -> Axes:
    """CKA of each layer with one layer of another network, against depth, with 95 % bands; a line for each network.

    table: rows of `cka_table` with one layer on side b for each network on side a.
    """
    for network, rows in table.groupby("model_a", sort=False):
        rows = rows.sort_values("depth_a")
        style = dict(model_style(network.removesuffix(UNTRAINED))) | dict(label=network_name(network))
        if network.endswith(UNTRAINED):
            style |= dict(linestyle=":", markerfacecolor="none", linewidth=0.8)
        ax.plot(rows["depth_a"], rows["cka"], markersize=3, **style)
        ax.fill_between(rows["depth_a"], rows["low"], rows["high"], color=style["color"], alpha=0.15, linewidth=0)
    ax.set(xlim=(-0.03, 1.03), xlabel="depth", ylabel="CKA")
    return ax


def similarity_by_distance(table: pd.DataFrame, ax: Axes) -> Axes:
    """Mean CKA of two layers of a network against how many layers lie between them; table: rows of `by_distance`."""
    for network, rows in table.groupby("model", sort=False):
        style = dict(model_style(network.removesuffix(UNTRAINED))) | dict(label=network_name(network))
        if network.endswith(UNTRAINED):
            style |= dict(linestyle=":", markerfacecolor="none", linewidth=0.8)
        ax.plot(rows["distance"], rows["cka"], markersize=3, **style)
    ax.set(ylim=(0, 1.02), xlabel="layers apart", ylabel="mean CKA")
    return ax


def matched_layers(table: pd.DataFrame, matched: list[tuple[int, int]], ax: Axes) -> Axes:
    """Two networks as columns of layers, the stem below; lines join matched ones, the darker the more alike.

    table: rows of `cka_table` for one pair of networks.  matched: of `match_layers`.
    """
    cells = table.pivot(index="index_a", columns="index_b", values="cka").to_numpy()
    places = {}
    for x, side in enumerate("ab"):
        layers = table.drop_duplicates(f"index_{side}").sort_values(f"index_{side}")
        places[side] = layers[f"depth_{side}"].to_numpy()
        network = table[f"model_{side}"].iloc[0]
        ax.plot(np.full(len(layers), x), places[side], "o", markersize=3, color=model_style(network)["color"])
        for depth, name in zip(places[side], layers[f"layer_{side}"], strict=True):
            ax.annotate(
                layer_label(name), (x, depth), (-4 if x == 0 else 4, 0), textcoords="offset points",
                ha="right" if x == 0 else "left", va="center", fontsize=5,
            )  # fmt: skip
    for i, j in matched:
        ax.plot(
            [0, 1], [places["a"][i], places["b"][j]], color=str(1 - np.clip(cells[i, j], 0.1, 1)), linewidth=1, zorder=0
        )
    ax.set(xlim=(-0.6, 1.6), xticks=[0, 1], xticklabels=[network_name(table[f"model_{s}"].iloc[0]) for s in "ab"])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax
