"""Figure of invariance: predictions that survive shifts, turns, changes of size and flips."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src import tables
from src.plotting.style import PAGE_WIDTH, line_with_band, model_style
from src.plotting.texture_shape.rows import one_seed
from src.tables.texture_shape import TRANSFORMATIONS, UNITS


def invariance(table: pd.DataFrame, *, models: Sequence[str] = (), model_seed: int | None = None) -> Figure:
    """Share of predictions kept at each level, a panel for each transformation; arguments as of `accuracies`.

    Raises ValueError where the table has no transformations, as those made before they were measured.
    """
    table, title = one_seed(table, models, model_seed)
    kept = tables.texture_shape.predictions_kept(table)
    shown = [name for name in TRANSFORMATIONS if name in set(kept["condition"])]
    if not shown:
        raise ValueError(f"the table has none of {', '.join(TRANSFORMATIONS)}; run notebook 03 to measure them")
    ratios = [max(1, kept.loc[kept["condition"] == name, "level"].nunique() - 1) for name in shown]
    size = (PAGE_WIDTH, 2.3)
    figure, axes = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False, width_ratios=ratios)
    for ax, name in zip(axes[0], shown, strict=True):
        kept_curves(kept[kept["condition"] == name], ax, unit=UNITS[name])
        ax.set_title(name)
    axes[0, 0].set_ylabel("predictions kept (%)")
    axes[0, 0].legend(loc="lower left", bbox_to_anchor=(0, 0.1))
    figure.suptitle(
        f"{title}, n = {kept['n'].max():,} test images, 95 % Wilson intervals; dotted: what chance keeps", fontsize=8
    )
    return figure


def kept_curves(table: pd.DataFrame, ax: Axes, *, unit: str) -> Axes:
    """Predictions kept at each level, at equal distances, with bands; dotted: what chance keeps of such predictions.

    table: of `predictions_kept`, one transformation.
    """
    levels, models = sorted(table["level"].unique()), list(table["model"].unique())
    for model, rows in table.groupby("model", sort=False):
        rows, style = rows.set_index("level").reindex(levels), model_style(model)
        aside = 0.3 * (models.index(model) - (len(models) - 1) / 2) / len(models) if len(levels) == 1 else 0
        places = np.arange(len(levels)) + aside
        line_with_band(ax, places, rows, value="kept", scale=100, **style)
        ax.vlines(places, 100 * rows["low"], 100 * rows["high"], color=style["color"], linewidth=0.6)
        ends = places if len(levels) > 1 else np.array([-0.3, 0.3])  # a flip has one level
        chance = np.broadcast_to(rows["chance"], len(ends))
        ax.plot(ends, 100 * chance, color=style["color"], linewidth=0.6, linestyle=":")
    ax.set_xticks(range(len(levels)), [f"{level:g}" for level in levels] if len(levels) > 1 else [""])
    ax.set(xlabel=unit, ylim=(0, 103), xlim=(-0.4, len(levels) - 0.6))
    return ax
