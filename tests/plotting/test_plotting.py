import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PathCollection
from matplotlib_inline.config import InlineBackend
from PIL import Image
from sklearn.metrics import confusion_matrix

from src import plotting, tables


@pytest.fixture
def ax():
    plotting.use_style()
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_confusion_matrix_agrees_with_scikit_learn(ax):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": rng.integers(4, size=300), "prediction": rng.integers(4, size=300)})
    plotting.finetuning.confusion_matrix(table, ax, classes=list("abcd"))
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
    plotting.finetuning.accuracy_points(table, ax)
    written = sorted(float(text.get_text()) for text in ax.texts)
    assert written == [70.0, 80.0, 95.0, 97.0]
    points = sorted(
        float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() in "oD" and len(line.get_xdata())
    )
    np.testing.assert_allclose(points, written)


def test_learning_curves_show_held_out_accuracy_in_percent(ax):
    history = pd.DataFrame({"condition": "full", "epoch": [1, 2], "accuracy": [0.3, 0.4], "val_accuracy": [0.5, 0.625]})
    plotting.finetuning.learning_curves(history, ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [50, 62.5])


def test_a_figure_is_saved_in_three_formats_whole(ax, tmp_path):
    ax.plot([0, 1])
    written = plotting.save_figure(ax.figure, "line", folder=tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert written[0].read_bytes().startswith(b"%PDF") and b"</svg>" in written[1].read_bytes()
    Image.open(written[2]).verify()


def test_a_figure_is_drawn_once_for_each_format_that_is_asked_for_and_is_as_it_was(ax, tmp_path, monkeypatch):
    figure, drawn, draw = ax.figure, [], type(ax.figure).draw
    before = figure.canvas, figure.dpi
    ax.plot([0, 1])
    monkeypatch.setattr(type(figure), "draw", lambda self, renderer: drawn.append(renderer) or draw(self, renderer))
    assert plotting.save_figure(figure, "line", folder=tmp_path, formats=[]) == [] and not drawn
    assert not figure.stale  # or the end of a notebook's cell would draw it
    written = plotting.save_figure(figure, "line", folder=tmp_path, formats=["png", "svg"])
    assert [path.suffix for path in written] == [".png", ".svg"] and sorted(tmp_path.iterdir()) == written
    assert len(drawn) == 2 and (figure.canvas, figure.dpi) == before
    assert not figure.stale
    figure.savefig(tmp_path / "theirs.png", dpi=plt.rcParams["savefig.dpi"])
    ours, theirs = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("line", "theirs"))
    np.testing.assert_array_equal(ours, theirs)


def test_notebooks_show_figures_as_they_are_saved():
    InlineBackend.instance().print_figure_kwargs = {"bbox_inches": "tight"}
    plotting.use_style()
    assert InlineBackend.instance().print_figure_kwargs == {"bbox_inches": None}


def test_images_shows_every_picture_with_its_title():
    pictures = np.zeros((13, 8, 8, 3), dtype=np.uint8)
    figure = plotting.images(pictures, [f"image {i}" for i in range(13)], columns=5)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 13 and shown[12].get_title() == "image 12"
    plt.close(figure)


def test_the_styles_of_the_models_differ_in_more_than_colour():
    styles = plotting.style.MODEL_STYLE.values()
    assert len({style["marker"] for style in styles}) == len({style["linestyle"] for style in styles}) == len(styles)


@pytest.fixture
def curves():
    rows = [("cnn", 0), ("cnn", 1), ("mlp", 0)]
    table = pd.DataFrame(
        [(*row, eps / 255) for row in rows for eps in (0, 2, 8)], columns=["model", "model_seed", "eps"]
    )
    table["accuracy"] = np.linspace(0.9, 0.1, len(table))
    return table.assign(low=table["accuracy"] - 0.05, high=table["accuracy"] + 0.05)


