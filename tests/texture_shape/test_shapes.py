"""Two to two hundred classes, grey, 16 to 96 pixels through manipulations, cue conflicts and pictures kept on disk."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from shapes import SHAPES, images_of, zoo_of

from src import paths, plotting, tables
from src.data.loaders import make_loader
from src.tables.texture_shape import CUTOFFS, LEVELS
from src.texture_shape import (
    choose_pairs,
    corruptions,
    example_pictures,
    left_out,
    manipulate,
    predict_conflicts,
    predict_images,
    slow_images,
    textures,
)
from src.texture_shape.checks import cutoffs_for, levels_for
from src.texture_shape.precomputed import stylised, texture_only


@pytest.fixture(autouse=True)
def own_results(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)


@pytest.fixture
def few_corruptions(monkeypatch):
    """All 19 of one image would take seconds."""
    monkeypatch.setattr("src.texture_shape.predictions.CORRUPTIONS", ("brightness",))


def painter_of(shape: str):
    painter = zoo_of(shape)["own conv", 0]
    painter.trained = True
    return painter


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tables_and_figures_are_whole(shape, few_corruptions):
    images, zoo = images_of(shape).subset(12, seed=0), zoo_of(shape)
    pairs = choose_pairs(images.labels, images.sample_ids, 4, seed=0)
    slow_pairs = pairs.drop_duplicates("shape_id")
    slow = slow_images(
        images, slow_pairs, painter_of(shape), folder=paths.RESULTS, seed=0, style_steps=1, texture_steps=1
    )
    loader, side = make_loader(images, batch_size=8), images.images.shape[1]
    others = {name: make_loader(part, batch_size=8) for name, part in slow.items()}
    table = predict_images(zoo, loader, others, make_loader(images.subset(1, seed=0), batch_size=1))
    table = table.assign(dataset="pictures")
    shown = set(table["condition"])
    assert {"clean", "grayscale", "patch_shuffle", "stylised"} <= shown
    assert ("texture_only" in shown) == (not textures.missing(side))
    assert ("brightness" in shown) == (not corruptions.missing(side))
    assert ("occlusion_mean" in shown) == (side % 4 == 0)
    told = " ".join(left_out(side, slow))
    assert [name in told for name in ("texture alone", "corruptions", "occlusion_mean")] == [
        name not in shown for name in ("texture_only", "brightness", "occlusion_mean")
    ]
    painted = stylised(images, pairs, painter_of(shape), folder=paths.RESULTS, steps=1)
    conflicts = predict_conflicts(zoo, images, pairs, painted={"own conv": painted}, style_pairs=pairs).assign(
        dataset="pictures"
    )
    assert sorted(set(conflicts.loc[conflicts["condition"] == "hybrid", "level"])) == list(cutoffs_for(side))
    assert len(tables.texture_shape.shape_bias(conflicts, by=["condition", "level", "model"])) > 2
    plotting.texture_shape.painter_matrix(conflicts).canvas.draw()
    plotting.texture_shape.cue_conflicts(conflicts).canvas.draw()
    models = ["own conv", "own patches"]
    plotting.texture_shape.accuracies(table, images.classes, models=models).canvas.draw()
    plotting.texture_shape.accuracies_by_class(table, images.classes, models=models).canvas.draw()
    pictures, originals = example_pictures(images, slow_pairs[:2], slow)
    plotting.texture_shape.manipulation_sheet(pictures, originals, titles=["a", "b"]).canvas.draw()


def test_levels_are_those_that_manipulations_take():
    for side in (8, 16, 20, 24, 25, 26, 29, 32, 36, 64, 96):
        levels, pixels, ids = levels_for(side), torch.rand(1, 3, side, side), torch.tensor([0])
        for name, all_levels in LEVELS.items():
            for level in all_levels:
                if level in levels.get(name, ()):
                    assert manipulate(name, pixels, ids, level=level).shape == pixels.shape
                else:
                    with pytest.raises(ValueError, match="does not divide"):
                        manipulate(name, pixels, ids, level=level)
    assert levels_for(32) == levels_for(64) == LEVELS and cutoffs_for(32) == CUTOFFS
    assert cutoffs_for(16) == tuple(cutoff for cutoff in CUTOFFS if cutoff <= 8)


def test_what_is_left_out_is_told_with_the_reason():
    assert [note for note in left_out(32, ["texture_only"]) if "corruptions" not in note] == []
    notes = left_out(26, [])
    assert "occlusion_black 0.1, 0.25, 0.5, 0.75, 0.9 (not of images of 26 pixels)" in notes
    assert "patch_shuffle 16, 8, 4 (not of images of 26 pixels)" in notes
    assert "hybrid 12 (not of images of 22 pixels)" in left_out(22, [])


@pytest.mark.skipif(not textures.available(), reason="plenoptic is not installed: make texture")
@pytest.mark.parametrize("side", [24, 28, 33, 34])
def test_textures_of_unfit_sides_are_refused_and_left_out(side):
    assert textures.missing(side) == f"they need a side of at least 32 pixels that 4 divides, not {side}"
    with pytest.raises(ValueError, match=f"a side of at least 32 pixels that 4 divides, not {side}"):
        textures.synthesise_texture(torch.rand(1, 3, side, side), torch.tensor([0]), 0, steps=1)
    images = replace(images_of("96 pixels"), images=np.zeros((15, side, side, 3), np.uint8))
    assert texture_only(images, folder=paths.RESULTS) is None


def test_pictures_are_kept_for_the_images_of_a_run(monkeypatch):
    images, painter = images_of("2 classes"), painter_of("2 classes")
    pairs = choose_pairs(images.labels, images.sample_ids, 3, seed=0)
    made = stylised(images, pairs, painter, folder=paths.RESULTS, steps=1)
    other = replace(images, images=255 - images.images)
    assert not np.array_equal(stylised(other, pairs, painter, folder=paths.RESULTS / "other", steps=1), made)
    larger = replace(images, images=images.images.repeat(2, axis=1).repeat(2, axis=2))
    assert stylised(larger, pairs, painter, folder=paths.RESULTS / "larger", steps=1).shape == (3, 48, 48, 3)
    monkeypatch.setattr("src.texture_shape.precomputed.transfer_style", lambda *_, **__: pytest.fail("made again"))
    assert np.array_equal(stylised(images, pairs, painter, folder=paths.RESULTS, steps=1), made)


def test_pairs_end_where_two_classes_have_no_more():
    labels, ids = np.array([0, 0, 0, 0, 1, 1, 2]), np.arange(7)
    pairs = choose_pairs(labels, ids, 1000, seed=0)
    counts = pairs.groupby(["shape_label", "texture_label"]).size()
    assert len(counts) == 6 and counts.max() - counts.min() <= 1
    pd.testing.assert_frame_equal(pairs[:5], choose_pairs(labels, ids, 5, seed=0))
