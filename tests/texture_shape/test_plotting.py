"""Figures of notebook 03 show the numbers they are given, where they should."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from src import plotting


@pytest.fixture
def ax():
    plotting.use_style()
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_the_sheet_has_a_row_for_each_manipulation_and_a_block_for_each_image():
    originals = np.zeros((2, 4, 4, 3))
    sheet = {
        "edges": {"1": np.full((2, 4, 4, 3), 0.5)},
        "blur": {level: np.stack([np.full((4, 4, 3), 0.1 * int(level)), np.ones((4, 4, 3))]) for level in "123"},
    }
    figure = plotting.texture_shape.manipulation_sheet(sheet, originals, titles=["Bag", "Coat"])
    grid = np.reshape(figure.axes, (2, 9))  # 1 + 3 columns, a gap, 1 + 3 columns
    shown = [[float(ax.images[0].get_array()[0, 0, 0]) if ax.images else None for ax in row] for row in grid]
    assert shown[0] == [0, 0.5, None, None, None, 0, 0.5, None, None]
    assert shown[1] == pytest.approx([0, 0.1, 0.2, 0.3, None, 0, 1, 1, 1])
    assert [ax.get_title() for ax in grid[1, 1:4]] == list("123") and grid[1, 0].get_ylabel() == "blur"
    assert [grid[0, i].get_title(loc="left") for i in (0, 5)] == ["Bag", "Coat"]
    plt.close(figure)


def test_bars_stand_at_the_accuracies_and_dashes_at_the_clean_ones(ax):
    table = pd.DataFrame({"model": ["mlp", "mlp", "cnn", "cnn"], "condition": ["edges", "blur"] * 2})
    table = table.assign(accuracy=[0.2, 0.4, 0.6, 0.8], low=[0.1, 0.3, 0.5, 0.7], high=[0.35, 0.5, 0.7, 0.9])
    table["clean"] = [0.9, 0.9, 0.95, 0.95]
    plotting.texture_shape.accuracy_bars(table, ax, by="condition", order=["blur", "edges"], names={"edges": "Edges"})
    bars = [patch for patch in ax.patches if patch.get_height() > 0]
    np.testing.assert_allclose([bar.get_height() for bar in bars], [40, 20, 80, 60])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["blur", "Edges"]
    segments = [segment for lines in ax.collections for segment in lines.get_segments()]
    vertical = sorted(segment[:, 1].tolist() for segment in segments if segment[0, 0] == segment[1, 0])
    np.testing.assert_allclose(vertical, [[10, 35], [30, 50], [50, 70], [70, 90]])
    flat = sorted(segment[0, 1] for segment in segments if segment[0, 1] == segment[1, 1])
    np.testing.assert_allclose(flat, [90, 90, 95, 95])
    assert ax.get_legend_handles_labels()[1] == ["clean images", "MLP", "CNN"]


def test_bars_of_what_was_not_measured_are_left_out(ax):
    table = pd.DataFrame(dict(model=["mlp"], condition=["edges"], accuracy=[0.2], low=[0.1], high=[0.3], clean=[0.9]))
    plotting.texture_shape.accuracy_bars(table, ax, by="condition", order=["edges", "blur"])
    assert len([patch for patch in ax.patches if patch.get_height() > 0]) == 1


def test_retained_curves_keep_the_order_of_the_levels(ax):
    table = pd.DataFrame({"model": ["mlp"] * 3 + ["cnn"] * 3, "level": [16, 8, 4] * 2})
    table = table.assign(retained=[0.9, 0.5, 0.2, 0.8, 0.6, 0.1], low=0.05, high=0.95)
    table["clean"] = [0.5] * 3 + [0.8] * 3
    plotting.texture_shape.retained_curves(table, ax, unit="patch, pixels", chance=0.1)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["16", "8", "4"]
    mlp, guessing_of_mlp, cnn, guessing_of_cnn = ax.lines
    np.testing.assert_allclose(mlp.get_ydata(), [90, 50, 20])
    np.testing.assert_allclose(cnn.get_ydata(), [80, 60, 10])
    np.testing.assert_allclose(guessing_of_mlp.get_ydata(), 20)  # of each model's own clean accuracy
    np.testing.assert_allclose(guessing_of_cnn.get_ydata(), 12.5)
    assert guessing_of_cnn.get_linestyle() == ":" and guessing_of_cnn.get_color() == cnn.get_color()
    assert ax.get_xlabel() == "patch, pixels" and len(ax.collections) == 2


@pytest.fixture
def biases():
    table = pd.DataFrame({"model": ["mlp", "cnn"], "name": ["phase: MLP", "phase: CNN"], "n": 200})
    table = table.assign(shape=[60, 40], texture=[20, 120], decisive=[0.4, 0.8], shape_bias=[0.75, 0.25])
    return table.assign(low=[0.7, 0.2], high=[0.8, 0.3])


def test_cue_shares_add_up_and_say_how_many_were_decisive(ax, biases):
    plotting.texture_shape.cue_shares(biases, ax)
    widths = np.reshape([bar.get_width() for bar in ax.patches], (3, 2))
    np.testing.assert_allclose(widths, [[30, 20], [60, 20], [10, 60]])
    starts = np.reshape([bar.get_x() for bar in ax.patches], (3, 2))
    np.testing.assert_allclose(starts, [[0, 0], [30, 20], [90, 40]])
    assert [text.get_text() for text in ax.texts] == ["40 % of 200", "80 % of 200"]
    heights = [bar.get_y() for bar in ax.patches[:2]]
    assert heights[0] > heights[1]  # the first row on top


def test_shape_bias_points_have_their_intervals(ax, biases):
    plotting.texture_shape.shape_bias_points(biases, ax)
    spans = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    np.testing.assert_allclose(spans, [[0.7, 0.8], [0.2, 0.3]])
    points = [float(line.get_xdata()[0]) for line in ax.lines if len(line.get_xdata()) == 1]
    assert points == [0.75, 0.25] and [text.get_text() for text in ax.texts] == ["0.75", "0.25"]
    plotting.texture_shape.shape_bias_points(biases.assign(shape_bias=[np.nan, 0.25]), ax)
    assert [text.get_text() for text in ax.texts][2:] == ["nothing decisive", "0.25"]


def test_bias_curves_go_up_the_cutoffs_and_mark_the_crossovers_within(ax):
    table = pd.DataFrame(
        {"model": ["mlp"] * 3, "level": [8.0, 1.0, 2.0], "shape_bias": [0.9, 0.1, 0.4], "decisive": 0.7}
    )
    table = table.assign(low=table["shape_bias"] - 0.05, high=table["shape_bias"] + 0.05)
    crossovers = pd.DataFrame({"model": ["mlp", "cnn", "vit"], "crossover": [2.5, 0, np.inf]})
    plotting.texture_shape.bias_curves(table, ax, crossovers=crossovers)
    curve, half, mark = ax.lines
    assert curve.get_xdata().tolist() == [1, 2, 8] and curve.get_ydata().tolist() == [0.1, 0.4, 0.9]
    assert set(half.get_ydata()) == {0.5} and set(mark.get_xdata()) == {2.5}
    figure, other = plt.subplots()
    plotting.texture_shape.bias_curves(table, other, value="decisive")
    assert other.lines[0].get_ydata().tolist() == [0.7] * 3 and len(other.lines) == 1
    plt.close(figure)


# whole figures


CLASSES = [f"class {k}" for k in range(12)]


def measured(model: str, model_seed: int, share: float) -> pd.DataFrame:
    """24 images of 12 classes, clean and changed, of which a share is right, as notebook 03 stores them."""
    ids = np.arange(24)
    head = dict(model=model, model_seed=model_seed, dataset="toy", sample_id=ids, label=ids % 12)
    right = {"clean": ids < 22, "grayscale": ids < 24 * share, "occlusion_black": ids < 20 * share}
    parts = [
        pd.DataFrame(head | dict(condition=name, level=level, prediction=np.where(right[name], ids % 12, 99)))
        for name, level in (("clean", 0.0), ("grayscale", 1.0), ("occlusion_black", 0.1), ("occlusion_black", 0.5))
    ]
    fog = [pd.DataFrame(head | dict(condition="fog", level=float(s), prediction=ids % 12))[:12] for s in (1, 2)]
    return pd.concat([*parts, *fog])


@pytest.fixture
def two_seeds():
    """In the order of stored tables: model by model, in each the seeds."""
    return pd.concat(
        [measured("cnn", 1, 0.5), measured("cnn", 0, 0.1), measured("mlp", 1, 0.25), measured("mlp", 0, 0)]
    )


def heights(ax) -> list[float]:
    return [round(float(bar.get_height())) for bar in ax.patches if bar.get_height() > 0]


def test_figures_draw_one_training_seed_and_count_images(two_seeds):
    figure = plotting.texture_shape.accuracies(two_seeds, CLASSES, models=["mlp", "cnn"])
    assert figure.get_suptitle() == "toy, training seed 1, n = 24 test images; dotted: chance"
    bars, curve = figure.axes
    assert heights(bars) == [25, 21, 50, 42]  # the MLP first, as asked: 6 and 5 of 24, then 12 and 10
    guessing = [line.get_ydata()[0] for line in curve.lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(guessing, 100 / 12 * 24 / 22)
    other = plotting.texture_shape.accuracies(two_seeds, CLASSES, model_seed=0)
    assert "seed 0, n = 24" in other.get_suptitle()
    with pytest.raises(ValueError, match="no rows of any model with training seed 7"):
        plotting.texture_shape.accuracies(two_seeds, CLASSES, model_seed=7)
    plt.close("all")


def test_by_class_shows_ten_of_many_and_says_so(two_seeds):
    figure = plotting.texture_shape.accuracies_by_class(two_seeds, CLASSES)
    assert figure.get_suptitle() == "toy, training seed 1: the 10 classes where the models differ most; dotted: chance"
    assert [ax.get_title() for ax in figure.axes] == [
        "grayscale, n = 2 a class",
        "occlusion black 50%, n = 2 a class",
    ]
    assert len(figure.axes[-1].get_xticklabels()) == 10
    few = plotting.texture_shape.accuracies_by_class(two_seeds[two_seeds["label"] < 4], CLASSES[:4])
    assert few.get_suptitle() == "toy, training seed 1; dotted: chance"
    assert {line.get_ydata()[0] for line in few.axes[0].lines if line.get_linestyle() == ":"} == {25}
    assert [label.get_text() for label in few.axes[-1].get_xticklabels()] == CLASSES[:4]
    plt.close("all")


def test_corruptions_have_a_block_for_each_model(two_seeds):
    figure = plotting.texture_shape.corruptions(two_seeds, models=["mlp", "cnn"])
    assert figure.get_suptitle() == "toy, training seed 1, n = 12 test images"
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fog"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "1", "2"]
    headings = [text.get_text().split("\n")[0] for text in ax.texts]
    assert [name for name in headings if name in ("CNN", "MLP")] == ["MLP", "CNN"]
    rows = [(m, name, s) for m in ("mlp", "cnn") for name in ("fog", "jpeg_compression") for s in (1.0, 2.0)]
    right = dict(zip(rows, (0, 1, 2, 3, 4, 5, 6, 7), strict=True))
    table = pd.DataFrame([(*row, i, 0, int(i >= k)) for row, k in right.items() for i in range(10)])
    table.columns = ["model", "condition", "level", "sample_id", "label", "prediction"]
    clean = table[(table["condition"] == "fog") & (table["level"] == 1)].assign(condition="clean", level=0.0)
    table = pd.concat([clean, table])
    figure = plotting.texture_shape.corruptions(table.assign(model_seed=0, dataset="toy"), models=["cnn", "mlp"])
    shown = figure.axes[0].collections[0].get_array().reshape(2, 4)
    np.testing.assert_allclose(shown, [[40, 50, 0, 10], [60, 70, 20, 30]])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["fog", "jpeg compression"]
    with pytest.raises(ValueError, match="no rows"):
        plotting.texture_shape.corruptions(two_seeds[two_seeds["condition"] == "clean"])
    plt.close("all")


def test_cue_conflicts_pool_no_seeds_and_mark_the_rules():
    kinds = [("phase", 1.0), ("hybrid", 1.0), ("hybrid", 4.0)]
    parts = [
        pd.DataFrame(
            {"pair": range(30), "shape_label": 0, "texture_label": 1, "prediction": [0] * k + [1] * (30 - k)}
        ).assign(model=model, model_seed=seed, dataset="toy", condition=condition, level=level)
        for model, seed, k in (("cnn", 0, 10), ("cnn", 1, 25), ("mlp", 0, 20), ("mlp", 1, 5))
        for condition, level in kinds
    ]
    table = pd.concat(parts)
    shape_rule = table[(table["model"] == "mlp") & (table["model_seed"] == 0)].assign(model="shape rule", prediction=0)
    rules = pd.concat([shape_rule, shape_rule.assign(model="texture rule", prediction=1)])
    figure = plotting.texture_shape.cue_conflicts(table, calibration=rules, models=["mlp", "cnn"], model_seed=0)
    assert figure.get_suptitle() == "toy, training seed 0, conflicts: 30 phase, 30 hybrid"
    shares, points, hybrids, _ = figure.axes
    assert [text.get_text() for text in shares.texts] == ["100 % of 30"] * 2
    assert [text.get_text() for text in points.texts] == ["0.67", "0.33"]
    assert [text.get_text() for text in hybrids.get_legend().get_texts()] == ["rules of one cue"]
    assert [tick.get_text() for tick in shares.get_yticklabels()] == ["phase: MLP", "phase: CNN"]
    failing = plotting.texture_shape.cue_conflicts(table, calibration=rules.assign(prediction=1), model_seed=0)
    assert [tick.get_text() for tick in failing.axes[0].get_yticklabels()] == ["phase *: CNN", "phase *: MLP"]
    assert "* not validated" in failing.get_suptitle()
    without = plotting.texture_shape.cue_conflicts(table)
    assert without.axes[2].get_legend() is None
    plt.close("all")


def test_the_matrix_hatches_what_a_painter_judges_and_draws_pixels_apart():
    pairs = pd.DataFrame(dict(pair=range(10), shape_label=0, texture_label=1, condition="stylised", level=1.0))
    shared = dict(dataset="toy", model_seed=0, nearest="shape", clean_right=[True] * 8 + [False] * 2)
    parts = [
        pairs.assign(model=model, painter=painter, prediction=[0] * k + [1] * (10 - k), **shared)
        for painter, ks in (("cnn", (8, 0)), ("random filters", (6, 4)))
        for model, k in zip(("mlp", "cnn"), ks, strict=True)
    ]
    figure = plotting.texture_shape.painter_matrix(pd.concat(parts), models=["mlp", "cnn"])
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["MLP", "CNN", "nearest in pixels"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["random\nfilters", "CNN"]  # the outsider first
    cells = {text.get_position(): text.get_text().split("\n") for text in ax.texts}
    assert cells[0, 0][0] == "+0.50" and cells[1, 0][0] == "+0.00" and cells[0, 0][-1] == "n = 8"
    assert cells[0, 1][0] == "+1.00" and cells[1, 1][:1] + cells[1, 1][2:] == ["-1.00", "0% / 100% / 0%", "n = 8"]
    assert cells[2.15, 0][0] == "+1.00" and cells[2.15, 0][-1] == "n = 10"
    hatched = [patch.get_xy() for patch in ax.patches if patch.get_hatch()]
    assert hatched == [(0.5, 0.5)] and len(figure.legends) == 1
    with pytest.raises(ValueError, match="no rows"):
        plotting.texture_shape.painter_matrix(pd.concat(parts).assign(condition="phase"))
    plt.close("all")
