"""Every shipped weight file is what its card says."""

import json

import pytest

from src.data import load_images
from src.data.loaders import make_loader
from src.files import sha256
from src.models import build_model
from src.models.predict import predict
from src.paths import ROOT
from src.tables.statistics import accuracy

CARDS = sorted(ROOT.glob("*_models/*.json"))
MIB = 2**20


def case(card_file):
    on_cifar = json.loads(card_file.read_text())["dataset"].startswith("cifar")
    return pytest.param(card_file, id=card_file.stem, marks=[pytest.mark.needs_cifar] if on_cifar else [])


pytestmark = pytest.mark.parametrize("card_file", [case(card_file) for card_file in CARDS])


def test_file_has_the_cards_checksum_and_a_size_to_commit(card_file):
    card = json.loads(card_file.read_text())
    weights = card_file.with_suffix(".safetensors")
    assert card["file"] == weights.name and card["licence"] == "MIT"
    assert sha256(weights) == card["sha256"]
    assert weights.stat().st_size <= 16 * MIB
    for entry in ("recipe", "data", "test", "seconds", "provenance"):
        assert entry in card


def test_accuracy_on_1000_test_images_is_the_cards(card_file):
    card = json.loads(card_file.read_text())
    label = card_file.stem.removeprefix(f"{card['model']}_{card['dataset']}").removeprefix("_") or "default"
    model = build_model(card["model"], card["dataset"], weights=label)
    test_set = load_images(card["dataset"], "test").subset(1000, seed=0)
    measured = accuracy(predict(model, make_loader(test_set, batch_size=250)), level=0.999).iloc[0]
    assert measured["low"] <= card["test"]["accuracy"] <= measured["high"]


def test_readme_quotes_the_cards(card_file):
    card = json.loads(card_file.read_text())
    if "backbone" in card:
        pytest.skip("a head: each run of notebook 01 writes its own")
    lines = (card_file.parent / "README.md").read_text().splitlines()
    row = next(line for line in lines if f"`{card['file']}`" in line)
    low, high = (f"{100 * bound:.2f}" for bound in card["test"]["interval"])
    assert f"{100 * card['test']['accuracy']:.2f} % [{low}, {high}], n = {card['test']['n']:,}" in row


def test_the_main_readme_says_where_recipes_differ(card_file):
    card = json.loads(card_file.read_text())
    if "backbone" in card or card_file.stem != f"{card['model']}_{card['dataset']}" or card["model"] == "cnn_robust":
        pytest.skip("the table has the default weights of the three architectures")
    name = {"fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[card["dataset"]]
    lines = (ROOT / "README.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith(f"| {name} | `{card['model']}` |"))
    cells, recipe = [cell.strip() for cell in row.strip("|").split("|")], card["recipe"]
    assert cells[2:4] == [f"{card['n_parameters'] / 1e6:.2f} M", str(recipe["epochs"])]
    pad = recipe.get("crop_pad", 0)
    assert cells[4] == (f"padded by {pad}" if pad else f"{100 * recipe['crop_scale']:.0f} % of the area or more")
    assert cells[5] == (str(recipe["mixup"]) if recipe["mixup"] else "–") and recipe["label_smoothing"] == 0.1
    assert cells[6].lower() == f"{recipe['optimiser']}, {recipe['batch_size']}"
    low, high = (f"{100 * bound:.2f}" for bound in card["test"]["interval"])
    assert cells[7] == f"{100 * card['test']['accuracy']:.2f} % [{low}, {high}]"
