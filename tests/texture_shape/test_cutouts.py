"""Cut-outs against skimage-like counting and by hand; the rules of one cue on them."""

import numpy as np
import pandas as pd
import pytest
import torch

from src.tables.texture_shape import RULES, cue_shares, validated
from src.texture_shape import cue_conflict
from src.texture_shape.calibration_images import NONE, calibrate, draw, follow_shape, follow_texture
from src.texture_shape.cutouts import cutout, quilt, silhouette

IDS = torch.arange(20)
CLASSES, NEXT = IDS % 5, (IDS + 2) % 5


def drawn(shapes, textures, *, side: int = 32):
    return draw(shapes, textures, IDS, seed=0, side=side)


@pytest.mark.parametrize("side", [24, 32, 40])
def test_the_silhouette_of_a_figure_is_all_of_it(side):
    pixels = drawn(CLASSES, NEXT, side=side)
    assert torch.equal(silhouette(pixels), (pixels - 0.5).abs().amax(1) > 0.1)
    assert silhouette(torch.full((1, 3, side, side), 0.3)).all()


def test_the_threshold_is_otsus_by_trying_all():
    distances = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)).square()
    distances[:, [0, -1]] = distances[:, :, [0, -1]] = 0  # the ground
    distances[:, 8, 8] = 1
    found = silhouette(distances[:, None] * torch.tensor([1.0, 0, 0])[:, None, None])
    for values, inside in zip((distances * 255).round().flatten(1).numpy(), found.flatten(1).numpy(), strict=True):
        spread = [
            np.mean(values <= t) * np.mean(values > t) * (values[values <= t].mean() - values[values > t].mean()) ** 2
            for t in range(255)
            if (values <= t).any() and (values > t).any()
        ]
        assert np.array_equal(inside, values > int(np.argmax(spread)))


def test_a_quilt_goes_on_as_the_texture_did():
    """Of a figure's inside it makes the pattern that a texture from border to border has, at some phase."""
    everywhere = drawn(torch.full_like(CLASSES, NONE), NEXT)
    figures = drawn(CLASSES, NEXT)
    made = quilt(figures, silhouette(figures))
    shifts = torch.stack([everywhere.roll((y, x), (2, 3)) for y in range(4) for x in range(4)])
    assert (shifts == made).all((2, 3, 4)).any(0).all()


def test_both_cues_are_there_and_nothing_else():
    shape, texture = drawn(CLASSES, CLASSES), drawn(NEXT, NEXT)
    made = cutout(shape, texture)
    assert torch.equal(silhouette(made), silhouette(shape)) and torch.equal(
        made, cue_conflict(shape, texture, kind="cutout")
    )
    assert (made[~silhouette(shape)[:, None].expand_as(made)] == 0.5).all()
    alone = torch.cat([cutout(*pair) for pair in zip(shape.split(1), texture.split(1), strict=True)])
    assert torch.equal(made, alone)
    relit = shape.clone()
    relit[silhouette(shape)[:, None].expand_as(shape)] = 0.8  # the shape image's own texture does not come through
    assert torch.equal(cutout(relit, texture), made)


def test_cut_outs_are_validated_and_phases_and_hybrids_are_not():
    rules = {"shape rule": follow_shape, "texture rule": follow_texture}
    assert set(rules) == set(RULES)
    verdicts = validated(calibrate(rules, n=200)).set_index("condition")
    assert verdicts.loc[["figures", "cutout"], "valid"].all()
    assert not verdicts.loc[["phase", "hybrid"], "valid"].any()


def test_a_pixel_nearest_rule_is_no_shape_rule():
    """It knows the shape images themselves, and must not pass for one that follows their outlines."""
    shape, texture = drawn(CLASSES, CLASSES), drawn(NEXT, NEXT)
    known = torch.cat([shape, texture]).flatten(1)
    labels = torch.cat([CLASSES, NEXT])
    answers = labels[torch.cdist(cutout(shape, texture).flatten(1), known).argmin(1)]
    pairs = dict(condition="cutout", level=1.0, shape_label=CLASSES.numpy(), texture_label=NEXT.numpy())
    table = pd.DataFrame(pairs | dict(prediction=answers.numpy(), model="shape rule"))
    assert cue_shares(table)["shape"].item() < 0.95
    other = table.assign(model="texture rule", prediction=NEXT.numpy())
    assert not validated(pd.concat([table, other]))["valid"].item()


def test_shares_add_up_and_a_rule_that_says_neither_is_not_valid():
    pairs = pd.DataFrame(dict(shape_label=0, texture_label=1, prediction=[0] * 5 + [1] * 3 + [2] * 2, model="cnn"))
    (row,) = cue_shares(pairs).itertuples()
    assert (row.n, row.shape, row.texture, row.neither) == (10, 0.5, 0.3, 0.2)
    assert row.shape_low < 0.5 < row.shape_high
    tables = [pairs.assign(model="shape rule", prediction=0), pairs.assign(model="texture rule", prediction=2)]
    assert not validated(pd.concat(tables).assign(condition="cutout", level=1.0))["valid"].item()
