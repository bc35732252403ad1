"""What every notebook begins with: its parameters checked, its run opened, its models refused or built."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn

from src import paths
from src.data.beton import write_beton
from src.models import build_model
from src.models.predict import predict
from src.models.weights import save_weights
from src.parameters import default_parameters
from src.study import begin

DEFAULTS = default_parameters("05_model_calibration.ipynb")


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)


def test_a_value_that_means_nothing_is_named_before_anything_is_computed():
    for value in (-1, "all"):
        with pytest.raises(ValueError, match=f"^n_test = {value!r} must be "):
            start(n_test=value)
    assert not list(paths.RUNS.iterdir())


def start(**changes):
    return begin("05_calibration", DEFAULTS | {"device": "cpu"} | changes)


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        (dict(run="../x"), ValueError, "run must be a flat name"),
        (dict(dataset="cifar11"), ValueError, "unknown data set 'cifar11'"),
        (dict(device="cuda:99"), ValueError, "device 'cuda:99' is not on this machine"),
        (dict(models=["a=mlp", "a=cnn"]), ValueError, "have the same name in files"),
        (dict(models=["=mlp"]), ValueError, "has a label that is no plain word"),
    ],
)
def test_a_name_that_is_none_ends_the_beginning(changes, kind, says):
    with pytest.raises(kind, match=says):
        start(**changes)


@pytest.mark.parametrize("fast", ["float32", "bfloat16"])
def test_auto_is_recorded_as_the_format_computed_in(monkeypatch, fast):
    monkeypatch.setattr("src.study.fast_dtype", lambda device: fast)
    attacks = default_parameters("02_adversarial_robustness.ipynb") | {"device": "cpu", "dtype": "auto"}
    assert begin("02_attacks", attacks).parameters["dtype"] == fast


def test_a_run_by_hand_says_so_and_knows_its_images(capsys):
    study = start()
    assert study.folder == paths.RUNS / "by_hand_fashion_mnist" and "by_hand_fashion_mnist" in capsys.readouterr().out
    assert study.images("test") is study.splits["test"]
    assert len(study.images("test", 30)) == 30 and len(study.images("test", 10**6)) == 10_000
    assert "asked for 1,000,000 images, there are 10,000: all are taken" in capsys.readouterr().out
    assert study.data["checksum"] == study.splits["test"].checksum() and study.data["classes"] == 10


@pytest.mark.parametrize("name", ["mlp@untrained", "timm:test_vit@untrained"])
def test_what_is_untrained_is_measured_when_it_is_asked_for_as_such(name):
    assert not start().model(name).trained


def test_the_untrained_network_beside_a_narrow_one_is_as_narrow():
    study = start(models=["cnn@narrow", "mlp"])
    narrow = build_model("cnn", "fashion_mnist", weights=None, size="width=4")
    path = study.folder / "weights" / "cnn_fashion_mnist_narrow.safetensors"
    path.parent.mkdir()
    card = {"model": "cnn", "dataset": "fashion_mnist", "size": narrow.size}
    save_weights(narrow.net, path, card)
    assert study.model("cnn@narrow").size == study.model("cnn@narrow", weights=None).size == "width=4"
    assert study.model("mlp", weights=None).size == study.model("mlp").size == "small"
    assert study.model("cnn@narrow", weights=None, size="base").size == "base"
    assert not study.model("cnn@narrow", weights=None).trained


def test_what_is_untrained_is_refused_where_nobody_asked_for_it(monkeypatch):
    build = __import__("src.study").study.build_model

    def pretrained(name, dataset, **options):  # as timm's networks come from the hub: under a new classifier
        return build(f"{name.reference}@untrained", dataset)

    monkeypatch.setattr("src.study.build_model", pretrained)
    with pytest.raises(ValueError, match="the classifier of timm:test_vit is untrained; fine-tune it .*@untrained"):
        start().model("timm:test_vit")


def test_a_training_seed_that_weights_do_not_have_is_refused():
    study = start(models=["cnn@seed1"])
    assert list(study.zoo([0])) == [("cnn@seed1", 0)]
    with pytest.raises(ValueError, match="has the one training seed that its weights name"):
        study.zoo([0, 1])
    with pytest.raises(ValueError, match="at least one training seed, each once"):
        study.zoo([])


def test_models_may_have_other_training_seeds_than_others():
    study = start(models=["mlp", "cnn@seed1", "cnn"], model_seeds={"mlp": [0, 2], "cnn": [0, 1]})
    zoo = study.zoo({"mlp": [0, 2], "cnn": [0, 1]})
    assert list(zoo) == [("mlp", 0), ("mlp", 2), ("cnn@seed1", 0), ("cnn", 0), ("cnn", 1)]
    assert zoo["cnn@seed1", 0].path == zoo["cnn", 1].path != zoo["cnn", 0].path
    with pytest.raises(ValueError, match="at least one training seed, each once"):
        study.zoo({"mlp": []})


def test_splits_of_other_classes_are_refused(tmp_path):
    """Betons without names, whose classes are their labels: the training images lack the last."""
    folder, pixels = tmp_path / "betons", np.zeros((6, 8, 8, 3), dtype=np.uint8)
    folder.mkdir()
    for split, labels in (("train", [0, 1] * 3), ("test", [0, 1, 2] * 2)):
        write_beton(folder / f"{split}.beton", pixels, np.array(labels))
    study = start(dataset=f"toy=beton:{folder}", models=["mlp@untrained"])
    with pytest.raises(ValueError, match=r"toy: train and test have different classes, \['0', '1'\] and \['0', '1', "):
        study.images("train")
    write_beton(folder / "train.beton", pixels, np.array([0, 1, 2] * 2))
    assert study.images("train").classes == study.classes


def test_the_same_images_come_by_either_loader():
    if not os.environ.get("REQUIRE_FFCV"):
        pytest.importorskip("ffcv", reason="FFCV is not installed: make ffcv")
    study, by_ffcv = start(), start(loader="ffcv")
    images, model = study.images("test", 60), study.model("mlp")
    tables = [predict(model, at.loader(images, 25), progress=False) for at in (study, by_ffcv)]
    pd.testing.assert_frame_equal(*tables)


class Says(nn.Module):
    """The class k of ten, with a probability of one half."""

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def forward(self, pixels):
        logits = torch.zeros(len(pixels), 10)
        logits[:, self.k] = torch.tensor(9.0).log()
        return logits


def test_ten_images_are_shown_with_what_the_first_seed_of_each_network_says(tmp_path):
    study = start()
    zoo = {("mlp", 2): Says(0), ("mlp", 0): Says(1), ("mine", 2): Says(3), ("mine", 0): Says(1)}
    study.show_examples(zoo)
    titles = [ax.get_title().splitlines() for ax in plt.figure(plt.get_fignums()[-1]).axes]
    assert sorted(title[0] for title in titles) == sorted(study.classes)  # one image of each class
    said = [f"MLP: {study.classes[0]} 50%", f"mine: {study.classes[3]} 50%"]
    assert [title[1:] for title in titles] == 10 * [said]
    written = study.folder / "figures" / "05_calibration_examples.png"
    assert written.exists()
    written.unlink()
    start(shard="1/2").show_examples(zoo)
    assert not written.exists()
