"""What notebook 01 counts and draws: accuracies, tests and confusions of its conditions."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.metrics import confusion_matrix

from src import plotting, tables
from src.results import load_table
from src.tables.statistics import paired_test


def rows(condition: str, right: int, n: int = 40, rank: int = 2) -> pd.DataFrame:
    """n images of four classes, the first `right` of them right; the label of the others has this rank."""
    labels = np.arange(n) % 4
    correct = np.arange(n) < right
    table = pd.DataFrame(
        {"sample_id": np.arange(n), "label": labels, "prediction": np.where(correct, labels, 3 - labels)}
    )
    about = dict(label_rank=np.where(correct, 0, rank), model="vit", dataset="some", condition=condition)
    return table.assign(**about)


@pytest.fixture
def table():
    return pd.concat([rows("scratch", 10, rank=7), rows("linear", 20), rows("full", 30)], ignore_index=True)


@pytest.fixture
def history():
    values = {"epoch": [1, 2], "accuracy": [0.3, 0.4], "val_accuracy": [0.5, 0.625]}
    parts = {name: pd.DataFrame(values) for name in tables.finetuning.CONDITIONS}
    return tables.finetuning.by_condition(parts, "vit").assign(dataset="some")


@pytest.fixture(autouse=True)
def closed():
    plotting.use_style()
    yield
    plt.close("all")


def test_accuracies_have_a_row_for_each_condition_and_measure(table):
    found = tables.finetuning.accuracies(table)
    assert found["condition"].tolist() == ["linear", "linear", "full", "full", "scratch", "scratch"]
    assert found["measure"].tolist() == ["top-1", "top-5"] * 3
    np.testing.assert_allclose(found["accuracy"], [0.5, 1, 0.75, 1, 0.25, 0.25])
    assert (found["low"] <= found["accuracy"]).all() and (found["accuracy"] <= found["high"]).all()


def test_full_is_tested_against_the_others_in_one_family(table):
    found = tables.finetuning.comparisons(table).set_index("b")
    assert list(found.index) == ["linear", "scratch"] and set(found["a"]) == {"full"}
    assert found.loc["linear", "p_value"] == paired_test(rows("full", 30), rows("linear", 20))["p_value"]
    assert found.loc["linear", "p_holm"] == found.loc["linear", "p_value"]  # the larger of two
    assert found.loc["scratch", "p_holm"] == pytest.approx(2 * found.loc["scratch", "p_value"])
    assert tables.finetuning.comparisons(rows("full", 30)).empty


def test_confusions_are_those_of_scikit_learn(table):
    matrix = confusion_matrix(table["label"], table["prediction"])
    found = tables.finetuning.confusions(table)
    assert found["n"].is_monotonic_decreasing and found["n"].sum() == matrix.sum() - np.trace(matrix)
    for row in found.itertuples():
        assert row.n == matrix[row.label, row.prediction]
        assert row.share == pytest.approx(row.n / matrix[row.label].sum())


def test_the_figure_is_drawn_where_every_top_five_is_right(history, table):
    """An interval that ends at its point has a bar of no length, not of a negative one."""
    perfect = tables.finetuning.accuracies(table.assign(label_rank=0))
    assert (perfect.loc[perfect["measure"] == "top-5", "high"] == 1).all()
    figure = plotting.finetuning.conditions(history, perfect)
    figure.canvas.draw()
    assert figure.axes[1].get_xlabel() == "test accuracy (%), 95 % interval, n = 40"
    assert figure.axes[0].get_title() == "ViT on some"


@pytest.mark.parametrize("high", [False, True])
def test_no_legend_lies_over_numbers_or_lines(history, table, high):
    """Also where the numbers stand where a legend may: the worst condition on top, or the best."""
    if high:
        table["condition"] = table["condition"].map({"linear": "scratch", "full": "full", "scratch": "linear"})
    figure = plotting.finetuning.conditions(history, tables.finetuning.accuracies(table))
    figure.canvas.draw()
    legends = [*figure.legends, figure.axes[1].get_legend()]
    for legend in legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(text.get_window_extent()) for text in figure.axes[1].texts)
        assert not any(box.overlaps(ax.patch.get_window_extent()) for ax in figure.axes)
        assert not box.overlaps(figure.axes[0].title.get_window_extent())
    assert not legends[0].get_window_extent().overlaps(legends[1].get_window_extent())


def test_the_figures_are_drawn_from_the_stored_tables():
    stored, history = (load_table("results/fashion_mnist", "01_finetuning", name) for name in ("vit", "vit_history"))
    figure = plotting.finetuning.conditions(history, tables.finetuning.accuracies(stored))
    assert len(figure.legends[0].get_texts()) == 4
    part = stored[stored["condition"] == "full"]
    title = plotting.finetuning.confusion(part, classes=list("abcdefghij")).axes[0].get_title()
    assert title == f"ViT, full, on Fashion-MNIST: n = {len(part):,} test images"
