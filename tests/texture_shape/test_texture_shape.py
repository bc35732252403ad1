"""Pairs, style transfer, the drawn images that calibrate the measure, predictions and what is kept of slow images."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from victims import Spy, in_batches, some_images, trained_conv

from src import paths
from src.data import load_images
from src.data.batches import Batch
from src.data.pixels import pixels_of, to_arrays
from src.models import build_model
from src.names import RANDOM_FILTERS, parse_painter
from src.results import NOTEBOOKS, load_facts
from src.tables.texture_shape import CORRUPTIONS, LEVELS, TRANSFORMATIONS, UNITS, shape_bias, stored_conflicts
from src.texture_shape import (
    MANIPULATIONS,
    choose_pairs,
    corruptions,
    example_pictures,
    manipulate,
    predict_conflicts,
    predict_images,
    predict_manipulated,
    slow_images,
    stylised,
    textures,
)
from src.texture_shape.calibration_images import N_CLASSES, NONE, calibrate, draw, follow_shape, follow_texture
from src.texture_shape.corruptions import corrupt
from src.texture_shape.frequency import cue_conflict
from src.texture_shape.painters import random_filters
from src.texture_shape.precomputed import texture_only
from src.texture_shape.predictions import predict_all, predict_corrupted, predict_pairs, predict_transformed
from src.texture_shape.style_transfer import gram_matrix, transfer_style
from src.texture_shape.textures import synthesise_texture


@pytest.fixture(scope="module")
def clothes():
    return load_images("fashion_mnist", "test").subset(200, seed=0)


# pairs


@pytest.mark.parametrize("n", [1, 45, 90, 180, 200])
def test_pairs_are_balanced_over_ordered_pairs_of_classes(n, clothes):
    pairs = choose_pairs(clothes.labels, clothes.sample_ids, n, seed=0)
    assert pairs["pair"].tolist() == list(range(n))
    label_of = dict(zip(clothes.sample_ids, clothes.labels, strict=True))
    for role in ("shape", "texture"):
        assert [label_of[i] for i in pairs[f"{role}_id"]] == pairs[f"{role}_label"].tolist()
        counts = pairs[f"{role}_label"].value_counts().reindex(range(10), fill_value=0)
        assert counts.max() - counts.min() <= 1
    assert (pairs["shape_label"] != pairs["texture_label"]).all()
    of_classes = pairs.groupby(["shape_label", "texture_label"]).size()
    assert of_classes.max() == -(-n // 90) and (n < 90 or (len(of_classes) == 90 and of_classes.min() == n // 90))
    met = set(map(frozenset, pairs[["shape_id", "texture_id"]].to_numpy().tolist()))
    assert len(met) == n  # in no roles do two images meet again


def test_pairs_use_many_images(clothes):
    pairs = choose_pairs(clothes.labels, clothes.sample_ids, 90, seed=0)
    assert pairs["shape_id"].nunique() > 80 and pairs["texture_id"].nunique() > 80


def test_pairs_hang_on_the_seed_and_not_on_the_order_of_the_images(clothes):
    pairs = choose_pairs(clothes.labels, clothes.sample_ids, 90, seed=0)
    order = np.random.default_rng(0).permutation(len(clothes))
    pd.testing.assert_frame_equal(pairs, choose_pairs(clothes.labels[order], clothes.sample_ids[order], 90, seed=0))
    pd.testing.assert_frame_equal(pairs[:37], choose_pairs(clothes.labels, clothes.sample_ids, 37, seed=0))
    other = choose_pairs(clothes.labels, clothes.sample_ids, 90, seed=1)
    assert (pairs["shape_id"] != other["shape_id"]).mean() > 0.8


def test_every_meeting_comes_once_and_no_more_than_there_are():
    labels, ids = np.array([0, 0, 0, 1, 1]), np.array([10, 11, 12, 20, 21])
    pairs = choose_pairs(labels, ids, 6, seed=0)
    assert len(set(map(frozenset, pairs[["shape_id", "texture_id"]].to_numpy().tolist()))) == 6
    assert pairs["shape_label"].tolist().count(0) == 3
    pd.testing.assert_frame_equal(choose_pairs(labels, ids, 7, seed=0), pairs)
    with pytest.raises(ValueError, match="pairs need images of two classes; there are 1"):
        choose_pairs(labels[:3], ids[:3], 1, seed=0)
    with pytest.raises(ValueError, match="of one length, not 5, 4"):
        choose_pairs(labels, ids[:4], 1, seed=0)


def test_images_are_found_by_their_ids(clothes):
    ids = clothes.sample_ids[[7, 0, 7, 199]]
    np.testing.assert_array_equal((255 * to_arrays(pixels_of(clothes, ids))).round(), clothes.images[[7, 0, 7, 199]])
    mixed = clothes.take(np.random.default_rng(0).permutation(len(clothes)))
    assert torch.equal(pixels_of(mixed, ids), pixels_of(clothes, ids))
    with pytest.raises(ValueError, match="fashion_mnist test has no sample_id 99999 among its 200 images"):
        pixels_of(clothes, np.array([ids[0], 99_999]))


# style transfer


@pytest.fixture(scope="module")
def style_task():
    pixels = some_images(20).pixels
    return pixels[:4], pixels[10:14]


def conv_layers() -> dict:
    return dict(model=trained_conv(), layers=("1", "3"))


def test_style_comes_nearer_and_content_stays(style_task):
    content, style = style_task
    net = trained_conv()
    painted = transfer_style(content, style, steps=40, **conv_layers())
    assert 0 <= painted.min() and painted.max() <= 1 and painted.dtype == content.dtype
    for depth in (2, 4):
        grams = [gram_matrix(net[:depth](x)).detach() for x in (content, painted, style)]
        before, after = ((gram - grams[2]).flatten(1).norm(dim=1) for gram in grams[:2])
        assert (after < 0.5 * before).all()
    nearer = [np.corrcoef(painted[i, 0].flatten(), content[j, 0].flatten())[0, 1] for i in range(4) for j in range(4)]
    assert (np.reshape(nearer, (4, 4)).argmax(1) == np.arange(4)).all()


def test_style_level_0_is_the_identity_and_weaker_styles_change_less(style_task):
    content, style = style_task
    assert torch.equal(transfer_style(content, style, level=0, **conv_layers()), content)
    change = [
        (transfer_style(content, style, level=level, steps=30, **conv_layers()) - content).square().mean()
        for level in (0.01, 1.0)
    ]
    assert 0 < change[0] < 0.5 * change[1]


def test_style_does_not_hang_on_the_batch(style_task):
    content, style = style_task
    whole = transfer_style(content, style, steps=25, **conv_layers())
    parts = [
        transfer_style(*pair, steps=25, **conv_layers()) for pair in zip(content.split(1), style.split(1), strict=True)
    ]
    assert (torch.cat(parts) - whole).abs().max() <= 1e-6


def test_grey_images_stay_grey_and_colours_do_not(style_task):
    content, style = style_task
    painted = transfer_style(content, style, steps=5, **conv_layers())
    assert (painted == painted[:, :1]).all()
    coloured = style * torch.tensor([1, 0.5, 0.2]).view(3, 1, 1)
    painted = transfer_style(content, coloured, steps=5, **conv_layers())
    assert (painted != painted[:, :1]).flatten(1).any(1).all()


def test_the_styling_network_is_left_as_it_was(style_task):
    net = copy.deepcopy(trained_conv()).train()
    net.zero_grad(set_to_none=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    transfer_style(*style_task, net, steps=2, layers=("1",))
    assert net.training and all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
    net.eval()


def test_gram_matrix_is_numpys():
    features = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    flat = features.numpy().reshape(3, 4, 30)
    np.testing.assert_allclose(gram_matrix(features), np.einsum("nip,njp->nij", flat, flat) / 30, rtol=1e-5)


def test_wrong_style_tasks_are_refused(style_task):
    content, style = style_task
    with pytest.raises(ValueError, match="no layer net.layer9; choose from 0, 2"):
        transfer_style(content, style, trained_conv(), layers=("net.layer9",))
    with pytest.raises(ValueError, match=r"layer 5 gives \(4, 10\)"):
        transfer_style(content, style, trained_conv(), layers=("5",))
    with pytest.raises(ValueError, match="weight of the style must be from 0 to 1, not 2"):
        transfer_style(content, style, level=2, **conv_layers())
    with pytest.raises(ValueError, match="one partner"):
        transfer_style(content, style[:2], **conv_layers())


def test_the_studys_cnn_has_the_layers_of_the_default(style_task):
    painted = transfer_style(*(x[:1] for x in style_task), build_model("cnn", "fashion_mnist"), steps=2)
    assert (painted - style_task[0][:1]).abs().max() > 0.01


# the measure, measured


IDS = torch.arange(400)
SHAPES, TEXTURES = IDS % N_CLASSES, IDS // N_CLASSES % N_CLASSES
NEITHER = torch.full_like(SHAPES, NONE)


def test_each_rule_sees_its_cue_and_not_the_other():
    outlines, fields = draw(SHAPES, NEITHER, IDS, seed=0), draw(NEITHER, TEXTURES, IDS, seed=0)
    assert torch.equal(follow_shape(outlines), SHAPES) and torch.equal(follow_texture(fields), TEXTURES)
    # what a rule cannot see it must not get right more often than by chance
    assert (follow_shape(fields) == TEXTURES).float().mean() < 0.3
    assert (follow_texture(outlines) == SHAPES).float().mean() < 0.3


def test_a_shape_rule_scores_1_and_a_texture_rule_0():
    table = calibrate({"shape rule": follow_shape, "texture rule": follow_texture}, n=400, seed=0, cutoffs=(0.5, 12))
    found = shape_bias(table, by=["condition", "model"]).set_index(["condition", "model"])
    figures = found.loc["figures"]
    assert figures["shape_bias"].to_dict() == {"shape rule": 1.0, "texture rule": 0.0}
    assert figures["decisive"].tolist() == [1, 1] and figures["n"].tolist() == [400, 400]
    assert figures["low"].tolist() == figures["high"].tolist() == [1, 0]
    assert table.groupby("condition").size().to_dict() == dict(cutout=800, figures=800, hybrid=1600, phase=800)
    # phases carry no texture at all, but an outline only in part
    assert found.loc[("phase", "texture rule"), "shape_bias"] == 0
    assert 0.5 < found.loc[("phase", "shape rule"), "shape_bias"] < 1
    # on a hybrid the cut-off decides, whichever cue a rule sees
    by_level = shape_bias(table[table["condition"] == "hybrid"], by=["level", "model"]).set_index("level")["shape_bias"]
    assert (by_level.loc[0.5] < 0.05).all() and (by_level.loc[12] > 0.9).all()


def test_a_blind_rule_scores_one_half():
    rng = np.random.default_rng(0)
    table = calibrate({"blind": lambda pixels: torch.from_numpy(rng.integers(N_CLASSES, size=len(pixels)))}, n=4_000)
    found = shape_bias(table, by="condition").set_index("condition")
    np.testing.assert_allclose(found["shape_bias"], 0.5, atol=0.04)
    np.testing.assert_allclose(found["decisive"], 2 / N_CLASSES, atol=0.04)


def test_drawn_images_are_seeded_and_balanced():
    images = draw(SHAPES, TEXTURES, IDS, seed=0)
    assert images.shape == (400, 3, 32, 32) and 0 <= images.min() and images.max() <= 1
    assert torch.equal(draw(SHAPES[7:9], TEXTURES[7:9], IDS[7:9], seed=0), images[7:9])
    assert not torch.equal(draw(SHAPES, TEXTURES, IDS, seed=1), images)
    assert len({image.numpy().tobytes() for image in images}) > 350
    with pytest.raises(ValueError, match="shapes must be from 0 to 4, or -1 for none"):
        draw(SHAPES + 1, TEXTURES, IDS, seed=0)
    with pytest.raises(ValueError, match="multiple of 4 and at least 24 pixels, not 30"):
        draw(SHAPES, TEXTURES, IDS, seed=0, side=30)


# predictions


def test_one_pass_gives_every_class_and_the_rows_do_not_hang_on_the_batch():
    images = some_images(40)
    spy = Spy(trained_conv())
    conditions = {"edges": (1,), "patch_shuffle": (16, 4)}
    table = predict_manipulated({("conv", 0): spy}, in_batches(images, 40), conditions=conditions, seed=2)
    assert spy.n_forward == 40 * 4
    assert table.groupby(["condition", "level"]).size().to_dict() == {
        ("clean", 0): 40, ("edges", 1): 40, ("patch_shuffle", 16): 40, ("patch_shuffle", 4): 40,
    }  # fmt: skip
    assert list(table.columns) == [
        "sample_id", "label", "prediction", "confidence", "model", "model_seed", "condition", "level",
    ]  # fmt: skip
    shuffled = table[table["level"] == 4]
    assert shuffled["sample_id"].tolist() == images.sample_ids.tolist()
    assert shuffled["label"].tolist() == images.labels.tolist()
    with torch.no_grad():
        logits = trained_conv()(manipulate("patch_shuffle", images.pixels, images.sample_ids, seed=2, level=4))
    assert shuffled["prediction"].tolist() == logits.argmax(1).tolist()
    np.testing.assert_allclose(shuffled["confidence"], logits.softmax(1).amax(1), atol=6e-4)
    small = predict_manipulated({("conv", 0): trained_conv()}, in_batches(images, 7), conditions=conditions, seed=2)
    pd.testing.assert_frame_equal(table, small, atol=1.1e-3)


def test_every_model_sees_the_same_images():
    spies = {(name, seed): Spy(trained_conv(), keep=True) for name, seed in (("a", 0), ("a", 1), ("b", 0))}
    table = predict_manipulated(spies, in_batches(some_images(10), 5), conditions={"occlusion_noise": (0.5,)})
    seen = [torch.cat(spy.seen) for spy in spies.values()]
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    assert table.groupby(["model", "model_seed"]).size().to_dict() == dict.fromkeys(spies, 20)


def test_all_that_notebook_03_measures_is_one_table(monkeypatch):
    monkeypatch.setattr("src.texture_shape.corruptions.available", lambda: False)
    images = some_images(10)
    zoo = {("conv", 0): trained_conv(), ("conv", 1): trained_conv()}
    table = predict_images(
        zoo, [images], {"stylised": [Batch(*(values[:4] for values in images))]}, [images], painter="somebody"
    )
    manipulated = predict_manipulated(zoo, [images])
    assert set(table.pop("painter")) == {"", "somebody"}
    pd.testing.assert_frame_equal(table[: len(manipulated)], manipulated)
    transformed = predict_transformed(zoo, [images])
    assert len(transformed) == 2 * 10 * sum(map(len, TRANSFORMATIONS.values()))
    rest = table[len(manipulated) :].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest[: len(transformed)], transformed)
    rest = rest[len(transformed) :]
    assert set(rest["condition"]) == {"stylised"} and set(rest["level"]) == {1} and len(rest) == 2 * 4


def test_a_conflict_says_whether_its_model_is_right_on_both_images(clothes):
    pairs = choose_pairs(clothes.labels, clothes.sample_ids, 60, seed=0)
    zoo = {("a", 0): trained_conv(), ("b", 0): nn.Sequential(trained_conv(), nn.Linear(10, 10))}
    table = predict_conflicts(zoo, clothes, pairs, cutoffs=(2,), batch_size=25)
    for name, net in (("a", trained_conv()), ("b", zoo["b", 0])):
        with torch.no_grad():
            right = [
                net(pixels_of(clothes, pairs[f"{role}_id"].to_numpy())).argmax(1).numpy() == pairs[f"{role}_label"]
                for role in ("shape", "texture")
            ]
        for _, rows in table[table["model"] == name].groupby("condition"):
            assert rows["clean_right"].tolist() == (right[0] & right[1]).tolist()
    assert 0.5 < table.loc[table["model"] == "a", "clean_right"].mean() < 1
    assert set(table["painter"]) == set(table["nearest"]) == {""}


def test_what_a_painter_leaves_as_it_is_is_nearest_to_its_shape(clothes):
    pairs = choose_pairs(clothes.labels, clothes.sample_ids, 8, seed=0)
    as_they_are = {
        role: (255 * to_arrays(pixels_of(clothes, pairs[f"{role}_id"].to_numpy()))).round().astype(np.uint8)
        for role in ("shape", "texture")
    }
    table = predict_conflicts({"a": trained_conv()}, clothes, pairs[:1], painted=as_they_are, style_pairs=pairs)
    stylised_rows = table[table["condition"] == "stylised"]
    assert (stylised_rows["painter"] == stylised_rows["nearest"]).all() and len(stylised_rows) == 16


def test_by_default_everything_is_measured():
    table = predict_manipulated({("conv", 0): trained_conv()}, in_batches(some_images(10), 10))
    found = table.groupby("condition")["level"].agg(lambda levels: set(levels)).to_dict()
    assert found == {"clean": {0.0}} | {name: set(map(float, levels)) for name, levels in LEVELS.items()}


def test_conflicts_are_shown_as_the_pairs_say(clothes):
    pairs = choose_pairs(clothes.labels, clothes.sample_ids, 25, seed=0)
    spies = {("a", 0): Spy(trained_conv(), keep=True), ("b", 0): Spy(trained_conv())}
    table = predict_conflicts(spies, clothes, pairs, cutoffs=(2, 8), batch_size=10)
    assert table.groupby(["model", "condition", "level"]).size().tolist() == [25] * 8
    shape, texture = (pixels_of(clothes, pairs[f"{role}_id"].to_numpy()) for role in ("shape", "texture"))
    expected = [cue_conflict(shape, texture, kind=kind) for kind in ("phase", "cutout")]
    expected += [cue_conflict(shape, texture, kind="hybrid", cutoff=c) for c in (2, 8)]
    seen = torch.cat(spies["a", 0].seen)[-100:]  # before them each source once, as it is
    np.testing.assert_allclose(seen, torch.cat(expected), atol=1e-6)
    with torch.no_grad():
        answers = trained_conv()(expected[3]).argmax(1)
    hybrid = table[(table["level"] == 8) & (table["model"] == "b")]
    pd.testing.assert_frame_equal(hybrid[list(pairs.columns)].reset_index(drop=True), pairs)
    assert hybrid["prediction"].tolist() == answers.tolist()
    with pytest.raises(ValueError, match="10 images do not match 25 pairs"):
        predict_pairs(spies, [shape[:10]], pairs, condition="stylised", level=1)


def test_models_come_back_in_their_mode():
    net = nn.Sequential(nn.Dropout(0.5), trained_conv()).train()
    images = some_images(10)
    first, second = (predict_all({("net", 0): net}, [images], condition="clean", level=0) for _ in range(2))
    assert net.training
    pd.testing.assert_frame_equal(first, second)
    trained_conv().eval()


# images that take long


@pytest.fixture
def own_results(tmp_path):
    return tmp_path / "03_texture_shape"


def test_stylised_images_are_made_once_and_added_to(own_results, clothes, monkeypatch):
    model = build_model("cnn", "fashion_mnist")
    pairs = choose_pairs(clothes.labels, clothes.sample_ids, 5, seed=0)
    made = []

    def counted(content, style, network, **options):
        made.append(len(content))
        return transfer_style(content, style, network, **options)

    monkeypatch.setattr("src.texture_shape.precomputed.transfer_style", counted)
    first = stylised(clothes, pairs[:3], model, folder=own_results.parent, steps=1)
    (file,) = own_results.iterdir()
    assert first.dtype == np.uint8 and first.shape == (3, 32, 32, 3) and made == [3]
    whole = stylised(clothes, pairs.iloc[::-1], model, folder=own_results.parent, steps=1)
    assert made == [3, 2] and np.array_equal(whole[::-1][:3], first)
    assert np.array_equal(stylised(clothes, pairs[:3], model, folder=own_results.parent, steps=1), first) and made == [
        3,
        2,
    ]
    shape, texture = (pixels_of(clothes, pairs[f"{role}_id"].to_numpy()) for role in ("shape", "texture"))
    expected = 255 * to_arrays(transfer_style(shape, texture, model, steps=1))
    assert abs(whole[::-1] - expected).max() <= 0.5 + 1e-3
    stylised(clothes, pairs[:1], model, folder=own_results.parent, steps=2)  # made another way, so kept in another file
    assert len(list(own_results.iterdir())) == 2 and made == [3, 2, 1]
    with np.load(file) as kept:
        facts = json.loads(str(kept["facts"]))
        assert kept["images"].shape == (5, 32, 32, 1)  # grey ones take a third of the space
    assert facts["weights"] == model.source and facts["steps"] == 1
    with pytest.raises(ValueError, match="no trained weights"):
        stylised(clothes, pairs, build_model("cnn", "fashion_mnist", weights=None), folder=own_results.parent)


def test_slow_images_lie_where_the_results_say(tmp_path, clothes, monkeypatch):
    asked = []

    def elsewhere(folder, experiment, name, shard="1/1"):
        asked.append((folder, experiment, shard))
        return tmp_path / f"{name}.{shard.replace('/', 'of')}.parquet"

    monkeypatch.setattr("src.texture_shape.precomputed.table_path", elsewhere)
    pairs = choose_pairs(clothes.labels, clothes.sample_ids, 2, seed=0)
    stylised(clothes, pairs, build_model("cnn", "fashion_mnist"), folder=tmp_path / "mine", steps=1, shard="2/3")
    (file,) = tmp_path.iterdir()
    assert file.name.endswith(".2of3.npz")
    assert set(asked) <= {(tmp_path / "mine", "03_texture_shape", shard) for shard in ("1/1", "2/3")}
    assert "03_texture_shape" in NOTEBOOKS


def test_slow_images_are_image_sets_with_the_labels_of_their_sources(own_results, clothes, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plenoptic", None)
    model, pairs = build_model("cnn", "fashion_mnist"), choose_pairs(clothes.labels, clothes.sample_ids, 4, seed=0)
    slow = slow_images(clothes, pairs, model, folder=own_results.parent, seed=0, style_steps=1)
    assert list(slow) == ["stylised"]  # what a missing package would make is left out
    np.testing.assert_array_equal(slow["stylised"].sample_ids, pairs["shape_id"])
    np.testing.assert_array_equal(slow["stylised"].labels, pairs["shape_label"])
    np.testing.assert_array_equal(
        slow["stylised"].images, stylised(clothes, pairs, model, folder=own_results.parent, steps=1)
    )
    pictures, originals = example_pictures(clothes, pairs[:2], slow)
    np.testing.assert_array_equal(originals, to_arrays(pixels_of(clothes, pairs["shape_id"][:2].to_numpy())))
    np.testing.assert_allclose(255 * pictures["cue conflict"]["stylised"], slow["stylised"].images[:2], atol=1e-4)
    assert {len(row) for name, row in pictures.items() if name.startswith("occlusion")} == {5}
    assert all(made.shape == originals.shape for row in pictures.values() for made in row.values())


def test_what_is_published_of_the_same_images_is_not_made_again(tmp_path, clothes, monkeypatch, capsys):
    monkeypatch.setattr("src.paths.RESULTS", tmp_path / "results")
    model, pairs = build_model("cnn", "fashion_mnist"), choose_pairs(clothes.labels, clothes.sample_ids, 4, seed=0)
    images = {"run": "x", "dataset": "fashion_mnist", "data": {"checksum": "a"}}
    runs = {"results/shown": images, "results/other": images | {"data": {"checksum": "b"}}, "runs/mine": images}
    for name, facts in runs.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(json.dumps(facts))
    stylised(clothes, pairs[:3], model, folder=tmp_path / "results" / "shown", steps=1)
    made = []

    def counted(content, *_, **__):
        made.append(len(content))
        return 1 - content

    monkeypatch.setattr("src.texture_shape.precomputed.transfer_style", counted)
    stylised(clothes, pairs, model, folder=tmp_path / "results" / "other", steps=1)
    assert made == [4]  # of other images; so these, inverted, must not come up below
    capsys.readouterr()
    found = stylised(clothes, pairs, model, folder=tmp_path / "runs" / "mine", steps=1)
    assert made == [4, 1] and "stylised: 3 images are those of results/shown" in capsys.readouterr().out
    (published,), (own,) = ((tmp_path / at).glob("*/*.npz") for at in ("results/shown", "runs/mine"))
    kept = [
        dict(zip(map(tuple, file["sample_ids"].tolist()), file["images"], strict=True))
        for file in map(np.load, (published, own))
    ]
    assert len(kept[0]) == 3 and len(kept[1]) == 4  # a run holds all that its tables were made of
    for key, image in zip(pairs[["shape_id", "texture_id"]].to_numpy().tolist(), found, strict=True):
        if tuple(key) in kept[0]:
            np.testing.assert_array_equal(image[..., :1], kept[0][tuple(key)])
            np.testing.assert_array_equal(kept[1][tuple(key)], kept[0][tuple(key)])
    stylised(clothes, pairs, model, folder=tmp_path / "runs" / "mine", steps=2)
    assert made == [4, 1, 4]  # made another way


def test_a_stopped_run_keeps_what_it_has(own_results, clothes, monkeypatch):
    model, pairs = build_model("cnn", "fashion_mnist"), choose_pairs(clothes.labels, clothes.sample_ids, 6, seed=0)
    monkeypatch.setattr("src.texture_shape.precomputed._AT_ONCE", 2)
    calls = []

    def stops(content, style, network, **options):
        calls.append(len(content))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return content

    monkeypatch.setattr("src.texture_shape.precomputed.transfer_style", stops)
    with pytest.raises(KeyboardInterrupt):
        stylised(clothes, pairs, model, folder=own_results.parent)
    found = stylised(clothes, pairs, model, folder=own_results.parent)
    assert calls == [2, 2, 2, 2]
    np.testing.assert_array_equal(found, (255 * to_arrays(pixels_of(clothes, pairs["shape_id"].to_numpy()))).round())


def test_a_file_of_something_else_is_refused(own_results, clothes):
    model, pairs = build_model("cnn", "fashion_mnist"), choose_pairs(clothes.labels, clothes.sample_ids, 1, seed=0)
    stylised(clothes, pairs, model, folder=own_results.parent, steps=1)
    (file,) = own_results.iterdir()
    np.savez(file, sample_ids=np.zeros((2, 1)), images=np.zeros((2, 32, 32, 1), np.uint8))
    with pytest.raises(ValueError, match="is not a file of precomputed images; delete it"):
        stylised(clothes, pairs, model, folder=own_results.parent, steps=1)


@pytest.mark.parametrize("dataset", ["fashion_mnist", "cifar10", "cifar100"])
def test_the_committed_images_are_those_of_the_committed_tables(dataset):
    """With the numbers of the tables and the shipped weights nothing has to be made, and plenoptic is not needed."""
    folder = paths.RESULTS / dataset
    table = stored_conflicts(folder)
    stylised_rows = table[table["condition"] == "stylised"]
    steps = load_facts(folder, "03_texture_shape", "cue_conflict")["parameters"]["style_steps"]
    made: dict[str, set] = {}
    for path in (folder / "03_texture_shape").glob("stylised*.npz"):
        with np.load(path) as kept:
            facts = json.loads(str(kept["facts"]))
            if facts["steps"] == steps:  # other runs leave others
                made[json.dumps(facts["weights"])] = set(map(tuple, kept["sample_ids"].tolist()))
    for painter, rows in stylised_rows.groupby("painter"):
        name, elsewhere = parse_painter(painter)
        model = random_filters(32, 0) if painter == RANDOM_FILTERS else build_model(name, elsewhere or dataset)
        asked_for = set(map(tuple, rows[["shape_id", "texture_id"]].to_numpy().tolist()))
        assert asked_for <= made[json.dumps(model.source)]


def test_the_committed_images_are_what_the_code_makes():
    """They are not made again where they are there, so that they would outlive a change of the code."""
    images, folder = load_images("fashion_mnist", "test"), paths.RESULTS / "fashion_mnist" / "03_texture_shape"
    for painter in (random_filters(32, 0), build_model("cnn", "cifar100")):
        files = [np.load(path) for path in sorted(folder.glob("stylised*.npz"))]
        (file,) = [file for file in files if json.loads(str(file["facts"]))["weights"] == painter.source]
        keys, facts = file["sample_ids"][:3], json.loads(str(file["facts"]))
        content, style = (pixels_of(images, ids) for ids in keys.T)
        made = to_arrays(transfer_style(content, style, painter, steps=facts["steps"]))
        apart = abs(255 * made - file["images"][:3]).mean()
        other = abs(255 * to_arrays(content) - file["images"][:3]).mean()
        assert apart < 0.2 * other, (painter.name, apart, other)  # not equal: rounding grows along the steps


# optional packages


def test_without_the_optional_packages_an_error_says_what_to_install(monkeypatch, own_results, clothes):
    monkeypatch.setitem(__import__("sys").modules, "plenoptic", None)
    monkeypatch.setitem(__import__("sys").modules, "plenoptic.models", None)
    monkeypatch.setitem(__import__("sys").modules, "imagecorruptions", None)
    images = some_images(10)
    assert not textures.available() and not corruptions.available()
    with pytest.raises(
        ImportError, match="need the package plenoptic: make texture, or pip install -r requirements-tex"
    ):
        synthesise_texture(images.pixels, images.sample_ids, 0)
    with pytest.raises(ImportError, match="need the package imagecorruptions-imaug: make texture"):
        corrupt("fog", images.pixels, images.sample_ids, seed=0, level=1)
    with pytest.raises(ImportError, match="imagecorruptions-imaug"):
        predict_corrupted({("conv", 0): trained_conv()}, [images])
    assert texture_only(clothes, folder=own_results.parent) is None
    # what needs no package still works
    assert torch.equal(synthesise_texture(images.pixels, images.sample_ids, 0, level=0), images.pixels)
    assert torch.equal(corrupt("fog", images.pixels, images.sample_ids, seed=0, level=0), images.pixels)


def test_wrong_corruptions_and_textures_are_refused():
    pixels, _, ids = some_images(10)
    with pytest.raises(ValueError, match="unknown corruption 'rain'; choose from gaussian_noise, shot_noise"):
        corrupt("rain", pixels, ids, seed=0, level=1)
    for severity in (6, -1, 1.5):
        with pytest.raises(ValueError, match="severity of fog is 0, 1, 2, 3, 4 or 5"):
            corrupt("fog", pixels, ids, seed=0, level=severity)
    with pytest.raises(ValueError, match="at least 32 pixels a side, not 16"):
        corrupt("fog", pixels[..., :16, :16], ids, seed=0, level=1)
    with pytest.raises(ValueError, match="level of a texture is 0 or 1, not 0.5"):
        synthesise_texture(pixels, ids, 0, level=0.5)
    with pytest.raises(ValueError, match="from 0 to 1, not 3"):
        synthesise_texture(pixels, ids, 0, level=3)


@pytest.mark.skipif(not corruptions.available(), reason="imagecorruptions-imaug is not installed: make texture")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_are_the_packages_and_seeded_per_image(name):
    import imagecorruptions

    assert sorted(CORRUPTIONS) == sorted(imagecorruptions.get_corruption_names("all"))
    pixels, _, ids = some_images(10)
    state = np.random.get_state()[1].copy()
    found = corrupt(name, pixels, ids, seed=3, level=5)
    assert (np.random.get_state()[1] == state).all()
    assert found.shape == pixels.shape and 0 <= found.min() and found.max() <= 1
    backwards = corrupt(name, pixels.flip(0)[:4], ids.flip(0)[:4], seed=3, level=5)
    assert torch.equal(backwards.flip(0), found[-4:])
    assert torch.equal((255 * found).round() / 255, found)
    if name in ("contrast", "brightness", "pixelate", "jpeg_compression", "saturate", "defocus_blur", "gaussian_blur"):
        image = (255 * pixels[0]).round().byte().permute(1, 2, 0).numpy()
        theirs = imagecorruptions.corrupt(image, severity=5, corruption_name=name)
        np.testing.assert_array_equal((255 * to_arrays(found[:1])[0]).round(), theirs)
    elif name not in ("zoom_blur", "fog"):
        assert not torch.equal(corrupt(name, pixels, ids, seed=4, level=5), found)


@pytest.mark.skipif(not corruptions.available(), reason="imagecorruptions-imaug is not installed: make texture")
@pytest.mark.filterwarnings("error")
def test_where_no_drop_falls_spatter_leaves_the_image():
    pixels, _, ids = some_images(100)
    found = corrupt("spatter", pixels, ids, seed=0, level=1)
    unchanged = (found == pixels).flatten(1).all(1)
    assert 0 < unchanged.sum() < 20 and found.flatten(1).amax(1).min() > 0


@pytest.mark.skipif(not textures.available(), reason="plenoptic is not installed: make texture")
def test_textures_have_the_images_statistics_and_not_its_layout():
    from plenoptic.models import PortillaSimoncelli

    pixels, _, ids = some_images(10)
    made = synthesise_texture(pixels[:4], ids[:4], 0, steps=120)
    assert 0 <= made.min() and made.max() <= 1 and (made == made[:, :1]).all()
    model = PortillaSimoncelli((32, 32), n_scales=2, spatial_corr_width=7).double()

    def statistics(images):
        return model(images[:, :1].double())[:, 0].nan_to_num()

    noise = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * pixels[:4].std() + pixels[:4].mean()
    wanted = statistics(pixels[:4])
    errors = [((statistics(x) - wanted).square().sum(1) / wanted.square().sum(1)).sqrt() for x in (made, noise)]
    assert (errors[0] < 0.45 * errors[1]).all()
    layout = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(made[:, 0], pixels[:4, 0], strict=True)]
    assert np.abs(layout).max() < 0.5
    alone = synthesise_texture(pixels[2:3], ids[2:3], 0, steps=120)
    assert (alone - made[2:3]).abs().max() <= 1e-6
    coloured = pixels[:2] * torch.tensor([1, 0.5, 0.2]).view(3, 1, 1)
    painted = synthesise_texture(coloured, ids[:2], 0, steps=20)
    assert (painted[:, 0] >= painted[:, 2] - 1e-6).all()  # one colour stays one colour


def test_all_names_are_those_of_the_package():
    from src import texture_shape

    assert all(hasattr(texture_shape, name) for name in texture_shape.__all__)
    assert set(MANIPULATIONS) == set(UNITS) - set(TRANSFORMATIONS)
