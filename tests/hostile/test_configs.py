"""Configurations that cannot be run: refused in a line, before a notebook or Snakemake starts."""

import pytest
import yaml
from refusals import first_line

from src import paths
from workflow.checks import read_settings
from workflow.run import read_config

CHOICES = "choose from run, dataset, notebooks, shards, models, model_seeds, seed, device, 01_vit_finetuning"

VALUES = [  # what a good configuration is changed in, and how the error begins
    ({"05_model_calibraton": {"n_test": 5}}, f"it has no key 05_model_calibraton; {CHOICES}"),
    ({"shard": "1/2"}, "it has no key shard"),
    ({1: 2}, "it has no key 1; choose from run"),
    ({None: 2}, "it has no key None"),
    ({"01_vit_finetuning": {"n_trian": 10}}, "01_vit_finetuning.ipynb has no parameter n_trian to set; it has backb"),
    ({"02_adversarial_robustness": {"shard": "1/2"}}, "02_adversarial_robustness.ipynb has no parameter shard to set"),
    ({"05_model_calibration": {"dataset": "cifar10"}}, "05_model_calibration.ipynb has no parameter dataset to set"),
    ({"05_model_calibration": {"run": "other"}}, "05_model_calibration.ipynb has no parameter run to set"),
    ({"07_plots": {"tables": "/etc"}}, "07_plots.ipynb has no parameter tables to set"),
    ({"05_model_calibration": [1]}, "05_model_calibration must hold values of its parameters, such as `seed: 0`"),
    ({"05_model_calibration": "n_test: 5"}, "05_model_calibration must hold values of its parameters"),
    ({"05_model_calibration": {"n_test": -1}}, "05_model_calibration: n_test = -1 must be at least 0"),
    ({"05_model_calibration": {"n_test": None}}, "05_model_calibration: n_test = None must be a whole number"),
    (
        {"05_model_calibration": {"n_bins": "x" * 9_999}},
        "05_model_calibration: n_bins = 'xxxxxxxxxxxx...xxxxxxxxxxxxx' m",
    ),
    ({"06_inference_time": {"others": ["timm:"]}}, "06_inference_time: unknown MODEL 'timm:'"),
    (
        {"03_texture_shape_bias": {"painters": ["cnnn on cifar100"]}},
        "03_texture_shape_bias: unknown MODEL 'cnnn' (did you mean cnn",
    ),
    ({"01_vit_finetuning": {"backbone": "vti"}}, "01_vit_finetuning: unknown MODEL 'vti@small' (did you mean vit?)"),
    (
        {"01_vit_finetuning": {"backbone_weights": "x.pt"}},
        "01_vit_finetuning: MODEL 'vit@x.pt' names x.pt, and there is",
    ),
    ({"01_vit_finetuning": {"pretrained_on": "cifar11"}}, "01_vit_finetuning: pretrained_on = 'cifar11' is not among"),
    ({"seed": -1}, "01_vit_finetuning: seed = -1 must be at least 0"),
    ({"seed": "one"}, "01_vit_finetuning: seed = 'one' must be a whole number"),
    ({"model_seeds": [0, 0]}, "02_adversarial_robustness: model_seeds = [0, 0] must name at least one, each once"),
    ({"model_seeds": 3}, "02_adversarial_robustness: model_seeds = 3 must be a list"),
    ({"device": 0}, "01_vit_finetuning: device = 0 must be a text"),
    (
        {"notebooks": "05_model_calibration"},
        "notebooks must be a list from 01_vit_finetuning, 02_adversarial_robustness",
    ),
    ({"notebooks": []}, "notebooks must be a list"),
    ({"notebooks": None}, "notebooks must be a list"),
    ({"notebooks": ["05_model"]}, "notebooks must be a list"),
    ({"notebooks": [["05_model_calibration"]]}, "notebooks must be a list"),
    ({"notebooks": [{"05_model_calibration": {}}]}, "notebooks must be a list"),
    ({"shards": "two"}, "shards must be a whole number from 1 to 1000, not 'two'"),
    ({"shards": 1_000_000}, "shards must be a whole number from 1 to 1000"),
    ({"shards": 0}, "shards must be a whole number from 1 to 1000"),
    ({"shards": True}, "shards must be a whole number from 1 to 1000"),
    ({"shards": 2.0}, "shards must be a whole number from 1 to 1000"),
    ({"run": "a b; touch F"}, "run must be a flat name of letters, digits and _.+@-, such as mine, not 'a b; touch F'"),
    ({"run": "a$(touch F)"}, "run must be a flat name"),
    ({"run": "../../x"}, "run must be a flat name"),
    ({"run": "a\nb"}, "run must be a flat name"),
    ({"run": None}, "run must be a flat name"),
    ({"run": 2026}, "run must be a flat name"),
    ({"run": "comparisons"}, "run must be a flat name"),
    ({"dataset": ""}, "'' is no data set's name"),
    ({"dataset": ["cifar10"]}, "['cifar10'] is no data set's name"),
    ({"dataset": "cifar11"}, "unknown data set 'cifar11' (did you mean cifar10?); choose from cifar10, cifar100"),
    ({"dataset": "my data"}, "unknown data set 'my data'"),
    ({"dataset": "own=folder:nowhere@32"}, "no folder nowhere (seen from"),
    ({"models": "mlp"}, "02_adversarial_robustness: models = 'mlp' must be a list"),
    ({"models": []}, "02_adversarial_robustness: models = [] must name at least one"),
    (
        {"models": ["mlp", "mlp"]},
        "02_adversarial_robustness: models = ['mlp', 'mlp'] must name at least one, each once",
    ),
    (
        {"models": ["mlp", "cnnn"]},
        "02_adversarial_robustness: unknown MODEL 'cnnn' (did you mean cnn?); choose from mlp",
    ),
    ({"models": ["a;b=mlp"]}, "02_adversarial_robustness: 'a;b=mlp' has a label that is no plain word"),
    ({"models": ["none.py:build"]}, "02_adversarial_robustness: MODEL 'none.py:build' names none.py, and there is no"),
    ({"models": ["mlp"]}, "04a_cka: it compares networks: name at least two models, or leave it out of `notebooks`"),
    ({"06_inference_time": {"others": ["cnn"]}}, "06_inference_time: others names cnn, which is among the models"),
    ({"models": ["cnn@none.pt"]}, "02_adversarial_robustness: MODEL 'cnn@none.pt' names none.pt, and there is no"),
]

