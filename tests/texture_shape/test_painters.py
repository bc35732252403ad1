"""Painters: random filters by closed forms, names, a painter that judges, and the matrix of painters and judges."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn
from victims import fitted, some_images

from src.models import build_model
from src.models.build import Task
from src.names import is_outsider
from src.tables.texture_shape import (
    PIXELS,
    by_outsiders,
    compare_shape_bias,
    painter_matrix,
    sensitivity,
    shape_bias,
    stored_conflicts,
)
from src.texture_shape import load_painters, transfer_style
from src.texture_shape.painters import N_FILTERS, random_filters
from src.texture_shape.style_transfer import gram_matrix, style_layers


@pytest.fixture(scope="module")
def filters():
    return random_filters(32, seed=0).double()


# random filters


def test_the_gram_matrix_of_a_constant_image_is_that_of_its_colour(filters):
    """Filters that sum to 0 see nothing in it; those of one pixel give the same everywhere."""
    colour = torch.tensor([0.9, 0.2, 0.6], dtype=torch.float64)
    with torch.no_grad():
        grams = gram_matrix(filters(colour.view(1, 3, 1, 1).expand(1, 3, 32, 32)))[0]
    weights = filters.net.filters[0].filters.view(N_FILTERS, 3)
    expected = (weights @ (2 * colour - 1)).clamp(min=0)
    torch.testing.assert_close(grams[:N_FILTERS, :N_FILTERS], expected[:, None] * expected[None, :])
    assert grams[N_FILTERS:].abs().max() < 1e-6


def test_responses_do_not_hang_on_the_number_of_images_or_on_the_place(filters):
    pixels = some_images(6).pixels.double()
    figure = torch.full((1, 3, 32, 32), 0.4, dtype=torch.float64)
    figure[:, :, 13:18, 12:16] = torch.rand(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(gram_matrix(filters(pixels[2:3])), gram_matrix(filters(pixels))[2:3])
        # the largest filters reach 7 pixels, so that the figure stays clear of the borders
        moved = gram_matrix(filters(figure.roll((3, -2), (2, 3))))
        torch.testing.assert_close(moved, gram_matrix(filters(figure)))


def test_filters_belong_to_their_seed_and_fit_the_side():
    again, other = random_filters(32, seed=0), random_filters(32, seed=1)
    assert again.source == random_filters(32, seed=0).source != other.source and again.trained
    sizes = [each.filters.shape[-1] for each in again.net.filters]
    assert sizes == [1, 3, 5, 7, 11, 15]
    assert [each.filters.shape[-1] for each in random_filters(8, seed=0).net.filters] == [1, 3]
    assert torch.equal(again.net.filters[1].filters, random_filters(8, seed=0).net.filters[1].filters)
    for each in again.net.filters:
        torch.testing.assert_close(each.filters.flatten(1).norm(dim=1), torch.ones(N_FILTERS))


def test_random_filters_bring_the_style_nearer_and_ask_the_pixels_for_content(filters):
    images = some_images(20).pixels
    content, style = images[:3], images[10:13]
    painted = transfer_style(content, style, filters, steps=30)
    assert style_layers(filters)[1] == "net:input" and painted.dtype == content.dtype
    before, after = (style_distance(filters, x, style) for x in (content, painted))
    assert (after < 0.5 * before).all() and (painted == painted[:, :1]).all()


def test_what_the_next_layer_does_in_place_leaves_the_features():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    content, style = some_images(2).pixels.split(1)
    plain(content)
    in_place = copy.deepcopy(plain)
    in_place[1].inplace = in_place[3].inplace = True
    painted = [transfer_style(content, style, net, layers=("0", "2"), steps=5) for net in (plain, in_place)]
    assert torch.equal(*painted) and not torch.equal(painted[0], content)


def style_distance(filters, x, style):
    """Mean over the sizes of the squared distance of Gram matrices, over the squared length of the style's."""
    distances = []
    with torch.no_grad():
        for each in filters.net.filters:
            ours, wanted = (gram_matrix(each(2 * images.double() - 1)).flatten(1) for images in (x, style))
            distances.append((ours - wanted).square().sum(1) / wanted.square().sum(1))
    return torch.stack(distances).mean(0)


# names