def test_robust_accuracy_has_a_line_for_each_seed_and_a_name_for_each_model(ax, curves):
    plotting.attacks.robust_accuracy(curves, ax, masked=["mlp"])
    assert len(ax.lines) == 3
    np.testing.assert_allclose(ax.lines[2].get_xdata(), [0, 2, 8])
    np.testing.assert_allclose(ax.lines[2].get_ydata(), 100 * curves["accuracy"][6:])
    assert ax.get_legend_handles_labels()[1] == ["CNN", "MLP (masked gradients)"]
    assert [bool(band.get_hatch()) for band in ax.collections] == [False, False, True]


def test_transfer_heatmap_puts_sources_in_rows(ax):
    pairs = [(source, target) for source in ("mlp", "cnn") for target in ("mlp", "cnn")]
    table = pd.DataFrame(pairs, columns=["source", "target"]).assign(success=[0.1, 0.2, 0.3, 0.4], low=0, high=1, n=7)
    plotting.attacks.transfer_heatmap(table.sample(frac=1, random_state=0), ax, models=["mlp", "cnn"])
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(2, 2), [[10, 20], [30, 40]])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["MLP", "CNN"]
    assert ax.texts[1].get_text() == "20\n[0, 100]\nn=7"


def test_breaking_radii_are_shares_of_a_models_images(ax):
    radii = pd.DataFrame({"model": ["cnn"] * 4 + ["mlp"] * 2, "eps": [0, 1 / 255, 1 / 255, np.inf, 1 / 255, np.inf]})
    plotting.attacks.breaking_radii(radii, ax, largest=8 / 255)
    assert [round(bar.get_height()) for bar in ax.patches] == [25, 50, 25, 0, 50, 50]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["wrong\nanyway", "1", "not by\n8"]


def test_attack_pictures_show_ten_times_the_change():
    clean = np.full((2, 4, 4, 3), 0.3)
    figure = plotting.attacks.attack_pictures(
        clean, {"cnn": clean + 0.02, "mlp": clean}, captions={"cnn": ["a", "b"], "mlp": ["c", "d"]}, titles=["x", "y"]
    )
    shown = [ax.images[0].get_array() for ax in figure.axes]
    assert len(shown) == 10
    np.testing.assert_allclose(shown[1], 0.7)  # grey + 10 * 0.02
    np.testing.assert_allclose(shown[2], 0.32)
    np.testing.assert_allclose(shown[8], 0.5)
    plt.close(figure)


def test_a_model_of_ones_own_has_a_style_of_its_own():
    style = plotting.model_style("timm:convnext_atto")
    assert style["label"] == "timm:convnext_atto" and style == plotting.model_style("timm:convnext_atto")
    assert style["color"] not in {known["color"] for known in plotting.style.MODEL_STYLE.values()}


@pytest.mark.parametrize(
    "model, like", [("cnn@seed1", "cnn"), ("cnn_wide", "cnn"), ("vit-96", "vit"), ("cnn_robust@w8", "cnn_robust")]
)
def test_a_relative_has_its_familys_colour_and_a_look_of_its_own(model, like):
    style, known = plotting.model_style(model), plotting.model_style(like)
    assert style["color"] == known["color"] and style["label"] == model
    assert style["marker"] != known["marker"] and style["linestyle"] != known["linestyle"]


def test_many_networks_look_different_from_each_other():
    names = ["mlp", "cnn", "vit", "cnn_robust", *(f"cnn@{label}" for label in ("w8", "seed1", "seed2", "untrained"))]
    names += [
        "mixer",
        "convmixer",
        "timm:resnet10t",
        "timm:coatnet_0_224",
        "mine.py:build",
        "cnnx",
        "resnet18",
        "a",
        "b",
    ]
    looks = [
        tuple(map(str, (style["color"], style["marker"], style["linestyle"])))
        for style in map(plotting.model_style, names)
    ]
    assert len(set(looks)) == len(names)
    colours = {plotting.model_style(f"network {i}")["color"] for i in range(200)}
    assert colours == set(plotting.style.SPARE_COLOURS)


def judged_confidences(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, n)
    return confidence, rng.random(n) < confidence


