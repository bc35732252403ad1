"""Figure of stylised images: every painter against every judge."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from src import tables
from src.plotting.style import PAGE_WIDTH, dataset_title, model_style, text_on
from src.plotting.texture_shape.rows import one_seed

CELL = "{excess:+.2f}\n[{low:+.2f}, {high:+.2f}]\n{shape:.0%} / {texture:.0%} / {neither:.0%}\nn = {n}"


def painter_matrix(table: pd.DataFrame, *, models: Sequence[str] = (), model_seed: int | None = None) -> Figure:
    """Stylised images: share for the shape less that for the texture, painters (rows) by judges (columns).

    Below the interval: shares that follow shape, texture and neither, and how many conflicts count.  Hatched: the judge
    painted these images itself.  Outsiders stand above the line; apart, at the right: a rule that sees pixels alone.
    table: of `predict_conflicts`, with the column painter (`tables.texture_shape.stored_conflicts` has it).
    Raises ValueError where it has no stylised rows.
    """
    table, title = one_seed(table[table["condition"] == "stylised"], models, model_seed)
    cells = tables.texture_shape.painter_matrix(table)
    painters, judges = list(dict.fromkeys(cells["painter"])), list(dict.fromkeys(cells["judge"]))
    places = [i + 0.15 * (judge == tables.texture_shape.PIXELS) for i, judge in enumerate(judges)]
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 0.8 + 0.72 * len(painters)))
    colours = plt.get_cmap("PuOr")
    for row in cells.itertuples():
        x, y = places[judges.index(row.judge)], painters.index(row.painter)
        look = dict(facecolor="0.9" if np.isnan(row.excess) else colours(0.5 + 0.45 * row.excess))
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, edgecolor="white", linewidth=1, **look))
        if row.own:
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="////", edgecolor="0.45", linewidth=0))
        text = CELL.format(**row._asdict()) if row.n else "none right"
        box = dict(boxstyle="square,pad=0.15", linewidth=0, **look)
        ax.text(x, y, text, ha="center", va="center", fontsize=6, color=text_on(look["facecolor"]), bbox=box)
    n_outsiders = sum(cells.drop_duplicates("painter")["outsider"])
    if 0 < n_outsiders < len(painters):
        ax.axhline(n_outsiders - 0.5, color="0.2", linewidth=1)
        figure.supxlabel("below the line: painters that are compared themselves", fontsize=7, x=0, ha="left")
    names = [judge if judge == tables.texture_shape.PIXELS else model_style(judge)["label"] for judge in judges]
    ax.set_xticks(places, names)
    ax.set_yticks(range(len(painters)), [_painter_name(painter, set(judges)) for painter in painters])
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set(xlim=(-0.5, places[-1] + 0.5), ylim=(len(painters) - 0.5, -0.5), xlabel="judge", ylabel="painter")
    ax.spines[:].set_visible(False)
    mark = Patch(facecolor="none", edgecolor="0.45", hatch="////", linewidth=0, label="the judge painted these itself")
    if cells["own"].any():
        figure.legend(handles=[mark], loc="outside lower right")
    figure.suptitle(
        f"{title}, stylised images: share for shape less that for texture; shape / texture / neither", fontsize=8
    )
    return figure


def _painter_name(painter: str, judges: set[str]) -> str:
    if painter in judges:
        return model_style(painter)["label"]
    network, on, dataset = painter.partition(" on ")
    return f"{model_style(network)['label']} on\n{dataset_title(dataset)}" if on else painter.replace(" ", "\n", 1)
