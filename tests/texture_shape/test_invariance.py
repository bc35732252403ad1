"""Transformations against scipy and by hand; networks whose invariance is known by construction."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from scipy import ndimage
from statsmodels.stats.proportion import proportion_confint
from torch import nn

from src import plotting
from src.tables.texture_shape import TRANSFORMATIONS, predictions_kept
from src.texture_shape import transform
from src.texture_shape.invariance import IDENTITY, levels_of_transformations
from src.texture_shape.predictions import predict_manipulated, predict_transformed

SIDE = 32


def pictures(n: int = 24, *, side: int = SIDE, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)), torch.arange(n)


def by_scipy(image: np.ndarray, degrees: float, factor: float) -> np.ndarray:
    """One channel turned and scaled about its centre: bilinear, mirrored about the outermost pixels."""
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / factor
    centre = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, matrix, centre - matrix @ centre, order=1, mode="mirror")


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_nothing_is_done_at_the_identity_and_something_elsewhere(name):
    pixels, ids = pictures(4)
    assert torch.equal(transform(name, pixels, ids, level=IDENTITY[name]), pixels)
    for level in TRANSFORMATIONS[name]:
        changed = transform(name, pixels, ids, level=level)
        assert changed.shape == pixels.shape and 0 <= changed.min() and changed.max() <= 1
        assert (changed != pixels).flatten(1).any(1).all()


@pytest.mark.parametrize("distance", [1, 2, 4, 8, 20])
def test_a_shift_moves_whole_pixels_one_of_four_ways(distance):
    pixels, ids = pictures()
    moved = transform("shift", pixels, ids, level=distance).numpy()
    wide = np.pad(pixels.numpy(), ((0, 0), (0, 0), (distance,) * 2, (distance,) * 2), mode="reflect")
    ways = [(0, distance), (0, -distance), (distance, 0), (-distance, 0)]
    options = np.stack([np.roll(wide, way, (2, 3))[..., distance:-distance, distance:-distance] for way in ways])
    same = (options == moved).all((2, 3, 4))
    assert (same.sum(0) == 1).all()  # each image goes exactly one way
    assert same.any(1).all()  # and each way is gone


@pytest.mark.parametrize(
    "name, level", [("rotation", 10), ("rotation", 30), ("rotation", 90), ("scale", 0.7), ("scale", 1.4)]
)
def test_turns_and_sizes_are_those_of_scipy(name, level):
    pixels, ids = pictures(12, side=17)
    changed = transform(name, pixels, ids, level=level).numpy()
    signs = (1, -1) if name == "rotation" else (1,)
    used = set()
    for image, made in zip(pixels.numpy(), changed, strict=True):
        turns = [(sign * level, 1) if name == "rotation" else (0, level) for sign in signs]
        made_by_scipy = [np.stack([by_scipy(channel, *turn) for channel in image]) for turn in turns]
        fits = [np.allclose(made, other, atol=1e-4) for other in made_by_scipy]
        assert sum(fits) == 1
        used.add(fits.index(True))
    assert len(used) == len(signs)


def test_an_image_is_changed_alike_in_any_batch_and_the_same_way_at_all_levels():
    pixels, ids = pictures()
    for name in TRANSFORMATIONS:
        level = TRANSFORMATIONS[name][-1]
        whole = transform(name, pixels, ids, seed=3, level=level)
        apart = torch.cat([transform(name, pixels[i : i + 1], ids[i : i + 1], seed=3, level=level) for i in range(24)])
        assert torch.allclose(whole, apart, atol=1e-6)
    once, twice = (transform("shift", pixels, ids, seed=3, level=level) for level in (1, 2))
    again = transform("shift", once, ids, seed=3, level=1)
    assert torch.equal(again[..., 2:-2, 2:-2], twice[..., 2:-2, 2:-2])  # two steps of one lead to one of two


@pytest.mark.parametrize(
    "name, level, problem",
    [
        ("shear", 1, "choose from shift, rotation, scale, flip"),
        ("shift", 1.5, "in pixels, must be a whole number from 0 to 31, not 1.5"),
        ("shift", 32, "from 0 to 31, not 32"),
        ("rotation", 200, "in ± degrees, must be from 0 to 180, not 200"),
        ("scale", 0.1, "must be from 0.5 to 2, not 0.1"),
        ("flip", 2, "must be a whole number from 0 to 1"),
    ],
)
def test_levels_that_do_not_exist_are_refused(name, level, problem):
    with pytest.raises(ValueError, match=problem):
        transform(name, *pictures(1), level=level)


class Circular(nn.Module):
    """Convolution with circular borders, then the mean over the image: shifts of what has a free border change nothing.

    Each class less what it has of these images on average; all values are multiples of 1/4, so that sums are exact,
    in whatever order they are taken.
    """

    def __init__(self, pixels):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.filters = nn.Parameter(torch.randint(-2, 3, (10, 3, 3, 3), generator=generator).float())
        self.register_buffer("average", torch.zeros(10))
        self.average = self(pixels).detach().mean(0).round()

    def forward(self, pixels):
        wide = nn.functional.pad(pixels, (1, 1, 1, 1), mode="circular")
        return nn.functional.conv2d(wide, self.filters).relu().sum((2, 3)) - self.average


class Constant(nn.Module):
    def forward(self, pixels):
        return torch.eye(10)[[3]].expand(len(pixels), 10)


class Nearest(nn.Module):
    """The class of the nearest of ten images, pixel by pixel."""

    def __init__(self, known):
        super().__init__()
        self.register_buffer("known", known.flatten(1))

    def forward(self, pixels):
        return -torch.cdist(pixels.flatten(1), self.known)


def kept_by(model: nn.Module, pixels, ids, name: str) -> dict[float, float]:
    loader = [(pixels, ids % 10, ids)]
    options = dict(progress=False)
    clean = predict_manipulated({"m": model}, loader, conditions={}, **options)
    table = pd.concat([clean, predict_transformed({"m": model}, loader, **options)])
    kept = predictions_kept(table)
    return kept[kept["condition"] == name].set_index("level")["kept"].to_dict()


def test_invariance_of_networks_that_are_known():
    content = torch.randint(0, 5, (40, 3, 8, 8), generator=torch.Generator().manual_seed(1)) / 4
    pixels = nn.functional.pad(content, (12, 12, 12, 12), value=0)  # more room than the widest shift takes
    ids = torch.arange(40)
    everything = dict.fromkeys((1.0, 2.0, 4.0, 8.0), 1.0)
    assert kept_by(Circular(pixels), pixels, ids, "shift") == everything
    assert len(set(Circular(pixels)(pixels).argmax(1).tolist())) > 3  # and its answers differ
    assert kept_by(Constant(), pixels, ids, "shift") == everything
    nearest = kept_by(Nearest(pixels[:10]), pixels[:10], ids[:10], "shift")
    assert max(nearest.values()) < 0.5
    assert kept_by(Nearest(pixels[:10]), pixels[:10], ids[:10], "flip")[1] < 1


def rows(condition: str, level: float, predictions: list[int], **facts) -> pd.DataFrame:
    base = dict(model="cnn", model_seed=0, condition=condition, level=level, sample_id=range(len(predictions)), label=0)
    return pd.DataFrame(base | dict(prediction=predictions) | facts)


def test_kept_predictions_are_counted_with_wilsons_interval_and_chance():
    table = pd.concat([rows("clean", 0, [0, 0, 1, 2]), rows("shift", 1, [0, 1, 1, 1]), rows("edges", 1, [9, 9, 9, 9])])
    (row,) = predictions_kept(table).itertuples()
    assert (row.condition, row.level, row.n, row.same, row.kept) == ("shift", 1, 4, 2, 0.5)
    assert (row.low, row.high) == pytest.approx(proportion_confint(2, 4, method="wilson"))
    assert row.chance == pytest.approx(np.mean([a == b for a in (0, 0, 1, 2) for b in (0, 1, 1, 1)]))
    with pytest.raises(ValueError, match="4 transformed rows have no row of condition 'clean'"):
        predictions_kept(rows("shift", 1, [0, 0, 0, 0]))
    assert predictions_kept(rows("clean", 0, [0, 1])).empty


def test_small_images_have_fewer_shifts():
    assert levels_of_transformations(32) == TRANSFORMATIONS
    assert levels_of_transformations(8)["shift"] == (1, 2)


def test_the_figure_draws_what_is_kept_and_refuses_tables_without():
    table = pd.concat([rows("clean", 0, [0, 0, 1, 2]), rows("shift", 1, [0, 1, 1, 2]), rows("shift", 2, [0, 1, 1, 1])])
    table = table.assign(dataset="planted")
    figure = plotting.texture_shape.invariance(table)
    (ax,) = figure.axes
    assert ax.lines[0].get_ydata().tolist() == [75, 50] and ax.get_xlabel() == "pixels"
    plt.close(figure)
    with pytest.raises(ValueError, match="the table has none of shift, rotation, scale, flip"):
        plotting.texture_shape.invariance(table[table["condition"] == "clean"])
