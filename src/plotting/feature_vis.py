"""Figures of notebook 04b."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plotting.style import PAGE_WIDTH, model_style

# measure -> what its axis says
MEASURES = {
    "p": "probability\nof the class",
    "p_shift": "probability\nwhen shifted",
    "p_transfer": "probability, other\narchitectures",
    "tv": "total variation",
    "spectrum_db": "spectrum, distance\nfrom natural (dB)",
    "distance": "relative feature distance",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
}


def picture_rows(
    pictures: Mapping[str, Sequence[np.ndarray]],
    captions: Mapping[str, Sequence[str]],
    *,
    titles: Sequence[str] = (),
    columns: int | None = None,
) -> Figure:
    """A row of pictures for each name, each over its caption; rows may differ in length.

    pictures: name of the row -> images [h, w, 3], uint8 or in [0, 1].  captions: name -> a text of any number of lines
    for each picture.  titles: above the first row.  columns: how many fit into a row, where the longest has fewer.
    """
    widest = max(columns or 0, *(len(row) for row in pictures.values()))
    lines = 1 + max((text.count("\n") for texts in captions.values() for text in texts), default=0)
    cell = min((PAGE_WIDTH - 0.75) / widest, 0.9)
    size = (0.75 + widest * cell, len(pictures) * (cell + 0.085 * lines + 0.07) + 0.2)
    figure, axes = plt.subplots(len(pictures), widest, figsize=size, squeeze=False)
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for row, (name, images) in zip(axes, pictures.items(), strict=True):
        row[0].set_ylabel(name.strip(), rotation=0, ha="right", va="center", fontsize=6.5)
        for ax, image, caption in zip(row, images, captions[name], strict=False):
            ax.imshow(image, interpolation="nearest", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
            ax.set_xlabel(caption, fontsize=5, labelpad=1.5, linespacing=1.05)
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(title, fontsize=6.5, pad=2)
    return figure


def measure_points(table: pd.DataFrame, ax: Axes, *, measure: str, conditions: Sequence[str]) -> Axes:
    """Mean of a measure for each condition (top to bottom) with its interval over seeds, a point for each model.

    table: rows of `mean_over_seeds` by model and condition.  conditions: in order; "real" is set off by a band.
    """
    rows = table[table["measure"] == measure]
    models = list(dict.fromkeys(rows["model"]))
    for i, model in enumerate(models):
        own = rows[rows["model"] == model].set_index("condition").reindex(conditions)
        places = np.arange(len(conditions)) + (i - (len(models) - 1) / 2) * 0.6 / max(len(models), 1)
        style = {key: value for key, value in model_style(model).items() if key != "linestyle"}
        ax.hlines(places, own["low"], own["high"], color=style["color"], linewidth=1)
        ax.plot(own["mean"], places, linestyle="none", markersize=3.5, **style)
    if "real" in conditions:
        place = list(conditions).index("real")
        ax.axhspan(place - 0.5, place + 0.5, color="0.93", linewidth=0, zorder=0)
    ax.set_yticks(range(len(conditions)), conditions)
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(len(conditions) - 0.5, -0.5), xlabel=MEASURES[measure])
    if measure.startswith("p") and measure != "psnr":
        ax.set_xlim(-0.03, 1.03)
    return ax


def depth_curves(table: pd.DataFrame, ax: Axes, *, measure: str, references: Mapping[str, str] | None = None) -> Axes:
    """A measure along the depth, from the stem (0) to the logits (1), with 95 % bands, a line for each model.

    table: rows of `depth_curve`.  references: condition -> label, at most three, drawn thin: what no inversion gives.
    A measure of distance is drawn on a logarithmic scale.
    """
    references, looks = dict(references or {}), ((0, (4, 2)), (0, (1, 1)), "-")
    for (model, seed), rows in table[~table["condition"].isin(references)].groupby(["model", "model_seed"], sort=False):
        style = dict(model_style(model))
        first = seed == table["model_seed"].iloc[0]
        name = style.pop("label")
        ax.plot(rows["depth"], rows["mean"], markersize=3, linewidth=1, label=name if first else None, **style)
        ax.fill_between(rows["depth"], rows["low"], rows["high"], color=style["color"], alpha=0.15, linewidth=0)
    for (condition, label), look in zip(references.items(), looks, strict=False):
        ax.plot([], [], color="0.4", linewidth=0.7, linestyle=look, label=label)
        for (model, _), rows in table[table["condition"] == condition].groupby(["model", "model_seed"], sort=False):
            colour = model_style(model)["color"]
            ax.plot(rows["depth"], rows["mean"], color=colour, linewidth=0.6, alpha=0.7, linestyle=look, zorder=0)
    if measure == "distance":
        ax.set_yscale("log")
    ax.set(xlim=(-0.03, 1.03), xlabel="depth", ylabel=MEASURES[measure])
    return ax
