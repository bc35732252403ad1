"""What fine-tuning leaves: a head that names its backbone, or a whole network; neither replaces the other."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from src.data import ImageSet
from src.data.loaders import make_loader
from src.files import sha256
from src.models import build_model
from src.models.predict import predict
from src.models.published import backbone_fingerprint
from src.models.weights import read_card, read_weights, save_weights
from src.tables.statistics import hits
from src.training import Recipe, fine_tune
from src.training.saving import save_trained

RECIPE = Recipe(epochs=2, batch_size=50, lr=0.01, crop_scale=1.0, dtype="auto")


def of_classes(clothes: ImageSet, k: int) -> ImageSet:
    """The clothes in k classes, at least one image a class."""
    labels = np.arange(len(clothes)) % k
    return replace(clothes, name="own", labels=labels, classes=tuple(map(str, range(k))))


def finished(network, images: ImageSet, mode: str, folder, name: str, label: str):
    history = fine_tune(network, images, RECIPE, mode=mode, progress=False)
    table = predict(network, make_loader(images, batch_size=100))
    about = dict(mode=mode, folder=folder, label=label, data="some clothes")
    return table, save_trained(network, name, "own", RECIPE, history, table, **about)


@pytest.fixture
def backbone(tmp_path):
    """A vit for ten classes in a file of its own, built from there."""
    torch.manual_seed(0)
    untrained = build_model("vit", "fashion_mnist", weights=None, size="small")
    path = tmp_path / "vit_fashion_mnist.safetensors"
    save_weights(untrained.net, path, {"size": "small", "mean": [0.2] * 3, "std": [0.3] * 3})
    return build_model("vit", "fashion_mnist", weights=path)


@pytest.mark.parametrize("k", [2, 200])
def test_a_head_is_put_on_its_backbone_again(few_clothes, clothes, backbone, tmp_path, k):
    images, source = of_classes(few_clothes if k == 2 else clothes, k), dict(backbone.source)
    table, file = finished(backbone, images, "linear", tmp_path, "vit", "linear")
    card = read_card(file)
    assert file == tmp_path / "vit_own_linear.safetensors" and card["sha256"] == sha256(file)
    assert (card["backbone"], card["mode"], card["dataset"], card["size"]) == (source, "linear", "own", "small")
    assert card["recipe"]["dtype"] in ("float32", "bfloat16") and card["test"]["accuracy"] == hits(table).mean()
    assert {key: tuple(value.shape) for key, value in read_weights(file).items()} == {
        "head.weight": (k, 128),
        "head.bias": (k,),
    }
    again = predict(build_model("vit", images, weights=file), make_loader(images, batch_size=100))
    assert (again["prediction"] == table["prediction"]).mean() > 0.98


def test_a_second_head_names_the_backbone_of_the_first(few_clothes, backbone, tmp_path):
    source = dict(backbone.source)
    _, first = finished(backbone, few_clothes, "linear", tmp_path, "vit", "first")
    network = build_model("vit", replace(few_clothes, name="own"), weights=first)
    assert len(network.source) == 2
    _, second = finished(network, few_clothes, "linear", tmp_path, "vit", "second")
    assert read_card(second)["backbone"] == source


def test_weights_are_refused_for_other_classes_of_as_many(few_clothes, backbone, tmp_path):
    images = replace(few_clothes, name="own")
    _, file = finished(backbone, images, "full", tmp_path, "vit", "full")
    assert read_card(file)["classes"] == list(images.classes)
    build_model("vit", images, weights=file)
    build_model("vit", replace(images, classes=tuple("0123456789")), weights=file)  # a file that names no classes
    with pytest.raises(ValueError, match=r"vit_own_full.safetensors was trained for other classes: number 0 was"):
        build_model("vit", replace(images, classes=(*images.classes[1:], "hat")), weights=file)


@pytest.mark.parametrize("k", [2, 200])
def test_all_weights_are_a_network_of_their_own(few_clothes, clothes, backbone, tmp_path, k):
    images, source = of_classes(few_clothes if k == 2 else clothes, k), dict(backbone.source)
    table, file = finished(backbone, images, "full", tmp_path / "run", "vit", "full")
    card = read_card(file)
    assert "backbone" not in card and card["start"] == source and card["model"] == "vit"
    again = predict(build_model("vit", images, weights=file), make_loader(images, batch_size=100))
    assert (again["prediction"] == table["prediction"]).mean() > 0.98


def test_a_head_for_timm_names_the_pretraining_by_its_checksum(few_clothes, tmp_path):
    """As the loader checks it: the backbone is the same after the classifier was trained, and holds no classifier."""
    network = build_model("timm:test_resnet", few_clothes, weights=None)
    with pytest.raises(ValueError, match="timm:test_resnet is a head on weights without a source"):
        finished(copy.deepcopy(network), few_clothes, "linear", tmp_path, "timm:test_resnet", "linear")
    network.source = {"timm:test_resnet": backbone_fingerprint(network.net)}
    _, file = finished(network, of_classes(few_clothes, 3), "linear", tmp_path, "r=timm:test_resnet", "linear")
    card = read_card(file)
    assert file.name == "r_own_linear.safetensors" and set(read_weights(file)) == {"fc.weight", "fc.bias"}
    assert card["backbone"] == {"timm:test_resnet": backbone_fingerprint(network.net)}
    assert (card["model"], card["full_name"]) == ("timm:test_resnet", "timm:test_resnet")


@pytest.mark.parametrize("first, then", [("linear", "full"), ("full", "linear")])
def test_neither_replaces_the_other(few_clothes, backbone, tmp_path, first, then):
    _, file = finished(copy.deepcopy(backbone), few_clothes, first, tmp_path, "vit", "mine")
    before = file.read_bytes()
    with pytest.raises(ValueError, match="vit_own_mine.safetensors holds a .*, which a .* does not replace; take ano"):
        finished(backbone, few_clothes, then, tmp_path, "vit", "mine")
    assert file.read_bytes() == before
    assert (
        finished(
            build_model("vit", "fashion_mnist", weights=tmp_path / "vit_fashion_mnist.safetensors"),
            few_clothes,
            first,
            tmp_path,
            "vit",
            "mine",
        )[1]
        == file
    )