TEXTS = [  # what a file holds, and how the error goes on after its name
    ("", "it is empty or no mapping; write for example `run: mine` and `dataset: cifar10`"),
    ("# nothing\n", "it is empty or no mapping"),
    ("- run", "it is empty or no mapping"),
    ("run", "it is empty or no mapping"),
    ("run: [", "it is no YAML: while parsing a flow node"),
    ("\tmore: 1", "it is no YAML: while scanning for the next token"),
    (
        "run: !!python/object/apply:os.system ['touch F']",
        "it is no YAML: could not determine a constructor for the tag",
    ),
    ("run: mine\n", "it has no dataset; write for example `run: mine` and `dataset: cifar10`"),
    ("dataset: cifar10\n", "it has no run"),
    ("seed: 0\n", "it has no run and no dataset"),
    ("run: a/b\ndataset: cifar10", "run must be a flat name"),
    ("run: a\ndataset: cifar10\nrun: b\nseed: 0\nseed: 1", "it names run and seed twice; keep one"),
    ("run: a\ndataset: cifar10\n05_model_calibration: {n_test: 1, n_test: 2}", "it names n_test twice"),
    (
        "run: a\ndataset: cifar10\n05_model_calibration: &a {n_test: *a}",
        "05_model_calibration: n_test = {'n_test': {'n_",
    ),
    ("run: ok\x00", "it is no YAML: unacceptable character"),
    (b"run: \xff\xfe", "'utf-8' codec can't decode byte 0xff"),
]


@pytest.mark.parametrize(("changes", "says"), VALUES, ids=lambda value: str(value)[:60])
def test_a_wrong_configuration_is_refused_in_a_line(changes, says, tmp_path):
    config = {"run": "wrong", "dataset": "fashion_mnist"} | changes
    assert first_line(lambda: read_settings(config), tmp_path).startswith(says)


@pytest.mark.parametrize(("text", "says"), TEXTS, ids=lambda value: repr(value)[:60])
def test_a_file_that_is_no_configuration_is_refused_by_name(text, says, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    config = tmp_path / "broken.yaml"
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = first_line(lambda: read_config(config), tmp_path)
    assert said.startswith(f"~/broken.yaml cannot be used: {says}")


@pytest.mark.parametrize("name", ["", "none.yaml"])
def test_a_file_that_is_not_there_is_named(name, tmp_path):
    said = first_line(lambda: read_config(tmp_path / name), tmp_path)
    assert said.startswith(f"~{'/' * bool(name)}{name} cannot be used: [Errno 2")


@pytest.mark.parametrize("shards", [1, 2, 1000])
def test_a_right_configuration_gives_all_parameters(shards):
    settings = read_settings(
        {"run": "mine", "dataset": "fashion_mnist", "shards": shards, "seed": 3, "models": ["mlp", "cnn"]}
    )
    assert {values["seed"] for values in settings.values()} == {3} and len(settings) == 8
    assert settings["07_plots"]["tables"] == "runs/mine" and settings["05_model_calibration"]["run"] == "mine"


def test_the_configurations_of_the_repository_can_be_run(monkeypatch):
    monkeypatch.setattr(
        "workflow.checks.check_dataset", lambda name: None
    )  # of one, the pictures are yet to be written
    for path in sorted((paths.ROOT / "workflow" / "config").glob("*.yaml")):
        assert len(read_settings(yaml.safe_load(path.read_text(encoding="utf-8")))) == 8
