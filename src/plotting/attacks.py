"""Figures of notebook 02."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plotting.style import PAGE_WIDTH, model_style

SCALE = {"Linf": (255, "radius, Linf (1/255)"), "L2": (1, "radius, L2 (pixels of [0, 1])")}


def robust_accuracy(
    curves: pd.DataFrame, ax: Axes, *, norm: str = "Linf", masked: Iterable[str] = (), alpha: float = 1.0
) -> Axes:
    """Accuracy against the radius with 95 % bands, a line for each model and training seed.

    curves: columns model, model_seed, eps, accuracy, low, high.  masked: models that failed the audit; their bands are
    hatched, as their curves are not to be believed.  alpha: below 1 for a curve in the background, without a label.
    """
    scale, label = SCALE[norm]
    labelled = set()
    for (model, _), rows in curves.sort_values("eps").groupby(["model", "model_seed"], sort=False):
        style = dict(model_style(model))
        name = style.pop("label") + (" (masked gradients)" if model in masked else "")
        first = alpha == 1 and model not in labelled
        labelled.add(model)
        x = scale * rows["eps"]
        ax.plot(
            x, 100 * rows["accuracy"], markersize=3, linewidth=1, alpha=alpha, label=name if first else None, **style
        )
        if alpha == 1:
            hatch = dict(hatch="////", facecolor="none", edgecolor=style["color"], alpha=0.6)
            look = hatch if model in masked else dict(color=style["color"], alpha=0.15)
            ax.fill_between(x, 100 * rows["low"], 100 * rows["high"], linewidth=0, **look)
    ax.set(xlabel=label, ylim=(0, 100))
    return ax


def transfer_heatmap(table: pd.DataFrame, ax: Axes, *, models: list[str], colour_bar: bool = False) -> Axes:
    """Success of examples made on the model of a row against that of a column, in percent, above its interval.

    table: rows of `summarise_transfer` for one attack.  models: their order.
    """
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
        annot_kws={"fontsize": 5.5},
        cmap="Purples",
        vmin=0,
        vmax=100,
        square=True,
        cbar=colour_bar,
        cbar_kws={"label": "fooled (%)", "shrink": 0.7},
        xticklabels=names,
        yticklabels=names,
    )
    ax.tick_params(axis="both", rotation=0, length=0)
    ax.set(xlabel="judged by", ylabel="made on")
    return ax


def breaking_radii(radii: pd.DataFrame, ax: Axes, *, norm: str = "Linf") -> Axes:
    """Share of the images by the smallest radius of the grid that breaks them, a group of bars for each radius.

    radii: columns model, eps (0: misclassified as they are; inf: never broken).
    """
    scale, label = SCALE[norm]
    grid = sorted(radii["eps"].unique())
    models = list(dict.fromkeys(radii["model"]))
    width = 0.8 / len(models)
    for i, model in enumerate(models):
        share = radii.loc[radii["model"] == model, "eps"].value_counts(normalize=True).reindex(grid, fill_value=0)
        style = model_style(model)
        places = np.arange(len(grid)) + (i - (len(models) - 1) / 2) * width
        ax.bar(places, 100 * share, width, color=style["color"], label=style["label"], edgecolor="white", linewidth=0.3)
    names = ["wrong\nanyway" if eps == 0 else "never" if eps == np.inf else f"{scale * eps:.2g}" for eps in grid]
    ax.set_xticks(range(len(grid)), names)
    ax.set(xlabel=f"smallest breaking {label}", ylabel="images (%)")
    return ax


def attack_pictures(
    clean: np.ndarray, adversarial: dict[str, np.ndarray], *, captions: dict[str, list[str]], titles: list[str]
) -> Figure:
    """A row for each image: as it is, then for each model the perturbation times ten around grey, and the result.

    clean: [n, h, w, 3] in [0, 1].  adversarial: model -> the same shape.  captions: model -> what it sees, n lines.
    """
    n, columns = len(clean), 1 + 2 * len(adversarial)
    cell = min(PAGE_WIDTH / columns, 0.95)
    figure, axes = plt.subplots(n, columns, figsize=(cell * columns, n * (cell + 0.2)), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i in range(n):
        axes[i, 0].imshow(clean[i], interpolation="nearest")
        axes[i, 0].set_title(titles[i], fontsize=6, pad=2)
        for j, (model, pixels) in enumerate(adversarial.items()):
            perturbation, result = axes[i, 1 + 2 * j], axes[i, 2 + 2 * j]
            perturbation.imshow(np.clip(0.5 + 10 * (pixels[i] - clean[i]), 0, 1), interpolation="nearest")
            result.imshow(pixels[i], interpolation="nearest")
            result.set_title(captions[model][i], fontsize=6, pad=2)
            perturbation.set_title(f"{model_style(model)['label']}, ×10" if i == 0 else "", fontsize=6, pad=2)
    return figure
