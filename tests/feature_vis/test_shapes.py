"""Two to two hundred classes, grey and 96 pixels through pictures of classes and inversions."""

import numpy as np
import pytest
from shapes import SHAPES, images_of, zoo_of

from src import plotting, tables
from src.data.pixels import to_pixels
from src.feature_vis import image_statistics, record_classes, record_inversions
from src.feature_vis.record import judges_of


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tables_and_figures_are_whole(shape):
    images, zoo = images_of(shape), zoo_of(shape)
    k, natural = len(images.classes), image_statistics(to_pixels(images.images))
    classes, pictures = record_classes(zoo, images, natural, methods=["fourier", "from image"], n_seeds=2, steps=1)
    assert (classes["picture"] == np.arange(len(classes))).all() and len(pictures) == len(classes)
    assert (classes[classes["condition"] == "fourier"].groupby("model").size() == 2 * k).all()
    assert classes["p_transfer"].between(0, 1).all()  # each network is judged by the other
    plotting.feature_vis.classes(classes, pictures, class_names=images.classes).canvas.draw()
    plotting.feature_vis.from_image(classes, pictures, class_names=images.classes).canvas.draw()
    chosen = images.subset(2, seed=0)
    inversion, rebuilt = record_inversions(zoo, chosen, images, natural, n_stages=2, steps=1)
    originals = dict(zip(chosen.sample_ids, chosen.images, strict=True))
    plotting.feature_vis.ladder(inversion, rebuilt, originals).canvas.draw()
    curves = {name: tables.feature_vis.depth_curve(inversion, name) for name in ("distance", "ssim")}
    plotting.feature_vis.depth(curves, dataset="pictures").canvas.draw()


def test_real_images_are_counted_once_where_a_class_has_fewer_than_pictures():
    images, zoo = images_of("200 classes"), zoo_of("200 classes")
    natural = image_statistics(to_pixels(images.images))
    classes, pictures = record_classes(zoo, images, natural, methods=["from image"], n_seeds=2, steps=1)
    real = classes[(classes["condition"] == "real") & (classes["model"] == "own conv")]
    assert sorted(real["sample_id"]) == images.sample_ids.tolist()  # ten classes have two, the others one
    rows = images.sample_ids.searchsorted(real["sample_id"])
    assert (images.labels[rows] == real["target"]).all() and (pictures[real["picture"]] == images.images[rows]).all()


def test_a_class_without_an_image_is_named():
    images, zoo = images_of("3 classes, grey"), zoo_of("3 classes, grey")
    some = images.take(np.flatnonzero(images.labels != 1))
    with pytest.raises(ValueError, match="there is no image of class class 1; take more images"):
        record_classes(zoo, some, image_statistics(to_pixels(images.images)), methods=["pixels"], steps=1)


def test_an_image_alone_in_its_class_has_no_other_of_the_class_beside_it():
    images, zoo = images_of("200 classes"), zoo_of("200 classes")
    chosen = images.take(np.array([0, 100]))  # the classes 0, which has another, and 100
    natural = image_statistics(to_pixels(images.images))
    inversion, _ = record_inversions(zoo, chosen, images, natural, n_stages=1, steps=1)
    assert set(inversion.loc[inversion["condition"] == "same class", "sample_id"]) == {1000}
    alone, _ = record_inversions(zoo, chosen.take(np.array([1])), images, natural, n_stages=1, steps=1)
    assert set(alone["condition"]) == {"fourier", "noise"}


def test_labels_and_seeds_of_one_architecture_do_not_judge_each_other():
    zoo = zoo_of("2 classes")
    conv, patches = zoo.values()
    named = {}
    for label, family in (("a", "cnn"), ("b", "cnn"), ("c", "cnn"), ("d", "mine.py:build"), ("e", "vit")):
        named[label, 0] = model = type(conv)(conv.net, mean=(0.5,) * 3, std=(0.5,) * 3)
        model.family = family
    assert list(judges_of("a", named)) == list(judges_of("b", named)) == ["d", "e"]
    assert list(judges_of("d", named)) == ["a", "b", "c", "e"]
