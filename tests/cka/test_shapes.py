"""Two to two hundred classes, grey and 96 pixels through CKA; a rest of fewer than four images."""

import numpy as np
import pytest
from shapes import SHAPES, images_of, zoo_of

from src import plotting, tables
from src.cka import hsic_table, measure_table
from src.data.loaders import make_loader


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tables_and_figures_are_whole(shape):
    images, zoo = images_of(shape).subset(15, seed=0), zoo_of(shape)
    parts = hsic_table(zoo, make_loader(images, batch_size=5), n_permutations=2)
    hsic, null = (part.assign(dataset="pictures") for part in parts)
    assert sorted(set(hsic["batch"])) == [0, 1, 2] and len(null) > 0
    table = tables.cka.cka_table(hsic, n_resamples=5)
    own = table[(table["model_a"] == table["model_b"]) & (table["layer_a"] == table["layer_b"])]
    own = own[own["kind_a"] == "trained"]
    np.testing.assert_allclose(own["cka"], 1)
    measures = measure_table(zoo, make_loader(images, batch_size=11)).assign(dataset="pictures")
    assert set(measures["batch"]) == {0}  # the four that are left are too few
    with pytest.raises(ValueError, match="measures need more than 10 images at a time, not 5"):
        measure_table(zoo, make_loader(images, batch_size=5))
    for figure in (
        plotting.cka.layer_grid(table, ["own conv", "own patches"]),
        plotting.cka.along_depth(table),
        plotting.cka.by_measure(measures),
    ):
        figure.canvas.draw()


def test_what_is_left_in_fewer_than_four_images_is_passed_over():
    images, zoo = images_of("2 classes"), zoo_of("2 classes")
    whole, _ = hsic_table(zoo, make_loader(images.take(np.arange(16)), batch_size=8))
    ragged, _ = hsic_table(zoo, make_loader(images.take(np.arange(19)), batch_size=8))
    assert whole.equals(ragged)
    with pytest.raises(ValueError, match="CKA needs at least 4 examples at a time, not 3"):
        hsic_table(zoo, make_loader(images.take(np.arange(3)), batch_size=8))