def test_histograms_show_shares_of_right_and_wrong_of_the_first_training_seed():
    confidence, correct = judged_confidences()
    one = pd.DataFrame(dict(model="cnn", model_seed=1, condition="none", confidence=confidence, correct=correct))
    all_right = one.assign(model="mlp", correct=True)
    others = [one.assign(model_seed=0, correct=False), one.assign(condition="vector", confidence=1.0)]
    figure = plotting.calibration.confidences(pd.concat([one, all_right, *others]), n_bins=10)
    left, middle = figure.axes
    right, wrong = (np.array([bar.get_height() for bar in bars]) for bars in left.containers)
    np.testing.assert_allclose([right.sum(), wrong.sum()], 100)
    assert right[9] == pytest.approx(100 * (confidence[correct] >= 0.9).mean())
    assert left.get_legend_handles_labels()[1] == [f"correct, n = {correct.sum()}", f"wrong, n = {(~correct).sum()}"]
    assert len(middle.containers) == 1  # nothing is wrong


def test_reliability_diagram_draws_the_bins():
    confidence, correct = judged_confidences()
    judged = pd.DataFrame(
        dict(model="vit", model_seed=[2] * 400, condition="none", confidence=confidence, correct=correct)
    )
    both = pd.concat([judged, judged.assign(model_seed=0, confidence=1.0)])
    bins = tables.calibration.reliability(both, n_bins=5, n_resamples=50)
    measured = pd.DataFrame(
        dict(model="vit", model_seed=[2, 0], condition="none", debiased=[0.04, 0.5], low=0.01, high=0.06)
        | dict(gap=-0.02, gap_low=-0.03, gap_high=-0.01)
    )
    figure = plotting.calibration.reliability(bins, measured, dataset="some")
    (ax,), bins = figure.axes, bins[bins["model_seed"] == 2]
    points = ax.containers[-1].lines[0]
    np.testing.assert_allclose(points.get_xydata(), bins[["confidence", "accuracy"]])
    shares, null = ax.containers[:2]
    np.testing.assert_allclose([bar.get_height() for bar in shares], bins["n"] / 400)
    np.testing.assert_allclose([bar.get_y() for bar in null], bins["null_low"])
    assert "error 4.0% [1.0%, 6.0%]" in ax.get_title() and "-2.0 [-3.0, -1.0]" in ax.get_title()
    assert "n = 400 test images" in figure.get_suptitle()


def test_calibration_errors_stand_at_their_values(ax):
    rows = [
        dict(model=model, condition=condition, debiased=error, low=error / 2, high=2 * error)
        for model, condition, error in (("cnn", "none", 0.05), ("cnn", "vector", 0.01), ("mlp", "none", 0.08))
    ]
    plotting.calibration.calibration_errors(pd.DataFrame(rows), ax)
    cnn = np.asarray(ax.containers[0].lines[0].get_ydata(), dtype=float)
    np.testing.assert_allclose(cnn, [5, 1])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["as trained", "vector"]


def test_calibration_is_drawn_against_error_with_every_seed_and_the_sign_of_the_first():
    rows = [
        dict(model="cnn", model_seed=seed, condition=condition, debiased=error, low=error / 2, high=2 * error)
        | dict(wrong=0.1, wrong_low=0.08, wrong_high=0.13, gap=gap, gap_low=gap - 0.01, gap_high=gap + 0.01)
        for seed, condition, error, gap in (
            (0, "none", 0.07, -0.06),
            (0, "temperature", 0.02, 0.01),
            (0, "vector", 0.03, 0.02),
            (1, "none", 0.05, -0.04),
        )
    ]
    figure = plotting.calibration.against_error(pd.DataFrame(rows), dataset="cifar10", n=50)
    (left, right), said = figure.axes, figure.get_supxlabel()
    assert said.startswith("CIFAR-10, n = 50 test images")
    points = [bars.lines[0] for bars in left.containers]
    np.testing.assert_allclose([point.get_xydata()[0] for point in points], [[10, 7], [10, 2], [10, 5]])
    assert [point.get_markerfacecolor() == "white" for point in points] == [True, False, True]
    np.testing.assert_allclose(np.asarray(right.containers[0].lines[0].get_ydata(), dtype=float), [-6, 1, 2])