def load(names, models=("mlp", "cnn", "vit"), dataset="fashion_mnist"):
    zoo = {(name, 0): build_model(name, "fashion_mnist") for name in models}
    loaded = load_painters(names, zoo, lambda name, task: build_model(name, task), dataset=dataset, side=32, seed=0)
    return zoo, loaded


def test_painters_by_name():
    zoo, found = load(["vit", "cnn on cifar100", "compared", "random filters"])
    assert list(found) == ["cnn on cifar100", "random filters", "vit", "cnn"]  # outsiders first; an MLP cannot paint
    assert found["cnn"] is zoo["cnn", 0] and "cnn_cifar100.safetensors" in found["cnn on cifar100"].source
    assert [is_outsider(name) for name in found] == [True, True, False, False]
    assert list(load(["random filters", "compared"], models=["mlp"])[1]) == ["random filters"]
    with pytest.raises(ValueError, match="none of mlp can paint; add the painter 'random filters'"):
        load(["compared"], models=["mlp"])


@pytest.mark.parametrize(
    "name, said",
    [
        ("vit", "unknown painter 'vit'; choose from 'random filters', .* 'mlp', 'cnn', which are compared"),
        ("random", "unknown painter 'random'"),
        (
            "mlp",
            r"'mlp' cannot paint: layer net.blocks.0 gives \(1, 104\); style is what channels",
        ),
        ("cnn on cifar", "of no data set that goes by name; choose from .*cifar10"),
        ("cnn on fashion_mnist", "trained on the data set of this study, so it is no outsider"),
        ("cnn on fashion_mnist_full", "trained on the data set of this study"),
        ("cn on cifar10", "unknown model 'cn'"),
        ("cnn@untrained on cifar10", "cannot paint: it has no trained weights"),
    ],
)
def test_wrong_painters_are_refused(name, said):
    with pytest.raises(ValueError, match=said):
        load([name], models=["mlp", "cnn"])


def test_a_transformer_paints_by_its_tokens():
    vit, images = build_model("vit", "fashion_mnist"), some_images(20).pixels
    assert style_layers(vit) == (tuple(f"net.blocks.{i}" for i in range(4)), "net.blocks.3")
    deep = build_model("vit@untrained", Task("pictures", 3, 32))
    assert style_layers(deep)[0] == tuple(f"net.blocks.{i}" for i in (0, 2, 3, 5))
    painted = transfer_style(images[:1], images[10:11], vit, steps=3)
    assert (painted - images[:1]).abs().max() > 0.01


# who paints must not judge


@pytest.fixture(scope="module")
def pooling():
    """Two convolutions, averaged over all places, trained for five epochs: 70 % of the test images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1)]
        net = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    return fitted(net, epochs=5, lr=1e-2)


def test_a_network_follows_the_texture_of_what_it_painted_itself(pooling):
    """A tiny network and random filters paint the same pairs: what is made on its own features fools it more."""
    images = some_images(200)
    with torch.no_grad():
        right = pooling(images.pixels).argmax(1) == images.labels
    pixels, labels = images.pixels[right][:60], images.labels[right][:60]
    partner = torch.arange(len(labels)).roll(7)
    keep = labels != labels[partner]
    content, style, parts = pixels[keep], pixels[partner][keep], []
    pairs = dict(pair=range(len(content)), shape_label=labels[keep], texture_label=labels[partner][keep])
    own = dict(model=pooling, layers=("1", "3"), content_layer="0:input")
    for painter, options in (("pooling", own), ("random filters", dict(model=random_filters(32, 0)))):
        painted = transfer_style(content, style, steps=40, **options)
        with torch.no_grad():
            rows = pairs | dict(prediction=pooling(painted).argmax(1))
        nearer = (painted - content).square().sum((1, 2, 3)) <= (painted - style).square().sum((1, 2, 3))
        rows = pd.DataFrame(rows).assign(model="pooling", painter=painter, condition="stylised")
        parts.append(rows.assign(nearest=np.where(nearer, "shape", "texture")))
    found = painter_matrix(pd.concat(parts)).set_index(["painter", "judge"])
    assert found.loc[("pooling", "pooling"), "own"] and found["own"].sum() == 1
    assert found.loc[("random filters", "pooling"), "excess"] > found.loc[("pooling", "pooling"), "excess"] + 0.2
    assert (found.xs(PIXELS, level="judge")["shape"] > 0.7).all()  # pixels alone mostly say the shape


# counts


def stylised_rows(right=None) -> pd.DataFrame:
    """Two models and three painters on 40 pairs, whose answers are the shape's, the texture's or neither's."""
    rng, parts = np.random.default_rng(0), []
    for model, share in (("cnn", 0.4), ("mlp", 0.7)):
        for painter in ("random filters", "cnn on cifar100", "cnn"):
            answers = rng.choice(3, 40, p=[share, 0.2, 0.8 - share])
            parts.append(pd.DataFrame(dict(pair=range(40), prediction=answers)).assign(model=model, painter=painter))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(shape_label=0, texture_label=1, condition="stylised", level=1.0, model_seed=0)


