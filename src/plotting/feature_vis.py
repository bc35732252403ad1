"""Figures of feature visualisation: pictures of classes and their measures, and how much of an image survives."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from src.plotting.cka import layer_label
from src.plotting.style import PAGE_WIDTH, dataset_title, line_with_band, model_style
from src.tables.feature_vis import JUDGED, is_probability

Pictures = UInt8[np.ndarray, "n h w 3"]
Row = tuple[str, Sequence[np.ndarray], Sequence[str]]  # label, pictures, a caption for each

# measure -> label of its axis
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
# condition of inversions -> label and dashes of what no inversion gives
REFERENCES = {
    "same class": ("another image of the class", (0, (4, 2))),
    "noise": ("noise", (0, (1, 1))),
    "untrained": ("out of the untrained network", (0, (7, 2))),
}
WIDEST = 10  # pictures in a row
PROBABILITY = "below: probability for the model → mean of other architectures"


def classes(table: pd.DataFrame, pictures: Pictures, *, class_names: Sequence[str]) -> Figure:
    """The first picture of each class by each method, real images last, with their probabilities.

    table, pictures: of classes, as stored; of its first training seed and the first ten classes.
    """
    made, real = _first_pictures(table)
    made = made[made["condition"] != "from image"]  # a figure of its own
    rows = [
        _row(f"{model_style(model)['label']}\n{method}", part, pictures)
        for (model, method), part in made.groupby(["model", "condition"], sort=False)
    ]
    rows += [_row(f"real, for\n{model_style(model)['label']}", part, pictures) for model, part in real.groupby("model")]
    title = f"{dataset_title(table['dataset'].iloc[0])}, {made['n_steps'].max()} steps; {PROBABILITY}"
    return picture_rows(rows, titles=class_names, title=title)


def diversity(table: pd.DataFrame, pictures: Pictures, *, class_names: Sequence[str], method: str = "maco") -> Figure:
    """Pictures of some classes by one method (where it was not used, the last one) from every seed.

    table, pictures: of classes, as stored; of its first training seed.
    """
    made = _first(table[~table["condition"].isin(["real", "untrained"])], "model_seed")
    method = method if method in set(made["condition"]) else made["condition"].iloc[-1]
    n_seeds, n_classes = made["seed"].nunique(), len(class_names)
    shown = range(0, n_classes, -(-n_classes // max(1, WIDEST // n_seeds)))
    made = made[(made["condition"] == method) & made["target"].isin(shown)].sort_values(["target", "seed"])
    rows = [_row(model_style(model)["label"], part, pictures) for model, part in made.groupby("model", sort=False)]
    titles = [class_names[k] if s == 0 else "" for k in shown for s in range(n_seeds)]
    return picture_rows(
        rows,
        titles=titles,
        title=f"{dataset_title(table['dataset'].iloc[0])}, {method}, {n_seeds} seeds; {PROBABILITY}",
    )


def from_image(table: pd.DataFrame, pictures: Pictures, *, class_names: Sequence[str]) -> Figure:
    """What each model makes of real images on their way to the next class.

    table, pictures: of classes, as stored, with the method "from image"; of its first training seed.
    """
    made, real = _first_pictures(table)
    made = made[made["condition"] == "from image"]
    starts = pictures[np.roll(real["picture"], -1)][:WIDEST]
    rows = [("start", starts, [""] * len(starts))]
    rows += [_row(model_style(model)["label"], part, pictures) for model, part in made.groupby("model", sort=False)]
    title = f"{dataset_title(table['dataset'].iloc[0])}, {made['n_steps'].max()} steps; {PROBABILITY}"
    return picture_rows(rows, titles=[f"to {name}" for name in class_names], title=title)


def measures(means: pd.DataFrame, *, dataset: str = "") -> Figure:
    """Mean of each measure for each condition (top to bottom) with its interval over seeds, a point for each model.

    means: of `tables.feature_vis.mean_over_seeds`, by model and condition; of a judge's probabilities too, where the
    makers of a panel have the same judge.  Shaded: real images, and pictures made with untrained networks.
    """
    names, means = list(dict.fromkeys(means["measure"])), means.dropna(subset="mean")
    conditions, models = list(dict.fromkeys(means["condition"])), list(dict.fromkeys(means["model"]))
    names = [name for name in names if name in set(means["measure"])]
    figure, axes = plt.subplots(1, len(names), figsize=(PAGE_WIDTH, 2.6), sharey=True, squeeze=False)
    for ax, measure in zip(axes[0], names, strict=True):
        for i, model in enumerate(models):
            own = means[(means["measure"] == measure) & (means["model"] == model)]
            own = own.set_index("condition").reindex(conditions)
            places = np.arange(len(conditions)) + (i - (len(models) - 1) / 2) * 0.6 / len(models)
            style = model_style(model) | dict(linestyle="none", markersize=3.5)
            ax.hlines(places, own["low"], own["high"], color=style["color"], linewidth=1)
            ax.plot(own["mean"], places, **style)
        for place in (i for i, condition in enumerate(conditions) if condition in ("real", "untrained")):
            ax.axhspan(place - 0.5, place + 0.5, color="0.93", linewidth=0, zorder=0)
        ax.set_yticks(range(len(conditions)), conditions)
        ax.tick_params(axis="y", length=0)
        ax.set(ylim=(len(conditions) - 0.5, -0.5), xlabel=_label(measure))
        if is_probability(measure):
            ax.set_xlim(-0.03, 1.03)
    n = " or ".join(map(str, sorted(set(means["n"]))))
    _finish(
        figure, axes[0, 0], f"{dataset_title(dataset)}, {n} pictures a point; bars: 95 % over the seeds of the pictures"
    )
    return figure


def ladder(
    table: pd.DataFrame, pictures: Pictures, originals: Mapping[int, np.ndarray], *, n_images: int = 3
) -> Figure:
    """The first images of the table, and what each stage of each model leaves of them.

    table, pictures: of inversions, as stored; of its first training seed.  originals: sample_id -> image, uint8.
    """
    made = _first(table[~table["condition"].isin(REFERENCES)], "model_seed", "seed")
    rows = []
    for sample_id in made["sample_id"].unique()[:n_images]:
        for model, part in made[made["sample_id"] == sample_id].groupby("model", sort=False):
            captions = [f"{layer_label(row.layer)}\n{row.distance:.2g}, {row.psnr:.0f} dB" for row in part.itertuples()]
            images = [originals[sample_id], *pictures[part["picture"]]]
            rows.append((model_style(model)["label"], images, ["original", *captions]))
    return picture_rows(
        rows, title=f"{dataset_title(table['dataset'].iloc[0])}; below: layer, relative feature distance, PSNR"
    )


def depth(curves: Mapping[str, pd.DataFrame], *, dataset: str = "") -> Figure:
    """Measures along the depth, from the stem (0) to the logits (1), a line for each model and training seed.

    curves: measure -> `tables.feature_vis.depth_curve`; one without rows is left out.  Thin lines: REFERENCES.
    """
    curves = {measure: curve for measure, curve in curves.items() if len(curve)}
    figure, axes = plt.subplots(1, len(curves), figsize=(PAGE_WIDTH, 2.5), squeeze=False)
    for ax, (measure, curve) in zip(axes[0], curves.items(), strict=True):
        for (model, condition, _), rows in curve.groupby(["model", "condition", "model_seed"], sort=False):
            if condition in REFERENCES:
                wide = 1.0 if condition == "untrained" else 0.6
                thin = dict(linestyle=REFERENCES[condition][1], linewidth=wide, alpha=0.7, zorder=0)
                ax.plot(rows["depth"], rows["mean"], color=model_style(model)["color"], **thin)
            else:
                line_with_band(ax, rows["depth"], rows, value="mean", **model_style(model))
        for label, dashes in (REFERENCES[name] for name in REFERENCES if name in set(curve["condition"])):
            ax.plot([], [], color="0.4", linewidth=0.7, linestyle=dashes, label=label)
        ax.set(xlim=(-0.03, 1.03), xlabel="depth", ylabel=_label(measure))
        if measure == "distance":
            ax.set_yscale("log")
        if is_probability(measure):
            ax.set_ylim(0, 1)
    every = pd.concat(curves.values())
    n = every.groupby(every["condition"] == "untrained")["n"].max().to_dict()
    fewer = f", {n[True]} of them also out of untrained networks" if True in n else ""
    _finish(
        figure,
        axes[0, 0],
        f"{dataset_title(dataset)}, {n[False]} images{fewer}; bands: 95 % over images; depth 0: stem, 1: logits",
    )
    return figure


def _label(measure: str) -> str:
    if measure.startswith(JUDGED):
        return f"probability,\njudged by {model_style(measure.removeprefix(JUDGED))['label']}"
    return MEASURES[measure]


def picture_rows(rows: Sequence[Row], *, titles: Sequence[str] = (), title: str = "") -> Figure:
    """Rows of pictures, each over its caption; rows may differ in length.

    rows: label, pictures [h, w, 3] (uint8 or in [0, 1]) and a caption of any number of lines for each picture.
    titles: above the first row.  title: above all.
    """
    widest = max(len(images) for _, images, _ in rows)
    lines = 1 + max(caption.count("\n") for *_, captions in rows for caption in captions)
    cell = min((PAGE_WIDTH - 0.75) / widest, 0.9)
    size = (0.75 + widest * cell, len(rows) * (cell + 0.085 * lines + 0.07) + 0.4)
    figure, axes = plt.subplots(len(rows), widest, figsize=size, squeeze=False)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for row, (label, images, captions) in zip(axes, rows, strict=True):
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=6.5)
        for ax, image, caption in zip(row, images, captions, strict=False):
            ax.imshow(image, interpolation="nearest", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
            ax.set_xlabel(caption, fontsize=6, labelpad=1.5, linespacing=1.05)
    for ax, text in zip(axes[0], titles, strict=False):
        ax.set_title(text, fontsize=6.5, pad=2)
    figure.suptitle(title, fontsize=7)
    return figure


def _first(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Of each model the rows of the first value of each column: of the first training seed that the table has."""
    for column in columns:
        table = table[table[column] == table.groupby("model")[column].transform("first")]
    return table


def _first_pictures(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first picture of each class: made, and real ones (the same for all) as the first model sees them."""
    first = _first(table, "model_seed", "seed").sort_values("target", kind="stable")
    real = first[first["condition"] == "real"]
    return first[first["condition"] != "real"], real[real["model"] == table["model"].iloc[0]]


def _row(label: str, part: pd.DataFrame, pictures: Pictures) -> Row:
    part = part.head(WIDEST)
    own = part["p"].map("{:.2f}".format)
    captions = own.where(part["p_transfer"].isna(), own + part["p_transfer"].map(" → {:.2f}".format))
    return label, pictures[part["picture"]], captions.tolist()


def _finish(figure: Figure, ax, title: str) -> None:
    """One legend for all panels, each label once, and a title."""
    handles = {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), ncols=6, loc="outside lower center")
    figure.suptitle(title.removeprefix(", "), fontsize=8)
