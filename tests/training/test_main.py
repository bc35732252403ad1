"""Training by name: what `make train` writes, in small, and what it says to names that mean nothing."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from src import names
from src.data import load_images
from src.data.beton import write_beton
from src.data.loaders import make_loader
from src.models import build_model, weights
from src.models.build import COMPACT, MODELS, SIZES, family_of
from src.models.predict import predict
from src.names import parse_model
from src.paths import ROOT
from src.tables.statistics import hits
from src.training import __main__ as command
from src.training import saving
from src.training.inputs import Sets, choose_recipe, load_sets, parse_changes, starts_trained, weights_file
from src.training.recipe import RECIPES, UNTUNED


@pytest.fixture(scope="module")
def sets():
    """250 embedded images to train on, 50 held out, 300 to test."""
    both = {split: load_images("fashion_mnist", split).subset(300, seed=0) for split in ("train", "test")}
    return Sets("fashion_mnist", "fashion_mnist", *both["train"].split_off(50, seed=0), both["test"])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 60 pictures of two classes and several sizes to train on, and 20 to test."""
    folder, rng = tmp_path_factory.mktemp("own") / "my pictures", np.random.default_rng(0)
    for split, n in (("train", 60), ("test", 20)):
        for i in range(n):
            place = folder / split / ("dark", "light")[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 100, (30 + i % 7, 40, 3)) + 150 * (i % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Weights and checkpoints go into a folder of the test."""
    for module in (weights, command):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setitem(saving.train_and_save.__kwdefaults__, "checkpoint_folder", tmp_path / "checkpoints")
    return tmp_path


def trained(name: str, sets: Sets, path, **changes) -> dict:
    model = parse_model(name)
    recipe = replace(RECIPES[family_of(name), "fashion_mnist", "small"], epochs=1, lr=0.01, **changes)
    network = saving.start_of(model, sets, recipe, size="small")
    return saving.train_and_save(network, model, sets, recipe, path, half=True, control="none")


# --- recipes and names


def test_every_recipe_is_for_a_network_that_can_be_built():
    for name, dataset, size in RECIPES:
        assert name in COMPACT and size in SIZES[family_of(name)]
        assert build_model(name, dataset, weights=None, size=size).size == size


def test_the_names_checked_without_torch_are_those_that_can_be_built():
    assert set(names.COMPACT) == set(COMPACT) and set(names.NAMED) == set(MODELS)


@pytest.mark.parametrize(
    "name, dataset, size, expected",
    [
        ("cnn", "cifar10", None, (RECIPES["cnn", "cifar10", "base"], "the recipe of cnn cifar10 base")),
        (
            "mine=cnn@untrained",
            "c=cifar10",
            None,
            (RECIPES["cnn", "cifar10", "base"], "the recipe of cnn cifar10 base"),
        ),
        ("vit", "cifar100", "small", (RECIPES["vit", "cifar100", "small"], "the recipe of vit cifar100 small")),
        ("cnn", "cifar10", "small", (UNTUNED, "a default recipe, not tuned for cnn on cifar10")),
        ("cnn", "p=folder:x", None, (UNTUNED, "a default recipe, not tuned for cnn on p=folder:x")),
        ("a.py:b", "cifar10", None, (UNTUNED, "a default recipe, not tuned for a.py:b on cifar10")),
        ("timm:x@untrained", "cifar10", None, (UNTUNED, "a default recipe, not tuned for timm:x@untrained on cifar10")),
    ],
)
def test_a_recipe_is_the_tuned_one_or_says_that_it_is_not(name, dataset, size, expected):
    assert choose_recipe(parse_model(name), dataset, size, {}) == expected


def test_what_is_trained_already_is_tuned_in_smaller_steps():
    for name in ("timm:x", "cnn@seed1", "a.py:b@w.pt", "resnet18"):
        assert starts_trained(parse_model(name))
        recipe, about = choose_recipe(parse_model(name), "cifar10", None, {"epochs": 7})
        assert recipe.lr < UNTUNED.lr and recipe.epochs == 7
        assert about == f"a default recipe, not tuned for {name} on cifar10, changed by --set"
    robust, _ = choose_recipe(parse_model("cnn_robust"), "cifar100", None, {})
    assert (robust.eps_255, robust.label_smoothing) == (8.0, 0.0)


def test_changes_have_the_types_of_their_fields():
    found = parse_changes(["epochs=5", "lr=1e-3", "optimiser=sgd", "epochs=6", "mixup=1"])
    assert found == {"epochs": 6, "lr": 0.001, "optimiser": "sgd", "mixup": 1.0} and type(found["mixup"]) is float


@pytest.mark.parametrize(
    "name, label, file",
    [
        ("cnn", "default", "cnn_pictures.safetensors"),
        ("timm:resnet10t@untrained", "quick", "timm-resnet10t_pictures_quick.safetensors"),
        ("a=timm:resnet10t@untrained", "default", "a_pictures.safetensors"),
        ("cnn@default", "default", "cnn_pictures.safetensors"),
    ],
)
def test_files_are_named_by_model_data_set_and_label(tmp_path, name, label, file):
    assert weights_file(tmp_path, parse_model(name), "pictures", label) == tmp_path / file


def test_a_training_and_a_test_file_of_other_classes_are_refused(clothes, tmp_path):
    for split, classes in (("train", clothes.classes), ("test", clothes.classes[::-1])):
        write_beton(tmp_path / f"{split}.beton", clothes.images[:40], clothes.labels[:40], classes=classes)
    with pytest.raises(ValueError, match="train has the classes T-shirt.* and test has Ankle boot.*give both the same"):
        load_sets(f"p=beton:{tmp_path}")


def test_a_tenth_of_few_images_is_held_out(pictures):
    some = load_sets(f"p=folder:{pictures}@32")
    assert (len(some.train), len(some.held_out), len(some.test)) == (54, 6, 20)
    assert (some.dataset, some.train.name, some.source) == ("p", "p", f"folder:{pictures}@32")
    assert len(load_sets(f"p=folder:{pictures}@32", 10).held_out) == 10


# --- what is written


@pytest.mark.parametrize("name", ["mlp", "cnn_robust"])
def test_what_is_trained_is_found_again_with_its_card(here, sets, name):
    family = family_of(name)
    file = here / f"{family}_models" / f"{name}_fashion_mnist_trial.safetensors"
    card = trained(name, sets, file, eps_255=8.0 if name == "cnn_robust" else 0.0, seed=3, dtype="auto")
    assert file.exists() and weights.read_card(file) == card
    assert card["recipe"]["seed"] == 3 and "250 training images; 50 more held out" in card["data"]
    assert (card["model"], card["full_name"], card["dataset"], card["size"]) == (name, name, "fashion_mnist", "small")
    assert card["recipe"]["dtype"] in ("float32", "bfloat16")
    assert (card["control"], card["test_uses"], card["start"], card["cores"]) == ("none", 1, {}, 1)
    assert card["images_per_s"] == pytest.approx(250 / card["history"]["seconds"][0], rel=0.01, abs=0.1)

    model = build_model(name, "fashion_mnist", weights="trial")
    table = predict(model, make_loader(sets.test, batch_size=100))
    assert abs(hits(table).mean() - card["test"]["accuracy"]) < 0.01  # stored as float16, measured as stored
    if name == "cnn_robust":
        robust = card["robust"]
        assert robust["attack"] == "PGD-20, Linf, 8/255" and robust["n"] == 300
        assert robust["interval"][0] <= robust["accuracy"] <= card["test"]["accuracy"]
    else:
        assert "robust" not in card


def test_the_card_of_a_finished_run_is_made_again_without_training_and_counts_its_tests(here, sets):
    cards = [trained("mlp", sets, here / "mlp.safetensors") for _ in range(2)]
    assert cards[0]["sha256"] == cards[1]["sha256"]
    assert cards[0]["history"] == cards[1]["history"]
    assert [card["test_uses"] for card in cards] == [1, 2]


def test_a_network_is_trained_on_a_folder_of_pictures_from_where_it_stands(here, pictures, capsys):
    """The compact one from random weights, then again from what that left."""
    changes = ["--set", "epochs=8", "--set", "batch_size=8", "--set", "dtype=float32"]
    arguments = [f"pictures=folder:{pictures}@32", *changes, "--device", "cpu"]
    command.main(["mlp", *arguments, "--size", "small", "--run", "mine", "--label", "quick", "--control", "no recipe"])
    said = capsys.readouterr().out
    file = here / "runs" / "mine" / "weights" / "mlp_pictures_quick.safetensors"
    assert "mlp on 54 images of pictures, by a default recipe, not tuned for mlp on pictures=folder:" in said
    assert "epochs=8" in said and "its name: mlp@runs/mine/weights/mlp_pictures_quick.safetensors" in said
    card = json.loads(file.with_suffix(".json").read_text())
    assert card["control"] == "no recipe" and card["storage"] == "float32" and card["dataset"] == "pictures"
    images = load_images(f"pictures=folder:{pictures}@32", "test")
    table = predict(build_model("mlp", images, weights=file), make_loader(images, batch_size=20))
    assert card["test"] == {"n": 20, "accuracy": 1.0, "interval": card["test"]["interval"]} and hits(table).all()

    command.main([f"mlp@{file}", *arguments, "--set", "epochs=1", "--run", "mine"])
    again = json.loads((here / "runs" / "mine" / "weights" / "mlp_pictures.json").read_text())
    assert again["start"] == {file.name: card["sha256"]} and again["history"]["val_accuracy"] == [1.0]


def test_a_timm_network_has_no_size_and_says_where_it_started(here, pictures):
    command.main(["timm:test_resnet@untrained", f"p=folder:{pictures}@32", "--set", "epochs=1", "--device", "cpu"])
    (file,) = here.glob("runs/by_hand_p/weights/*.json")
    card = json.loads(file.read_text())
    assert file.name == "timm-test_resnet_p.json" and card["start"] == {} and not card["size"]
    assert (card["model"], card["full_name"]) == ("timm:test_resnet", "timm:test_resnet@untrained")


# --- what is refused


def test_weights_are_replaced_only_when_asked(here, pictures, capsys):
    arguments = ["mlp", f"p=folder:{pictures}@32", "--set", "epochs=1", "--size", "small", "--device", "cpu"]
    command.main(arguments)
    (file,) = here.glob("runs/by_hand_p/weights/*.safetensors")
    before = file.read_bytes()
    with pytest.raises(SystemExit):
        command.main([*arguments, "--seed", "1"])
    assert "mlp_p.safetensors is there already; give --label another name, or --replace" in capsys.readouterr().err
    assert file.read_bytes() == before
    command.main([*arguments, "--seed", "1", "--replace"])
    assert file.read_bytes() != before and json.loads(file.with_suffix(".json").read_text())["test_uses"] == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["cnnn", "cifar10"], "unknown MODEL 'cnnn' (did you mean cnn?); choose from mlp, cnn, vit"),
        (["none.py:build", "cifar10"], "MODEL 'none.py:build' names none.py, and there is no such file"),
        (["timm:resnet10t@none.pt", "cifar10"], "names none.pt, and there is no such file"),
        (["", ""], "'' is no model's name; write one such as cnn"),
        (["cnn", "cifar11"], "unknown data set 'cifar11' (did you mean cifar10?)"),
        (["cnn", "folders:x"], "unknown data set 'folders:x'"),
        (["cnn", "folder:/none@64"], "no folder /none"),
        (["cnn", "cifar10=folder:/none@64"], "cifar10 is a data set of its own; give folder:/none@64 another label"),
        (
            ["cnn", "cifar10", "--set", "epoch=5"],
            "--set epoch=5: no field 'epoch' (did you mean epochs?); write field=",
        ),
        (["cnn", "cifar10", "--set", "epochs"], "--set epochs: no field 'epochs'"),
        (["cnn", "cifar10", "--set", "epochs=few"], "--set epochs=few: epochs is a whole number, not 'few'"),
        (["cnn", "cifar10", "--set", "lr=high"], "--set lr=high: lr is a number, not 'high'"),
        (
            ["cnn", "cifar10", "--set", "optimiser=adam"],
            "--set: unknown optimiser 'adam'; choose from adamw, sgd, muon",
        ),
        (["cnn", "cifar10", "--set", "epochs=0"], "--set: epochs must be at least 1, not 0"),
        (["cnn", "cifar10", "--run", "a/b"], "run must be a flat name"),
        (["cnn", "cifar10", "--ship"], "cnn_cifar10.safetensors is there already"),
        (["timm:resnet10t", "cifar10", "--ship"], "--ship is for mlp, cnn, vit, cnn_robust, not for timm:resnet10t"),
        (["timm:resnet10t", "cifar10", "--size", "small"], "timm:resnet10t has one size"),
        (["cnn"], "the following arguments are required: DATASET"),
    ],
)
def test_what_means_nothing_ends_in_one_error(capsys, monkeypatch, arguments, message):
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of torch would fail
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    usage, error = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2 and usage.startswith("usage: make train MODEL=cnn DATASET=cifar10 [ARGS=")
    assert error.startswith("make train: error: ") and message in error


@pytest.mark.parametrize(
    "arguments, code, said", [(["--help"], 0, "--held-out N"), (["cnnn", "cifar10"], 2, "did you mean cnn?")]
)
def test_help_and_errors_come_at_once(arguments, code, said):
    began = time.monotonic()
    run = dict(cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "src.training", *arguments], **run)
    assert done.returncode == code and said in done.stdout + done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "src.names" in imported and not imported & {"torch", "timm", "pandas"}
    assert time.monotonic() - began < 30  # under half a second on an idle machine


def test_what_only_torch_can_tell_is_one_error_too(here, pictures, capsys):
    for arguments in (["timm:resnet10x"], ["mlp", "--device", "gpu"], ["vit@seed9"]):
        with pytest.raises(SystemExit):
            command.main([arguments[0], f"p=folder:{pictures}@32", *arguments[1:]])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("make train: error")]
    assert "timm has no model 'resnet10x'; near names: resnet10t" in said[0]
    assert "device 'gpu' is not on this machine" in said[1] and "no weights vit_p_seed9.safetensors" in said[2]
    assert not list(here.rglob("*.safetensors"))