def test_what_several_painters_made_of_a_pair_is_drawn_together():
    """Three copies of the same answers are no more evidence than one."""
    one = stylised_rows().query("painter == 'cnn'")
    copies = pd.concat([one.assign(painter=name) for name in ("a on cifar10", "b on cifar10", "c on cifar10")])
    alone, pooled = (shape_bias(table).set_index("model") for table in (one, copies))
    assert (pooled["n"] == 3 * alone["n"]).all() and np.allclose(pooled["excess"], alone["excess"])
    widths = [found["excess_high"] - found["excess_low"] for found in (alone, pooled)]
    np.testing.assert_allclose(widths[1], widths[0], rtol=0.08)
    differences = [compare_shape_bias(table, of_all=True).iloc[0] for table in (one, copies)]
    assert differences[0]["difference"] == pytest.approx(differences[1]["difference"])
    assert differences[1]["n"] == 40 and differences[0]["low"] == pytest.approx(differences[1]["low"])


def test_the_excess_has_the_interval_of_scipy():
    one = stylised_rows().query("painter == 'cnn' and model == 'mlp'")
    values = (one["prediction"] == 0).astype(int) - (one["prediction"] == 1).astype(int)
    found = shape_bias(one).iloc[0]
    assert found["excess"] == pytest.approx(values.mean())
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    np.testing.assert_allclose([found["excess_low"], found["excess_high"]], theirs, atol=0.03)


def test_only_outsiders_count():
    table = stylised_rows()
    assert set(by_outsiders(table)["painter"]) == {"random filters", "cnn on cifar100"}
    assert len(by_outsiders(table.assign(condition="phase"))) == len(table)
    assert len(by_outsiders(table.drop(columns="painter"))) == len(table)
    found = painter_matrix(table)
    assert found["painter"].tolist() == ["random filters"] * 2 + ["cnn on cifar100"] * 2 + ["cnn"] * 2
    assert found.loc[found["own"], ["painter", "judge"]].values.tolist() == [["cnn", "cnn"]]
    np.testing.assert_allclose(found[["shape", "texture", "neither"]].sum(axis=1), 1)


def test_the_weakest_network_chooses_for_nobody():
    """A third network that is never right changes no number of the other two, unless all must be right."""
    two = stylised_rows().query("painter == 'cnn'")
    two = two.assign(clean_right=np.where(two["model"] == "cnn", two["pair"] < 30, two["pair"] >= 10))
    third = two[two["model"] == "mlp"].assign(model="vit", clean_right=False)
    three = pd.concat([two, third])
    assert shape_bias(two).equals(shape_bias(three)[:2]) and shape_bias(three)["n"].tolist() == [30, 30, 0]
    pd.testing.assert_series_equal(
        compare_shape_bias(two).iloc[0].drop("p_holm"), compare_shape_bias(three).iloc[0].drop("p_holm")
    )
    assert compare_shape_bias(three)["n"].tolist() == [20, 0, 0]
    found = sensitivity(three).set_index(["a", "b", "among"])["n"].loc[("cnn", "mlp")]
    assert found.to_dict() == {"own": 20, "all models": 0, "all pairs": 40}
    kept = two[two["pair"].between(10, 29)].drop(columns="clean_right")
    assert sensitivity(two)["difference"][0] == pytest.approx(compare_shape_bias(kept, of_all=True)["difference"][0])
    with pytest.raises(ValueError, match="among must be 'own', 'all models', 'all pairs', not 'some'"):
        shape_bias(two, among="some")


def test_tables_of_older_code_say_their_painter():
    table = stored_conflicts("results/fashion_mnist")
    assert {"painter", "condition"} <= set(table)
    assert (table["painter"] != "").equals(table["condition"] == "stylised")
