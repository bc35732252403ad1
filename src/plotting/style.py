"""The style of all figures, how they are saved, and sheets of pictures.

Colours are Okabe & Ito's, told apart with any colour vision; markers and dashes keep them apart in grey print.
"""

import re
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backend_bases import get_registered_canvas_class
from matplotlib.figure import Figure

from src import paths
from src.files import written_whole

MODEL_STYLE = {
    "mlp": dict(color="#D55E00", marker="s", linestyle="-", label="MLP"),
    "cnn": dict(color="#0072B2", marker="o", linestyle="--", label="CNN"),
    "vit": dict(color="#009E73", marker="^", linestyle="-.", label="ViT"),
    "cnn_robust": dict(color="#56B4E9", marker="D", linestyle=":", label="CNN, robust"),
}
# of other networks: Okabe & Ito's and Tol's muted colours that are none of the above; markers and lines for grey print
SPARE_COLOURS = ("#CC79A7", "#E69F00", "#332288", "#882255", "#999933", "#117733", "#DDCC77", "#777777", "#000000")
SPARE_MARKERS = ("X", "P", "v", "*", "<", ">", "p", "h", "d")
SPARE_LINES = ((0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)), (0, (3, 3)), (0, (6, 1, 1, 1, 1, 1)))
COLUMN_WIDTH, PAGE_WIDTH = 3.4, 7.0  # inches, of a two-column paper
FORMATS = ("pdf", "svg", "png")
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "fashion_mnist": "Fashion-MNIST"}  # as readers know them


def use_style() -> None:
    """Set matplotlib up for the study: sizes that print, fonts embedded, nothing that is not data.

    Notebooks show figures as they are saved, and do not trim them: to trim one it is drawn another time.
    """
    import seaborn as sns  # longer to import than matplotlib and pandas: not before a figure is to be drawn

    sns.set_theme(context="paper", style="ticks")
    mpl.rcParams.update(
        {
            "figure.dpi": 120,
            "savefig.dpi": 300,
            "figure.constrained_layout.use": True,
            "font.size": 8,
            "axes.titlesize": 9,
            "axes.labelsize": 8,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "pdf.fonttype": 42,  # TrueType: text stays text
            "svg.fonttype": "path",  # looks alike whatever fonts the reader has
        }
    )
    if "IPython" in sys.modules:
        from matplotlib_inline.config import InlineBackend

        InlineBackend.instance().print_figure_kwargs = {"bbox_inches": None}


def save_figure(
    figure: Figure, name: str, *, folder: Path | None = None, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write figures/<name>.pdf, .svg and .png, or `formats` of these, each whole; return their paths.

    The figure is laid out once for all and drawn once for each, where `Figure.savefig` would draw it twice.  A notebook
    draws it once more, to show it; what is stale it would draw at the end of the cell as well.
    """
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine("none")
    written, canvas, dpi = [(folder or paths.FIGURES) / f"{name}.{kind}" for kind in formats], figure.canvas, figure.dpi
    try:
        for path, kind in zip(written, formats, strict=True):
            figure.dpi = dpi if mpl.rcParams["savefig.dpi"] == "figure" else mpl.rcParams["savefig.dpi"]
            with written_whole(path) as partial:
                getattr(get_registered_canvas_class(kind)(figure), f"print_{kind}")(partial)
    finally:
        figure.set_canvas(canvas)
        figure.dpi = dpi
        figure.stale = False
    return written


def line_with_band(ax: Axes, x, rows: pd.DataFrame, *, value: str, scale: float = 1, label: str | None = None, **style):
    """A line of `value` with its interval, columns low and high, as a pale band; all times `scale`.

    style: color, marker, linestyle and label of `model_style`, or what else Axes.plot takes.  label: in place of the
    style's own; "" for none.
    """
    own = style.pop("label", None)
    ax.plot(
        x, scale * rows[value], label=own if label is None else label or None, **dict(markersize=3, linewidth=1) | style
    )
    ax.fill_between(x, scale * rows["low"], scale * rows["high"], color=style["color"], alpha=0.15, linewidth=0)


def error_bars(rows: pd.DataFrame, value: str, *, scale: float = 1) -> np.ndarray:
    """How far low and high lie from `value`, [2, n], never below 0: as `ax.errorbar` takes them."""
    return scale * np.clip([rows[value] - rows["low"], rows["high"] - rows[value]], 0, None)


def text_on(fill) -> str:
    """The colour, black or white, in which text on a fill stands out more: W3C's contrast of relative luminances.

    >>> text_on("#56B4E9"), text_on("#0072B2")
    ('black', 'white')
    """
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(fill))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "white"


def recolour(ax: Axes) -> None:
    """Numbers in the cells of a heatmap in the colour that stands out more; cells without a value have none."""
    mesh = ax.collections[0]
    fills = mesh.get_facecolors()[~np.ma.getmaskarray(mesh.get_array()).ravel()]
    for text, fill in zip(ax.texts, fills, strict=True):
        text.set_color(text_on(fill))


def images(pictures: np.ndarray, titles: list[str], *, columns: int = 10) -> Figure:
    """A sheet of pictures, uint8 or [0, 1] floats [n, h, w, 3], each under its title."""
    rows = -(-len(pictures) // columns)
    cell = PAGE_WIDTH / columns
    lines = 1 + max(title.count("\n") for title in titles)
    figure, axes = plt.subplots(rows, columns, figsize=(PAGE_WIDTH, rows * (cell + 0.12 * lines + 0.1)), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, title in zip(axes.flat, pictures, titles, strict=False):
        ax.imshow(picture, interpolation="nearest")
        ax.set_title(title, fontsize=6.5, pad=2)
    return figure


def dataset_title(name: str) -> str:
    """What readers call a data set; of one's own, its label."""
    return DATASETS.get(name, name)


def captioned(table: pd.DataFrame, told: str) -> str:
    """A caption that begins with the data set, where a table has its name: one just measured may have none."""
    return f"{dataset_title(table['dataset'].iloc[0])}, {told}" if "dataset" in table else told


def model_style(model: str) -> dict:
    """Colour, marker, line and label of a model, by its label alone, so that it looks alike in every figure.

    cnn@seed1, cnn_wide and the like have the colour of cnn and a marker and a line of their own.  Other networks have
    one of SPARE_COLOURS, marker and line; two of them rarely share all three.

    >>> model_style("cnn@w8")["color"] == model_style("cnn")["color"]
    True
    """
    if model in MODEL_STYLE:
        return MODEL_STYLE[model]
    number = zlib.crc32(model.encode())
    number, line = divmod(number, len(SPARE_LINES))
    number, marker = divmod(number, len(SPARE_MARKERS))
    related = [name for name in MODEL_STYLE if re.match(rf"{name}[@_.+-]", model)]
    color = MODEL_STYLE[max(related, key=len)]["color"] if related else SPARE_COLOURS[number % len(SPARE_COLOURS)]
    return dict(color=color, marker=SPARE_MARKERS[marker], linestyle=SPARE_LINES[line], label=model)
