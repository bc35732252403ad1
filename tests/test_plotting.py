import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.metrics import confusion_matrix

from src import plotting
from src.paths import ROOT

mpl.use("Agg")


@pytest.fixture
def ax():
    plotting.use_style()
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_plotting_needs_no_torch():
    check = "import sys, src.plotting; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_confusion_matrix_agrees_with_scikit_learn(ax):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": rng.integers(4, size=300), "prediction": rng.integers(4, size=300)})
    plotting.confusion_matrix(table, ax, classes=list("abcd"))
    expected = 100 * confusion_matrix(table["label"], table["prediction"], normalize="true")
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(4, 4), expected)
    assert [label.get_text() for label in ax.get_yticklabels()] == list("abcd")


def test_accuracy_points_stand_at_the_tables_values(ax):
    table = pd.DataFrame(
        {
            "condition": ["linear", "full"] * 2,
            "measure": ["top-1"] * 2 + ["top-5"] * 2,
            "accuracy": [0.7, 0.8, 0.95, 0.97],
            "low": [0.65, 0.75, 0.94, 0.96],
            "high": [0.75, 0.85, 0.96, 0.98],
        }
    )
    plotting.accuracy_points(table, ax)
    written = sorted(float(text.get_text()) for text in ax.texts)
    assert written == [70.0, 80.0, 95.0, 97.0]
    points = sorted(
        float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() in "oD" and len(line.get_xdata())
    )
    np.testing.assert_allclose(points, written)


def test_learning_curves_show_held_out_accuracy_in_percent(ax):
    history = pd.DataFrame({"condition": "full", "epoch": [1, 2], "accuracy": [0.3, 0.4], "val_accuracy": [0.5, 0.625]})
    plotting.learning_curves(history, ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [50, 62.5])


def test_a_figure_is_saved_in_three_formats_whole(ax, tmp_path):
    ax.plot([0, 1])
    written = plotting.save_figure(ax.figure, "line", folder=tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert written[0].read_bytes().startswith(b"%PDF") and b"</svg>" in written[1].read_bytes()
    Image.open(written[2]).verify()


def test_images_shows_every_picture_with_its_title():
    pictures = np.zeros((13, 8, 8, 3), dtype=np.uint8)
    figure = plotting.images(pictures, [f"image {i}" for i in range(13)], columns=5)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 13 and shown[12].get_title() == "image 12"
    plt.close(figure)


def test_the_styles_of_the_models_differ_in_more_than_colour():
    styles = plotting.MODEL_STYLE.values()
    assert len({style["marker"] for style in styles}) == len({style["linestyle"] for style in styles}) == len(styles)
