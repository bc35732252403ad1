"""What fools one network and another."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src import tables
from src.plotting.style import PAGE_WIDTH, captioned, model_style, recolour
from src.tables.attacks import TRANSFER_STEPS, summarise_transfer

TRANSFER_NAMES = {"fgsm": "FGSM", "pgd": f"PGD-{TRANSFER_STEPS}", "mi_fgsm": f"MI-FGSM-{TRANSFER_STEPS}"}


def transfer(predictions: pd.DataFrame) -> Figure:
    """Success of examples made on one model and judged by another, a heatmap for each attack.

    predictions: of `attacks.measure_transfer`, as notebook 02 stores them, or of `attacks.transfer_predictions`.
    """
    table = summarise_transfer(predictions)
    if table.empty:
        return _none_right()
    models, attacks = list(table["source"].unique()), list(table["attack"].unique())
    width = PAGE_WIDTH / len(attacks)
    figure, axes = plt.subplots(1, len(attacks), figsize=(PAGE_WIDTH, width + 0.6), sharey=True, squeeze=False)
    for ax, attack in zip(axes[0], attacks, strict=True):
        part = table[table["attack"] == attack]
        transfer_heatmap(part, ax, models=models)
        ax.set(
            title=f"{TRANSFER_NAMES[attack]}, {255 * part['eps'].iloc[0]:g}/255",
            ylabel="" if attack != attacks[0] else "made on",
        )
    told = f"fooled (%), 95 % interval, of the n images that both networks get right{_of_first_seeds(predictions)}"
    figure.supxlabel(captioned(predictions, told), fontsize=7)
    return figure


def transfer_excess(predictions: pd.DataFrame) -> Figure:
    """What examples made on one network do to another beyond random signs, pair by pair, a panel for each attack.

    predictions: of `attacks.transfer_predictions` or `tables.attacks.stored_transfer`.  Diamonds: the targets of the
    additive model, for three networks and more.
    """
    pairs, fitted = tables.attacks.transfer_excess(predictions), tables.attacks.additive_transfer(predictions)
    if pairs.empty:
        return _none_right()
    attacks = list(pairs["attack"].unique())
    n_rows = (pairs["attack"] == attacks[0]).sum() + predictions["target"].nunique() * (not fitted.empty)
    size = (PAGE_WIDTH, 1.1 + 0.17 * n_rows)
    figure, axes = plt.subplots(1, len(attacks), figsize=size, sharey=True, squeeze=False)
    for ax, attack in zip(axes[0], attacks, strict=True):
        rows = pairs[pairs["attack"] == attack].assign(model=lambda of: of["target"], marker="o")
        if not fitted.empty:
            targets = fitted[(fitted["attack"] == attack) & (fitted["role"] == "target")]
            rows = pd.concat([rows, targets.assign(source="average source", target=targets["model"], marker="D")])
        for y, row in enumerate(rows.itertuples()):
            look = dict(color=model_style(row.model)["color"], marker=row.marker, markersize=3)
            ax.plot([100 * row.low, 100 * row.high], [y, y], color=look["color"], linewidth=1)
            ax.plot(100 * row.excess, y, **look)
        names = [
            f"{model_style(a)['label']} → {model_style(b)['label']}"
            for a, b in zip(rows["source"], rows["target"], strict=True)
        ]
        ax.set_yticks(range(len(rows)), names)
        ax.axvline(0, color="0.6", linewidth=0.7, zorder=0)
        ax.set(
            title=f"{TRANSFER_NAMES[attack]}, {255 * rows['eps'].iloc[0]:g}/255", xlabel="points beyond random signs"
        )
    axes[0, 0].set_ylim(n_rows - 0.5, -0.5)
    n = int(pairs["n"].iloc[0])
    told = f"n = {n:,} images that all networks get right; 95 % bootstrap over images{_of_first_seeds(predictions)}"
    figure.supxlabel(told, fontsize=7)
    return figure


def _of_first_seeds(predictions: pd.DataFrame) -> str:
    return "; first training seeds" if len(tables.attacks.first_round(predictions)) < len(predictions) else ""


def _none_right() -> Figure:
    figure = plt.figure(figsize=(PAGE_WIDTH, 0.6))
    figure.supxlabel("no image is right for all networks", fontsize=7)
    return figure


def transfer_heatmap(table: pd.DataFrame, ax: Axes, *, models: Sequence[str]) -> Axes:
    """Success of examples made on the model of a row against that of a column, in percent, above its interval.

    table: rows of `summarise_transfer` for one attack.  models: their order.
    """
    import seaborn as sns  # a second to import

    cells = table.set_index(["source", "target"]).reindex(pd.MultiIndex.from_product([models, models]))
    shape = (len(models), len(models))
    texts = [
        f"{100 * row.success:.0f}\n[{100 * row.low:.0f}, {100 * row.high:.0f}]\nn={row.n:.0f}"
        for row in cells.itertuples()
    ]
    names = [model_style(model)["label"].replace(", ", ",\n") for model in models]
    sns.heatmap(
        100 * cells["success"].to_numpy(float).reshape(shape),
        ax=ax,
        annot=np.array(texts).reshape(shape),
        fmt="",
        annot_kws={"fontsize": 6},
        cmap="Purples",
        vmin=0,
        vmax=100,
        square=True,
        cbar=False,
        xticklabels=names,
        yticklabels=names,
    )
    recolour(ax)
    ax.tick_params(axis="both", rotation=0, length=0)
    ax.set(xlabel="judged by", ylabel="made on")
    return ax
