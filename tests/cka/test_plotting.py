"""Figures of CKA show what their tables say, of one training seed, whatever other seeds the tables hold."""

import numpy as np
import pandas as pd
import pytest

from src import plotting, tables
from tests.cka.test_tables import several_seeds


@pytest.fixture(scope="module")
def hsic():
    return several_seeds().assign(kernel="linear", unbiased=True, pool="none", dataset="somewhere")


@pytest.fixture(scope="module")
def table(hsic):
    return tables.cka.cka_table(hsic, n_resamples=20)


@pytest.mark.parametrize("model_seed, shown", [(None, 2), (0, 0)])
def test_layers_against_layers_of_one_training_seed(table, model_seed, shown):
    figure = plotting.cka.layer_grid(table, ["a", "b"], model_seed=model_seed)
    rows = table[(table["model_a"] == "a") & (table["model_b"] == "b") & (table["kind_b"] == "trained")]
    rows = rows[(rows["kind_a"] == "trained") & (rows["seed_a"] == shown) & (rows["seed_b"] == shown)]
    np.testing.assert_allclose(figure.axes[1].collections[0].get_array().ravel(), rows["cka"])
    assert figure.get_suptitle() == f"somewhere, unbiased linear CKA, n = 48 test images, training seed {shown}"
    assert not figure.axes[2].get_visible()


def test_networks_against_their_random_weights(table):
    figure = plotting.cka.trained_against_untrained(table)
    assert [ax.get_xlabel() for ax in figure.axes[:2]] == ["a, untrained", "b, untrained"]
    assert [ax.get_ylabel() for ax in figure.axes[:2]] == ["a", "b"]


def test_a_line_for_each_network_along_the_depth(table):
    left, right = plotting.cka.along_depth(table).axes
    labels = ["a", "b", "a, untrained", "b, untrained"]
    assert [line.get_label() for line in left.lines] == [line.get_label() for line in right.lines] == labels
    assert [line.get_linestyle() == ":" for line in right.lines] == [False, False, True, True]
    rows = tables.cka.one_seed(table).query("model_a == 'a' and kind_a == 'trained' and kind_b == 'labels'")
    np.testing.assert_allclose(right.lines[0].get_ydata(), rows["cka"])


def test_lines_join_the_layers_that_are_matched(table):
    (ax,) = plotting.cka.matching(table, ["a", "b"]).axes
    joined = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 2 and list(line.get_xdata()) == [0, 1]]
    matched = tables.cka.matched_layers(tables.cka.one_seed(table), ["a", "b"])
    np.testing.assert_allclose(joined, matched[["depth_a", "depth_b"]])


def test_each_measure_of_all_layers_is_a_square(hsic):
    trained = hsic[(hsic["kind_a"] == "trained") & (hsic["kind_b"] == "trained")]
    measures = pd.concat([trained.assign(measure=name, value=trained["cross"]) for name in ("CKA", "SVCCA")])
    figure = plotting.cka.by_measure(measures)
    assert [ax.get_title() for ax in figure.axes[:2]] == ["CKA", "SVCCA"]
    cells = figure.axes[0].collections[0].get_array().reshape(4, 4)
    np.testing.assert_allclose(cells, cells.T)
    rows = measures[(measures["measure"] == "CKA") & (measures["model_a"] == "a") & (measures["model_b"] == "b")]
    rows = rows[(rows["seed_a"] == 2) & (rows["seed_b"] == 2) & (rows["layer_a"] == "l0") & (rows["layer_b"] == "l1")]
    assert cells[0, 3] == pytest.approx(rows["value"].mean())
    assert "6 batches of 8 test images, training seed 2" in figure.get_suptitle()


def test_what_training_adds_stands_beside_trained_and_untrained(hsic):
    comparison = tables.cka.compare_at_depth(hsic, ["a", "b"], n_resamples=20)
    comparison = pd.concat([comparison, comparison.assign(measure="deconfounded", value=comparison["value"] - 0.1)])
    figure = plotting.cka.beyond_untrained(comparison, dataset="somewhere")
    plain, taken = figure.axes
    assert [tick.get_text() for tick in plain.get_yticklabels()] == ["a–a", "a–b", "b–b"]
    for ax, name in ((plain, "CKA"), (taken, "deconfounded")):
        rows = comparison[(comparison["measure"] == name) & (comparison["layers"] == "depth")].set_index("what")
        points = {box.get_label(): box.lines[0].get_xdata().astype(float) for box in ax.containers}
        np.testing.assert_allclose(points["trained"], rows.loc[["trained"], "value"])
        np.testing.assert_allclose(points["untrained"], rows.loc[["untrained"], "value"])
        assert [text.get_text()[:5] for text in ax.texts] == [f"{rows.loc['excess', 'value']:+.2f}"]
    assert figure.get_suptitle().startswith("somewhere, n = 48 test images, up to 3 training seeds")


def test_layers_have_short_names():
    names = ["net.layernorms.1:input", "net.linear_out:input", "net.blocks.3"]
    assert [plotting.cka.layer_label(name) for name in names] == ["state 1", "state, last", "block 3"]
