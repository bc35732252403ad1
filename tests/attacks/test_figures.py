"""Figures of notebook 02 from stored tables alone, and the tables behind them."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from src import plotting, tables
from src.plotting.style import text_on
from src.results import load_published, load_table
from src.tables.attacks import compare_models, less_printed, stored_curves
from src.tables.statistics import accuracy, first_seed, paired_test

MODELS = ["mlp", "cnn_robust", "cnn", "vit"]


@pytest.fixture(autouse=True)
def closed_figures():
    plotting.use_style()
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def stored() -> pd.DataFrame:
    """Of first seeds, without cold PGD, which has a panel of its own."""
    table = first_seed(stored_curves("results/cifar10", MODELS))
    return table[table["condition"] != "pgd cold"]


@pytest.fixture(scope="module")
def two_seeds(stored) -> pd.DataFrame:
    """Of two models a second seed, 7, whose curves lie higher: every other image holds at every radius."""
    second = stored[stored["model"].isin(["mlp", "cnn"])].assign(model_seed=7)
    second.loc[second["sample_id"] % 2 == 0, "label_rank"] = 0
    return pd.concat([stored, second], ignore_index=True)


@pytest.mark.parametrize("models", [["mlp", "cnn_robust"], ["mlp"], ["cnn_robust", "mlp", "cnn_robust"]])
def test_a_stored_curve_is_loaded_once(models):
    """With cnn_robust among the models its rows came twice, and n with them."""
    table = stored_curves("results/cifar10", models)
    assert list(table["model"].unique()) == list(dict.fromkeys([*models, "cnn_robust"]))
    assert not table.duplicated(["model", "model_seed", "condition", "norm", "eps", "sample_id"]).any()


def test_a_missing_curve_names_its_notebook():
    with pytest.raises(FileNotFoundError, match="02_adversarial_robustness"):
        stored_curves("results/fashion_mnist", ["mlp", "resnet18"])


def drawn(ax) -> dict[str, np.ndarray]:
    """The labelled lines of a panel."""
    return {line.get_label(): line.get_xydata() for line in ax.lines if not line.get_label().startswith("_")}


def test_curves_are_accuracies_of_the_stored_rows(stored):
    axes = plotting.attacks.curves(stored, pgd_steps=5).axes
    for ax, condition, k in zip(axes, ("fgsm", "fgsm", "pgd", "pgd top-5"), (1, 5, 1, 5), strict=True):
        lines = drawn(ax)
        assert list(lines) == ["MLP", "CNN, robust", "CNN", "ViT"]  # in the order of the table
        expected = accuracy(stored[(stored["condition"] == condition) & (stored["model"] == "cnn")], by="eps", k=k)
        np.testing.assert_allclose(lines["CNN"], np.c_[255 * expected["eps"], 100 * expected["accuracy"]])


def test_curves_say_what_they_show(stored):
    figure = plotting.attacks.curves(stored, pgd_steps=12, published=load_published("adversarial"))
    warm = ["PGD-12, warm-started, top-1", "PGD-12, warm-started, top-5"]
    assert [ax.get_title() for ax in figure.axes] == ["FGSM, top-1", "FGSM, top-5", *warm]
    said = figure.get_supxlabel()
    assert (
        f"CIFAR-10, n = {stored['sample_id'].nunique()} test images" in said
        and "pale" in said
        and "PGD-5, 10,000 images" in said
    )
    assert "2023" not in plotting.attacks.curves(stored, pgd_steps=5).get_supxlabel()


def test_cold_pgd_stands_beside_the_report_and_ours_goes_by_another_name(stored):
    cold = stored[stored["condition"] == "pgd"].assign(condition="pgd cold", prediction=lambda of: of["label"])
    table = pd.concat([stored, cold], ignore_index=True)
    figure = plotting.attacks.curves(table, pgd_steps=5, published=load_published("adversarial"))
    of = {ax.get_title(): ax for ax in figure.axes}
    assert list(of)[2:5] == ["PGD-5, cold, top-1", "PGD-5, warm-started, top-1", "PGD-5, warm-started, top-5"]
    assert (drawn(of["PGD-5, cold, top-1"])["CNN"][:, 1] == 100).all()
    assert "CNN, 2023 report" in drawn(of["PGD-5, cold, top-1"])
    assert "CNN, 2023 report" not in drawn(of["PGD-5, warm-started, top-1"])
    dotted = [line.get_ydata()[0] for line in of["FGSM, top-5"].lines if line.get_linestyle() == ":"]
    assert 50 in dotted and "dotted: chance" in figure.get_supxlabel()  # 5 of ten classes


def test_top_5_is_left_out_where_it_is_everything(stored):
    few = stored.assign(label=stored["label"] % 3, label_rank=stored["label_rank"].clip(upper=2))
    figure = plotting.attacks.curves(few, pgd_steps=5)
    assert [ax.get_title() for ax in figure.axes if ax.axison] == ["FGSM, top-1", "PGD-5, warm-started, top-1"]
    assert "top-5" not in figure.get_supxlabel()


def test_the_pale_lines_never_rise(stored):
    for ax in plotting.attacks.curves(stored, pgd_steps=5).axes[:2]:
        pale = [line for line in ax.lines if line.get_alpha() == 0.3]
        assert len(pale) == 4 and all((np.diff(line.get_ydata()) <= 0).all() for line in pale)


def test_published_curves_are_hollow_beside_ours(stored):
    published = load_published("adversarial")
    axes = plotting.attacks.curves(stored, pgd_steps=5, published=published).axes
    for ax, attack, column in zip(axes, ("fgsm", "fgsm", "pgd", "pgd"), ("accuracy", "top5_accuracy") * 2, strict=True):
        rows = published[(published["dataset"] == "cifar10") & (published["condition"] == attack)]
        rows = rows[rows["model"] == "vit"]
        line = next(line for line in ax.lines if line.get_label() == "ViT, 2023 report")
        np.testing.assert_allclose(line.get_xydata(), np.c_[255 * rows["eps"], 100 * rows[column]])
        assert line.get_markerfacecolor() == "none"


def test_masked_models_are_hatched_in_curves_and_bars(stored):
    figure = plotting.attacks.curves(stored, pgd_steps=5, masked=["cnn"])
    for ax in figure.axes:
        assert [bool(band.get_hatch()) for band in ax.collections] == [False, False, True, False]
        assert "CNN (masked gradients)" in drawn(ax)
    bars, l2 = plotting.attacks.radii(stored, pgd_steps=5, masked=["cnn"]).axes
    assert [bool(group[0].get_hatch()) for group in bars.containers] == [False, False, True, False]
    assert sum(bool(band.get_hatch()) for band in l2.collections) == 1


def test_a_seed_has_a_line_of_its_own_and_is_not_pooled(stored, two_seeds):
    figure = plotting.attacks.curves(two_seeds, pgd_steps=5)
    assert f"n = {stored['sample_id'].nunique()} test images" in figure.get_supxlabel()
    for one, two in zip(plotting.attacks.curves(stored, pgd_steps=5).axes, figure.axes, strict=True):
        assert len(two.collections) == len(one.collections) + 2
        assert list(drawn(one)) == list(drawn(two))  # a name for each model, not for each seed


def test_breaking_radii_are_of_the_first_seed_given(stored, two_seeds):
    figures = [
        plotting.attacks.radii(table, pgd_steps=5)
        for table in (stored, two_seeds, two_seeds.sort_values("model_seed", ascending=False, kind="stable"))
    ]
    one, two, turned = (figure.axes[0] for figure in figures)
    assert {figure.get_supxlabel() for figure in figures} == {
        f"CIFAR-10, n = {stored['sample_id'].nunique()} test images, 95 % bands"
    }
    heights = [[bar.get_height() for bar in ax.patches] for ax in (one, two)]
    np.testing.assert_allclose(*heights)
    names = [[group.get_label() for group in ax.containers] for ax in (one, turned)]
    order = [names[1].index(name) for name in names[0]]
    again = [[bar.get_height() for bar in turned.containers[i]] for i in order]
    differ = [not np.allclose(a, b) for a, b in zip(again, np.reshape(heights[0], (4, -1)), strict=True)]
    assert dict(zip(names[0], differ, strict=True)) == {"MLP": True, "CNN": True, "CNN, robust": False, "ViT": False}


def test_first_seeds_are_those_of_each_model(two_seeds):
    seeds = first_seed(two_seeds).groupby("model")["model_seed"].unique()
    assert all(list(found) == [0] for found in seeds)


@pytest.mark.parametrize("dataset", ["fashion_mnist", "cifar10"])  # of three networks, and of four
def test_nothing_of_the_transfer_figure_is_cut_off(dataset, tmp_path):
    figure = plotting.attacks.transfer(load_table(f"results/{dataset}", "02_attacks", "transfer"))
    (picture,) = plotting.save_figure(figure, "transfer", folder=tmp_path, formats=["png"])
    pixels = plt.imread(picture)[..., :3]
    assert all(edge.min() > 0.9 for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def test_transfer_is_drawn_for_each_attack_from_the_stored_rows():
    table = load_table("results/cifar10", "02_attacks", "transfer")
    axes = plotting.attacks.transfer(table).axes
    assert [ax.get_title() for ax in axes] == ["FGSM, 8/255", "PGD-10, 8/255", "MI-FGSM-10, 8/255"]
    summary = tables.attacks.summarise_transfer(table)
    for ax, attack in zip(axes, ("fgsm", "pgd", "mi_fgsm"), strict=True):
        expected = 100 * summary.loc[summary["attack"] == attack, "success"]
        np.testing.assert_allclose(np.sort(ax.collections[0].get_array().ravel()), np.sort(expected))


def test_the_report_has_a_panel_for_each_data_set_and_attack():
    figure = plotting.attacks.report_2023(load_published("adversarial"))
    assert len(figure.axes) == 4 and all(len(ax.lines) == 3 for ax in figure.axes)
    assert figure.axes[3].get_title() == "CIFAR-100, PGD-5, 2023 report"


def test_every_two_models_are_compared_on_the_same_images():
    worst = first_seed(load_table("results/cifar10", "02_attacks", "worst_case"))
    pairs = compare_models(worst, by="eps_255")
    assert len(pairs) == 6 * worst["eps_255"].nunique() and (pairs["p_holm"] >= pairs["p_value"]).all()
    row = pairs.query("eps_255 == 2 and a == 'mlp' and b == 'vit'").iloc[0]
    a, b = (worst.query("model == @name and eps_255 == 2") for name in ("mlp", "vit"))
    expected = paired_test(a, b)
    assert {name: row[name] for name in expected} == expected
    alone = compare_models(worst[worst["model"] == "mlp"], by="eps_255")
    assert alone.empty and {"a", "b", "difference", "p_holm"} <= set(alone.columns)


def test_measured_less_printed_by_hand():
    """Of four images two hold at one radius of the report; radii and attacks that it lacks are left out."""
    rows = dict(dataset="cifar10", condition="fgsm", label=0, prediction=[0, 0, 1, 1], eps=0.0125)
    curves = pd.concat(
        [pd.DataFrame(rows), pd.DataFrame(rows | dict(eps=0.2)), pd.DataFrame(rows | dict(condition="x"))]
    )
    printed = load_published("adversarial")
    (row,) = less_printed(curves.query("eps < 0.1"), printed, model="mlp").itertuples(index=False)
    theirs = printed.query("dataset == 'cifar10' and model == 'mlp' and condition == 'fgsm' and eps == 0.0125")
    assert row == ("fgsm", 0.0125, 4, pytest.approx(0.5 - theirs["accuracy"].iloc[0]))
    assert len(less_printed(curves, printed, model="mlp")) == 2 and less_printed(curves, printed, model="x").empty


def test_numbers_stand_out_from_their_cells_and_a_pair_without_images_has_none():
    """Of four pairs one has no image that both get right; a pale, a middle and a dark cell are left."""
    table = pd.DataFrame(dict(source=["a", "a", "b"], target=["a", "b", "b"], success=[0.05, 0.45, 0.95], n=9))
    ax = plotting.attacks.transfer_heatmap(table.assign(low=0.0, high=1.0), plt.figure().subplots(), models=["a", "b"])
    assert [text.get_text().splitlines()[0] for text in ax.texts] == ["5", "45", "95"]
    fills = ax.collections[0].get_facecolors()[[0, 1, 3]]
    assert [text.get_color() for text in ax.texts] == ["black", "black", "white"] == [text_on(fill) for fill in fills]
