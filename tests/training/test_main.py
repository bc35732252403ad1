"""Training the shipped networks: what `make train` writes, in small."""

import subprocess
import sys
from dataclasses import replace

import pytest

from src.data import load_images
from src.data.loaders import make_loader
from src.models import build_model, weights
from src.models.build import COMPACT, SIZES, family_of
from src.models.predict import predict
from src.paths import ROOT
from src.tables.statistics import hits
from src.training import saving
from src.training.recipe import RECIPES


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Weights and checkpoints go into a folder of the test; the data are 300 embedded images a split."""
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    monkeypatch.setattr(saving, "TRAINED_ON", {})
    monkeypatch.setattr(saving, "N_HELD_OUT", 50)
    monkeypatch.setattr(saving, "load_images", lambda name, split: load_images(name, split).subset(300, seed=0))
    return tmp_path


def test_every_recipe_is_for_a_network_that_can_be_built():
    for name, dataset, size in RECIPES:
        assert name in COMPACT and size in SIZES[family_of(name)]
        assert build_model(name, dataset, weights=None, size=size).size == size


@pytest.mark.parametrize("name", ["mlp", "cnn_robust"])
def test_what_is_trained_is_found_again_with_its_card(scratch, name):
    family = family_of(name)
    eps_255 = 8.0 if name == "cnn_robust" else 0.0
    recipe = replace(RECIPES[family, "fashion_mnist", "small"], epochs=1, lr=0.01, eps_255=eps_255, seed=3)
    options = dict(size="small", recipe=recipe, device="cpu", checkpoint_folder=scratch / "checkpoints")
    card = saving.train_and_save(name, "fashion_mnist", label="trial", **options)
    file = scratch / f"{family}_models" / f"{name}_fashion_mnist_trial.safetensors"
    assert file.exists() and weights.read_card(file) == card
    assert card["recipe"]["seed"] == 3 and "250 training images; 50 more held out" in card["data"]

    model = build_model(name, "fashion_mnist", weights="trial")
    table = predict(model, make_loader(load_images("fashion_mnist", "test").subset(300, seed=0), batch_size=100))
    assert abs(hits(table).mean() - card["test"]["accuracy"]) < 0.01  # stored as float16, measured as stored
    if eps_255:
        robust = card["robust"]
        assert robust["attack"] == "PGD-20, Linf, 8/255" and robust["n"] == 300
        assert robust["interval"][0] <= robust["accuracy"] <= card["test"]["accuracy"]
    else:
        assert "robust" not in card


def test_the_card_of_a_finished_run_is_made_again_without_training(scratch):
    recipe = replace(RECIPES["mlp", "fashion_mnist", "small"], epochs=1)
    options = dict(size="small", recipe=recipe, device="cpu", checkpoint_folder=scratch / "checkpoints")
    cards = [saving.train_and_save("mlp", "fashion_mnist", **options) for _ in range(2)]
    assert cards[0]["sha256"] == cards[1]["sha256"]
    assert cards[0]["history"] == cards[1]["history"]


def test_a_network_without_a_recipe_is_refused():
    command = [sys.executable, "-m", "src.training", "cnn_robust", "cifar100"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "no recipe for cnn_robust cifar100 base; there are: mlp fashion_mnist small" in done.stderr
