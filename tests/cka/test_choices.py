"""What counts as "the layers": planted residual networks, identical ones, branches that begin at 0, and the figure."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from src import plotting, tables
from src.cka import choices_table, linear_cka
from src.cka.choices import FAINT, with_branches
from src.data.batches import Batch
from src.models import build_model
from tests.cka.test_cka import normal

N = 128


class Adds(nn.Module):
    """A block that adds the features that it holds of each image."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, x):
        return x + self.features[: len(x)]


class Stream(nn.Module):
    """A stem that gives shared features, whatever the pixels, and blocks that add their own."""

    def __init__(self, stem, *added):
        super().__init__()
        self.conv1, self.blocks = Adds(stem), nn.ModuleList(Adds(features) for features in added)

    def forward(self, pixels):
        x = self.conv1(torch.zeros(len(pixels), 1))
        for block in self.blocks:
            x = block(x)
        return x


def loader():
    return [Batch(normal(N, 3 * 4 * 4, seed=5).reshape(N, 3, 4, 4), torch.arange(N) % 10, torch.arange(N))]


def test_streams_that_share_a_stem_agree_in_their_states_and_not_in_what_they_add():
    stem, own = 3 * normal(N, 6, seed=1), [[normal(N, 6, seed=10 * k + i) for i in range(3)] for k in (1, 2)]
    zoo = {name: Stream(stem, *added) for name, added in zip("ab", own, strict=True)}
    table = tables.cka.by_choice(choices_table(zoo, loader(), progress=False), ["a", "b"])
    value = table[(table["measure"] == "CKA") & (table["what"] == "trained")].set_index("choice")["value"]
    states = [[stem + sum(added[: i + 1]) for i in range(3)] for added in own]
    expected = {
        "states": np.mean([linear_cka(x, y) for x, y in zip(*states, strict=True)]),
        "added": np.mean([linear_cka(x, y) for x, y in zip(*own, strict=True)]),
    }
    assert value["states"] == value["outputs"] == pytest.approx(expected["states"], abs=1e-5)
    assert value["added"] == pytest.approx(expected["added"], abs=1e-5)
    assert expected["states"] > 0.7 and abs(expected["added"]) < 0.1
    assert table.loc[table["choice"] == "outputs", "same_as"].eq("states").all()
    assert table.loc[table["choice"] != "outputs", "same_as"].eq("").all()


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
def test_identical_networks_agree_by_1_under_every_choice(name):
    twins = {label: build_model(name, "fashion_mnist") for label in "ab"}
    pixels = torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    rows = choices_table(twins, (pixels, torch.arange(32) % 10), progress=False)
    table = tables.cka.by_choice(rows, ["a", "b"])
    assert list(table["choice"].unique()) == ["states", "outputs", "added"]
    np.testing.assert_allclose(table["value"], 1, atol=1e-6)


def test_branches_that_begin_at_0_are_woken_and_states_stay():
    model, pixels = build_model("cnn", "fashion_mnist", weights=None), torch.rand(8, 3, 32, 32)
    woken = with_branches(model)
    assert woken is not model and not model.net.layer1[0].bn2.weight.any()
    assert (woken.net.layer1[0].bn2.weight == FAINT).all()
    with torch.no_grad():
        one, other = (net.net.forward_features(pixels) for net in (model, woken))
    assert (one - other).norm() < 0.02 * one.norm()
    trained = build_model("cnn", "fashion_mnist")
    assert with_branches(trained) is trained
    rows = choices_table({"cnn": trained, "vit": build_model("vit", "fashion_mnist")}, (pixels, torch.arange(8)),
                         untrained={"cnn": model, "vit": build_model("vit", "fashion_mnist", weights=None)},
                         progress=False)  # fmt: skip
    table = tables.cka.by_choice(rows, ["cnn", "vit"])
    assert np.isfinite(table["value"]).all() and set(table["what"]) == {"trained", "untrained", "excess"}


def choices(values):
    """values: choice -> (value, low, high, same_as) of one pair and number."""
    columns = ["value", "low", "high", "same_as"]
    table = pd.DataFrame.from_dict(values, orient="index", columns=columns).rename_axis("choice").reset_index()
    return table.assign(measure="CKA", pair="mlp–cnn", what="trained", seeds=1, n=64)


def test_the_range_over_choices_beside_the_interval():
    table = choices({"states": (0.5, 0.4, 0.6, ""), "outputs": (0.5, 0.4, 0.6, "states"), "added": (-0.1, -0.2, 0, "")})
    (row,) = tables.cka.range_over_choices(table).itertuples()
    assert (row.value, row.least, row.most) == (0.5, -0.1, 0.5) and row.times == pytest.approx(3)


def test_the_figure_shows_each_choice_and_hollow_the_same_layers():
    table = choices({"states": (0.5, 0.4, 0.6, ""), "outputs": (0.5, 0.4, 0.6, "states"), "added": (-0.1, -0.2, 0, "")})
    (ax,) = plotting.cka.by_choice(table, dataset="somewhere").axes
    drawn = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in drawn] == [0.5, 0.5, -0.1]
    assert [line.get_markerfacecolor() == "white" for line in drawn] == [False, True, False]
    assert ax.get_xlabel() == "CKA, trained" and [label.get_text() for label in ax.get_yticklabels()] == ["MLP–CNN"]
    assert "n = 64 test images; bars: 95 % over images, of one training seed" in ax.figure.get_suptitle()