def test_error_by_bins_and_risk_coverage_and_shift_draw_a_line_for_each_model(ax):
    by_bins = pd.DataFrame(dict(model=["cnn"] * 2 + ["mlp"] * 2, n_bins=[5, 50] * 2, ece=[0.1] * 4, null_mean=0.02))
    plotting.calibration.error_by_bins(by_bins, ax)
    assert ax.get_xscale() == "log" and len([line for line in ax.lines if len(line.get_xdata())]) == 4
    ax.clear()
    confidence, correct = judged_confidences()
    judged = pd.DataFrame(dict(model_seed=[0] * 400, condition="none", confidence=confidence, correct=correct))
    curves = tables.calibration.coverage(pd.concat([judged.assign(model="cnn"), judged.assign(model="vit")]))
    plotting.calibration.risk_coverage(curves, ax)
    assert len(ax.lines) == 2 and ax.lines[0].get_ydata()[-1] == pytest.approx(100 * (~correct).mean())
    accuracies = dict(accuracy=[0.1, 0.9], low=[0, 0.8], high=[0.3, 1])
    shift = pd.DataFrame(dict(model="cnn", condition="fgsm", level=[0.2, 0.0], confidence=0.7) | accuracies)
    (ax,) = plotting.calibration.shift(shift).axes
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 90], [51, 10]])  # in 1/255
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [70, 70])
    styles = dict(zip(ax.get_legend_handles_labels()[1], ax.get_legend_handles_labels()[0], strict=True))
    assert styles["mean confidence"].get_linestyle() == ax.lines[1].get_linestyle() == ":"  # as the docstring says


def test_accuracy_against_cost_joins_the_front(ax):
    table = pd.DataFrame(
        dict(model=["mlp", "cnn", "vit"], ms=[1.0, 10.0, 20.0], accuracy=[0.9, 0.94, 0.92], low=0.89, high=0.95)
    ).assign(on_front=[True, True, False])
    plotting.efficiency.accuracy_against_cost(table, ax, cost="ms", label="latency")
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1, 90], [10, 94]])
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "latency"
    assert [bars.lines[0].get_ydata()[0] for bars in ax.containers] == [90, 94, 92]
    ax.clear()
    plotting.efficiency.accuracy_against_cost(table.assign(ms=[1.0, 1.1, 1.2]), ax, cost="ms", label="latency")
    assert ax.get_xscale() == "linear"  # ten per cent apart: a logarithmic axis would have no tick to read


def test_times_are_drawn_from_every_repeat(ax):
    rng = np.random.default_rng(0)
    ms = np.r_[rng.uniform(5, 6, 20), rng.uniform(1, 2, 20)]
    table = pd.DataFrame(dict(model=np.repeat(["vit", "mlp"], 20), ms=ms))
    plotting.efficiency.latency_spread(table, ax)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["MLP", "ViT"]  # the fastest first
    drawn = np.concatenate([dots.get_offsets()[:, 0] for dots in ax.collections if isinstance(dots, PathCollection)])
    np.testing.assert_allclose(np.sort(drawn), np.sort(ms))
    ax.clear()
    per_second = np.r_[np.full(5, 100.0), np.arange(5) + 998]
    rates = pd.DataFrame(dict(model="cnn", batch_size=np.repeat([1, 16], 5), images_per_s=per_second))
    plotting.efficiency.throughput_against_batch(rates, ax)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1, 100], [16, 1000]])
    ax.clear()
    blocks = pd.DataFrame(dict(block=["b", "a", "tiny"] * 2, order=[1, 0, 2] * 2, ms=[3.0, 1.0, 0.001] * 2))
    (panel,) = plotting.efficiency.blocks(blocks.assign(model="cnn")).axes
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["a", "b"]
    np.testing.assert_allclose([bar.get_width() for bar in panel.patches], [25, 75])
    ax.clear()
    ways = pd.DataFrame(
        dict(model="cnn", condition=["eager", "bfloat16"], speed_up=[1.0, 2.0], low=[1.0, 1.8], high=[1.0, 2.2])
    )
    plotting.efficiency.variant_ratios(ways, ax)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["bfloat16"]
    assert ax.containers[0].lines[0].get_ydata()[0] == 2
