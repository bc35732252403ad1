"""The controlled zoo: what it trains, what it leaves alone, and that each network differs in what its card says."""

from dataclasses import asdict

import pytest

from src import paths
from src.names import parse_model
from src.training import __main__ as command
from src.training import controls
from src.training.controls import CONTROLS, missing_trainings, weights_of, words_of

EVERY = [(dataset, name) for dataset, zoo in CONTROLS.items() for name in zoo]


@pytest.mark.parametrize(("dataset", "name"), EVERY)
def test_each_network_differs_from_the_studys_in_what_its_control_says(dataset, name, monkeypatch):
    """The recipe that the command reads is the base one but for the changes, which are changes."""
    monkeypatch.setattr(command, "load_sets", lambda *_: pytest.fail("images are not needed here"))
    control = CONTROLS[dataset][name]
    asked = command.make_parser().parse_args(words_of(name, control, dataset, 2))
    model = command.check_model(asked.model)
    changes = command.parse_changes(asked.set)
    recipe, _ = command.choose_recipe(model, dataset, asked.size, changes | {"seed": asked.seed})
    base, _ = command.choose_recipe(model, dataset, None, {})
    differs = {key for key, value in asdict(recipe).items() if value != asdict(base)[key]}
    assert differs - {"seed"} <= set(control.changes) and asked.control == control.what and asked.seed == 2
    assert all(asdict(recipe)[key] == value for key, value in control.changes.items())
    own = parse_model(name).weights != "default"
    assert own == bool(differs - {"seed"} or asked.size)


def test_one_common_recipe_is_one():
    recipes = {
        tuple(sorted(asdict(command.choose_recipe(parse_model(name), "cifar10", None, control.changes)[0]).items()))
        for name, control in CONTROLS["cifar10"].items()
        if name.endswith("@common")
    }
    assert len(recipes) == 1


def test_what_is_there_is_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(controls, "ROOT", tmp_path)
    every = len(CONTROLS["cifar10"])
    assert len(missing_trainings("cifar10", [0, 1])) == 2 * every
    for folder, file in (("runs/controls/weights", "cnn_cifar10_w2_seed1"), ("vit_models", "vit_cifar10")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{file}.safetensors").touch()
    assert weights_of("cnn@w2", "cifar10", 1) and weights_of("vit", "cifar10", 0)
    left = missing_trainings("cifar10", [0, 1])
    assert len(left) == 2 * every - 2
    assert not any(words[0] == "cnn" and "w2_seed1" in words for words in left)
    assert [words[0] for words in missing_trainings("cifar10", [1], ["mlp", "cnn@w2"])] == ["mlp"]


def test_the_study_has_its_own_networks_already():
    assert all(weights_of(name, "cifar10", 0).is_relative_to(paths.ROOT) for name in ("mlp", "cnn", "vit"))


def test_the_first_that_fails_ends_it_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(controls, "ROOT", tmp_path)
    monkeypatch.setattr(controls.sys, "executable", "false")
    with pytest.raises(SystemExit, match="ended at cnn cifar10; the same command goes on"):
        controls.main(["cifar10"])


def test_an_unknown_network_is_refused_with_the_choices(capsys):
    with pytest.raises(SystemExit):
        controls.main(["cifar10", "--only", "cnn@w3"])
    assert "unknown network cnn@w3; choose from cnn@short67" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_that_is_none_is_refused_before_the_first_training(seed, capsys):
    with pytest.raises(SystemExit):
        controls.main(["cifar10", "--seeds", "0", seed])
    assert f"a seed is a whole number from 0 to 4294967295, not {seed}" in capsys.readouterr().err
