"""What every notebook begins with: its parameters checked, its run opened, its models refused or built."""

import os

import pandas as pd
import pytest

from src import paths
from src.models.predict import predict
from src.results import NOTEBOOKS
from src.study import begin, check_parameters, default_parameters

DEFAULTS = {name: default_parameters(name) for name in NOTEBOOKS}


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)


@pytest.mark.parametrize("experiment", NOTEBOOKS)
def test_a_notebooks_own_parameters_are_right(experiment):
    assert len(DEFAULTS[experiment]) > 5 and check_parameters(DEFAULTS[experiment], DEFAULTS[experiment]) is None


@pytest.mark.parametrize(
    ("experiment", "name", "value", "says"),
    [
        (
            "05_calibration",
            "models",
            [],
            "models = [] must name at least one, each once; the notebook has models = ['ml",
        ),
        ("05_calibration", "models", "abc", "models = 'abc' is not of the right kind"),
        ("05_calibration", "models", None, "models = None is not of the right kind"),
        ("05_calibration", "models", ["mlp", "mlp"], "must name at least one, each once"),
        ("05_calibration", "models", ["mlp", 3], "is not of the right kind"),
        ("05_calibration", "model_seeds", [0, 0], "must name at least one, each once"),
        ("05_calibration", "model_seeds", [-1], "model_seeds = [-1] is out of range"),
        ("05_calibration", "n_test", -1, "n_test = -1 is out of range; the notebook has n_test = 0"),
        ("05_calibration", "n_test", 2.5, "n_test = 2.5 is not of the right kind"),
        ("05_calibration", "n_test", True, "is not of the right kind"),
        ("05_calibration", "n_test", "all", "is not of the right kind"),
        ("05_calibration", "n_bins", 0, "n_bins = 0 is out of range"),
        ("05_calibration", "n_resamples", 0, "n_resamples = 0 is out of range"),
        ("05_calibration", "batch_size", 0, "batch_size = 0 is out of range"),
        ("05_calibration", "seed", -1, "seed = -1 is out of range"),
        ("05_calibration", "seed", 2**70, "is out of range"),
        ("05_calibration", "shift_eps_max", float("nan"), "is out of range"),
        ("05_calibration", "shift_eps_max", float("inf"), "is out of range"),
        ("02_attacks", "worst_eps_255", [2, 2], "must name at least one, each once"),
        ("02_attacks", "worst_eps_255", [-2], "is out of range"),
        ("02_attacks", "apgd_steps", "ten", "apgd_steps = 'ten' is not of the right kind"),
        ("06_efficiency", "batch_sizes", [0], "batch_sizes = [0] is out of range"),
        ("04b_feature_vis", "methods", [], "must name at least one"),
        ("01_finetuning", "linear_lr", -0.1, "is out of range"),
        ("01_finetuning", "dataset", 3, "dataset = 3 is not of the right kind"),
    ],
)
def test_a_value_that_means_nothing_is_named_before_anything_is_computed(experiment, name, value, says):
    with pytest.raises(ValueError) as refusal:
        begin(experiment, DEFAULTS[experiment] | {name: value})
    assert says in str(refusal.value) and not list(paths.RUNS.iterdir())


@pytest.mark.parametrize(
    ("experiment", "name", "value", "refused"),
    [
        ("01_finetuning", "linear_lr", 1, "1"),
        ("06_efficiency", "others", [], 3),
        ("04b_feature_vis", "judges", [], [3]),
        ("02_attacks", "apgd_steps", 3, 3.5),
        ("02_attacks", "n_targets", None, "three"),
    ],
)
def test_a_value_of_a_kind_that_will_do_is_taken_and_its_like_is_not(experiment, name, value, refused):
    assert check_parameters({name: value}, DEFAULTS[experiment]) is None
    with pytest.raises(ValueError, match=f"^{name} = "):
        check_parameters({name: refused}, DEFAULTS[experiment])


def start(**changes):
    return begin("05_calibration", DEFAULTS["05_calibration"] | {"device": "cpu"} | changes)


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        (dict(run="../x"), ValueError, "run must be a flat name"),
        (dict(dataset="cifar11"), ValueError, "unknown data set 'cifar11'"),
        (dict(device="gpu"), ValueError, "device 'gpu' is not on this machine"),
        (dict(models=["a=mlp", "a=cnn"]), ValueError, "have the same name in files"),
        (dict(models=["=mlp"]), ValueError, "has a label that is no plain word"),
    ],
)
def test_a_name_that_is_none_ends_the_beginning(changes, kind, says):
    with pytest.raises(kind, match=says):
        start(**changes)


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


def test_the_same_images_come_by_either_loader():
    if not os.environ.get("REQUIRE_FFCV"):
        pytest.importorskip("ffcv", reason="FFCV is not installed: make ffcv")
    study, by_ffcv = start(), start(loader="ffcv")
    images, model = study.images("test", 60), study.model("mlp")
    tables = [predict(model, at.loader(images, 25), progress=False) for at in (study, by_ffcv)]
    pd.testing.assert_frame_equal(*tables)
