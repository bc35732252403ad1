"""A sheet of manipulated images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from src.plotting.style import PAGE_WIDTH


def manipulation_sheet(
    pictures: Mapping[str, Mapping[str, np.ndarray]], originals: np.ndarray, *, titles: Sequence[str]
) -> Figure:
    """Images as the models see them: a row for each manipulation with its levels, a block of columns for each image.

    pictures: name of the row -> caption of the level -> [k, h, w, 3] in [0, 1], of the k originals.  titles: k names.
    """
    k, widest = len(originals), max(len(levels) for levels in pictures.values())
    ratios = ([1.0] * (widest + 1) + [0.25]) * k  # the last column of a block keeps its distance from the next
    cell = (PAGE_WIDTH - 0.95) / sum(ratios[:-1])
    size = (PAGE_WIDTH, len(pictures) * (cell + 0.15) + 0.2)
    figure, axes = plt.subplots(len(pictures), len(ratios) - 1, figsize=size, squeeze=False, width_ratios=ratios[:-1])
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for row, (name, levels) in zip(axes, pictures.items(), strict=True):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=6.5)
        for i in range(k):
            first = i * (widest + 2)
            row[first].imshow(originals[i], interpolation="nearest", vmin=0, vmax=1)
            for ax, (caption, images) in zip(row[first + 1 :], levels.items(), strict=False):
                ax.imshow(images[i], interpolation="nearest", vmin=0, vmax=1)
                ax.set_title(caption, fontsize=6, pad=1)
    for i, title in enumerate(titles):
        axes[0, i * (widest + 2)].set_title(title, fontsize=6, pad=1, fontweight="bold", loc="left")
    return figure
