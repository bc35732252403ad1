"""Accuracy under attack along the radius, the ensemble, breaking radii, and pictures."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plotting.style import PAGE_WIDTH, captioned, dataset_title, line_with_band, model_style
from src.tables.attacks import (
    LINF_GRID,
    breaking_radius,
    cumulative,
    describe_budget,
    ranks,
)
from src.tables.statistics import accuracy, first_seed

SCALE = {"Linf": (255, "radius, Linf (1/255)"), "L2": (1, "radius, L2 (pixels of [0, 1])")}
BY = ["model", "model_seed", "eps"]


def curves(
    table: pd.DataFrame, *, pgd_steps: int, masked: Iterable[str] = (), published: pd.DataFrame | None = None
) -> Figure:
    """Accuracy against the radius under FGSM and PGD, top-1 and top-5, a line for each model and training seed.

    table: curves of one data set, as notebook 02 stores them (`tables.attacks.stored_curves`).  pgd_steps: as in the
    parameters beside that table.  masked: models that failed the audit, hatched.  published:
    `load_published("adversarial")`, whose curves of this data set are drawn hollow.  Top-5 is left out where it is
    always 100 %, as of five classes.
    """
    (dataset,), n = table["dataset"].unique(), table["sample_id"].nunique()
    n_classes = 1 + max(table["label"].max(), table["prediction"].max())
    panels = {"fgsm": ("FGSM", 1), "fgsm top-5": ("FGSM", 5), "pgd cold": (f"PGD-{pgd_steps}, cold", 1)}
    panels |= {"pgd": (f"PGD-{pgd_steps}, warm-started", 1), "pgd top-5": (f"PGD-{pgd_steps}, warm-started", 5)}
    ranked = 5 if published is not None or (table["label_rank"] >= 5).any() else 1  # of five classes, top-5 is all
    there = set(table["condition"])
    panels = {name: what for name, what in panels.items() if name.split(" top")[0] in there and what[1] <= ranked}
    beside = {"fgsm", "fgsm top-5", "pgd cold" if "pgd cold" in panels else "pgd", "pgd top-5"}  # of the report's
    columns = -(-len(panels) // 2)
    figure, axes = plt.subplots(2, columns, figsize=(PAGE_WIDTH, 4.8), sharey=True, squeeze=False)
    for ax, (panel, (name, k)) in zip(axes.flat, panels.items(), strict=False):
        raw = table[table["condition"] == ("fgsm" if name == "FGSM" else panel)]
        robust_accuracy(_accuracy(raw, k=k), ax, masked=masked)
        ax.axhline(100 * min(k / n_classes, 1), color="0.4", linewidth=0.7, linestyle=":", zorder=0)
        if name == "FGSM":
            robust_accuracy(_accuracy(cumulative(raw, k=k), k=k), ax, alpha=0.3)
        if published is not None and panel in beside:
            theirs = published["condition"] == ("fgsm" if name == "FGSM" else "pgd")
            rows = published[(published["dataset"] == dataset) & theirs]
            published_curves(rows, ax, column="accuracy" if k == 1 else "top5_accuracy")
        ax.set(title=f"{name}, top-{k}", ylabel="accuracy (%)" if ax in axes[:, 0] else "")
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    handles = axes[1, 0].get_legend_handles_labels()
    if len(panels) < axes.size:  # in the place that is left
        axes[-1, -1].legend(*handles, loc="center", fontsize=8)
    else:
        figure.legend(*handles, ncols=4, loc="outside upper center")
    report = "" if published is None else "\nhollow: the 2023 report's networks, cold PGD-5, 10,000 images"
    told = f"n = {n:,} test images, 95 % bands; PGD on the cross-entropy; pale: worst of smaller radii; dotted: chance"
    told += report
    figure.supxlabel(f"{dataset_title(dataset)}, {told}", fontsize=7)
    return figure


def radii(table: pd.DataFrame, *, pgd_steps: int, masked: Iterable[str] = ()) -> Figure:
    """Smallest breaking radius (of each model's first training seed) and accuracy in the L2 norm, both of PGD.

    Arguments are those of `curves`.
    """
    figure, axes = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 2.6), width_ratios=(2, 1))
    linf = first_seed(table[(table["condition"] == "pgd") & table["eps"].isin(LINF_GRID)])
    breaking_radii(breaking_radius(linf), axes[0], masked=masked, largest=linf["eps"].max())
    axes[0].set_title(f"PGD-{pgd_steps}, warm-started")
    robust_accuracy(_accuracy(table[table["condition"] == "pgd L2"]), axes[1], norm="L2", masked=masked)
    axes[1].set(title=f"PGD-{pgd_steps}, warm-started", ylabel="accuracy (%)")
    _name_models(figure, axes[0])
    told = f"n = {linf['sample_id'].nunique():,} test images, 95 % bands"
    figure.supxlabel(captioned(table, told), fontsize=7)
    return figure


def ensemble(worst: pd.DataFrame) -> Figure:
    """Accuracy under the worst of all attacks along the radius, and the ranks of each model's first training seed.

    worst: of `attacks.measure_worst_cases` or `tables.attacks.stored_worst_case`.
    """
    n, ranked = worst["sample_id"].nunique(), ranks(worst)
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 2.8), width_ratios=(3, 2))
    robust_accuracy(_accuracy(worst), left)
    left.set(title="worst of all attacks", ylabel="accuracy (%)")
    _name_models(figure, left)
    models = list(worst["model"].unique())
    for i, model in enumerate(models):
        rows = ranked[ranked["model"] == model]
        style = dict(model_style(model), markersize=4, linewidth=1)
        right.plot(rows["eps_255"], rows["rank"] + 0.08 * (i - (len(models) - 1) / 2), **style)
    right.set(title="rank (McNemar, Holm; ties share one)", xlabel=SCALE["Linf"][1], yticks=range(1, len(models) + 1))
    right.invert_yaxis()
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.set_xticks(ranked["eps_255"].unique(), [f"{eps:g}" for eps in ranked["eps_255"].unique()])
    told = f"n = {n:,} test images, 95 % bands"
    if worst.groupby("model")["model_seed"].nunique().max() > 1:
        told += "; each line is a training seed, ranks are of the first"
    figure.supxlabel(f"{captioned(worst, told)}\n{describe_budget(worst)}", fontsize=7)
    return figure


def report_2023(published: pd.DataFrame) -> Figure:
    """The 2023 report's own curves, top-1, by data set and attack: `load_published("adversarial")`."""
    figure, axes = plt.subplots(2, 2, figsize=(PAGE_WIDTH, 4.4), sharey=True)
    for row, dataset in zip(axes, ("cifar10", "cifar100"), strict=True):
        for ax, attack in zip(row, ("fgsm", "pgd"), strict=True):
            published_curves(published[(published["dataset"] == dataset) & (published["condition"] == attack)], ax)
            ax.set(
                title=f"{dataset_title(dataset)}, {'FGSM' if attack == 'fgsm' else 'PGD-5'}, 2023 report", ylim=(0, 100)
            )
            ax.set(xlabel=SCALE["Linf"][1], ylabel="accuracy (%)" if attack == "fgsm" else "")
    axes[0, 0].legend()
    return figure


def _name_models(figure: Figure, ax: Axes) -> None:
    """A legend above the panels, where it covers nothing, however many models there are."""
    figure.legend(*ax.get_legend_handles_labels(), ncols=4, loc="outside upper center")


def _accuracy(table: pd.DataFrame, *, k: int = 1) -> pd.DataFrame:
    """Accuracy by model, training seed and radius, models in the order of the table."""
    ordered = table.assign(model=pd.Categorical(table["model"], table["model"].unique()))
    return accuracy(ordered, by=BY, k=k)


def robust_accuracy(
    curves: pd.DataFrame, ax: Axes, *, norm: str = "Linf", masked: Iterable[str] = (), alpha: float = 1.0
) -> Axes:
    """Accuracy against the radius with 95 % bands, a line for each model and training seed.

    curves: columns model, model_seed, eps, accuracy, low, high.  masked: models that failed the audit; their bands are
    hatched, as their curves are not to be believed.  alpha: below 1 for a curve in the background, without a label.
    """
    scale, label = SCALE[norm]
    labelled = set()
    for (model, _), rows in curves.sort_values("eps", kind="stable").groupby(
        ["model", "model_seed"], sort=False, observed=True
    ):
        style = dict(model_style(model))
        name = style.pop("label") + (" (masked gradients)" if model in masked else "")
        x = scale * rows["eps"]
        if alpha < 1:
            ax.plot(x, 100 * rows["accuracy"], linewidth=1, alpha=alpha, **style | {"marker": ""})
            continue
        line_with_band(ax, x, rows, value="accuracy", scale=100, label="" if model in labelled else name, **style)
        labelled.add(model)
        if model in masked:
            ax.collections[-1].set(hatch="////", facecolor="none", edgecolor=style["color"], alpha=0.6)
    ax.set(xlabel=label, ylim=(-2, 102))  # marks at 0 and 100 stay whole
    return ax


def published_curves(table: pd.DataFrame, ax: Axes, *, column: str = "accuracy") -> Axes:
    """The 2023 report's accuracies against the radius: hollow markers on thin lines, for its own three networks.

    table: rows of `load_published("adversarial")` for one data set and attack.  column: accuracy or top5_accuracy.
    """
    for model, rows in table.sort_values("eps", kind="stable").groupby("model", sort=False):
        style = dict(model_style(model))
        style |= dict(label=f"{style['label']}, 2023 report", markerfacecolor="none", linewidth=0.5, alpha=0.8)
        ax.plot(255 * rows["eps"], 100 * rows[column], markersize=4, **style)
    return ax


def breaking_radii(
    radii: pd.DataFrame, ax: Axes, *, largest: float, norm: str = "Linf", masked: Iterable[str] = ()
) -> Axes:
    """Share of the images by the smallest radius of the grid that breaks them, a group of bars for each radius.

    radii: columns model, eps (0: misclassified as they are; inf: not broken).  largest: of the grid.  masked: models
    that are hatched.
    """
    scale, label = SCALE[norm]
    grid = sorted(radii["eps"].unique())
    models = list(dict.fromkeys(radii["model"]))
    width = 0.8 / len(models)
    for i, model in enumerate(models):
        share = radii.loc[radii["model"] == model, "eps"].value_counts(normalize=True).reindex(grid, fill_value=0)
        style = model_style(model)
        places = np.arange(len(grid)) + (i - (len(models) - 1) / 2) * width
        look = dict(color=style["color"], edgecolor="white", linewidth=0.3, hatch="////" if model in masked else None)
        name = style["label"] + " (masked gradients)" * (model in masked)
        ax.bar(places, 100 * share, width, label=name, **look)
    holds = f"not by\n{scale * largest:.2g}"
    names = ["wrong\nanyway" if eps == 0 else holds if eps == np.inf else f"{scale * eps:.2g}" for eps in grid]
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
