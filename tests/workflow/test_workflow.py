"""The graph of notebooks, without running them: `.ci/run` does that."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src.paths import ROOT
from src.results import NOTEBOOKS

CONFIGS = sorted((ROOT / "workflow" / "config").glob("*.yaml"))


def dry_run(config, *more):
    command = ["-m", "snakemake", "--snakefile", "workflow/Snakefile", "--configfile", str(config), "--cores", "1"]
    command += ["--dry-run", "--forceall", "--nolock", *more]
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("config", CONFIGS, ids=[config.stem for config in CONFIGS])
def test_every_configuration_gives_a_graph_with_its_results(config, tmp_path):
    asked = yaml.safe_load(config.read_text())
    own = ["--config", f"dataset=pictures=folder:{tmp_path}"] * ("folder:" in asked["dataset"])  # yet to be written
    done = dry_run(config, *own)
    assert done.returncode == 0, done.stdout + done.stderr
    for experiment, notebook in NOTEBOOKS.items():
        wanted = Path(notebook).stem in asked.get("notebooks", [Path(notebook).stem])
        assert (f"runs/{asked['run']}/{experiment}/" in done.stdout) == wanted
        assert (f"runs/{config.stem}/notebooks/{Path(notebook).stem}.html" in done.stdout) == wanted


@pytest.mark.parametrize(
    "changes, says",
    [
        (
            {"01_vit_finetuning": {"n_trian": 10}},
            "01_vit_finetuning.ipynb has no parameter n_trian to set; it has backb",
        ),
        ({"02_adversarial_robustness": {"shard": "1/2"}}, "has no parameter shard to set"),
        ({"05_model_calibration": [1]}, "05_model_calibration must hold values of its parameters"),
        ({"05_model_calibraton": {"n_test": 5}}, "the config has no key 05_model_calibraton; choose from run, dataset"),
        ({"notebooks": "05_model_calibration"}, "notebooks must be a list from 01_vit_finetuning"),
        ({"notebooks": []}, "notebooks must be a list"),
        ({"notebooks": ["05_model"]}, "notebooks must be a list"),
        ({"shards": "two"}, "shards must be a whole number from 1 to 1000, not 'two'"),
        ({"shards": 1_000_000}, "shards must be a whole number"),
        ({"run": "a b; touch F"}, "run must be a flat name"),
        ({"run": "../../x"}, "run must be a flat name"),
        ({"run": None}, "run must be a flat name"),
        ({"dataset": ""}, "is no data set's name"),
        ({"models": "mlp"}, "models must be a list of at least one name"),
        ({"models": ["mlp", "mlp"]}, "model 'mlp' is named twice"),
        ({"models": []}, "models must be a list"),
        ({"models": ["mlp", "cnnn"]}, "unknown MODEL 'cnnn' (did you mean cnn?); choose from mlp, cnn"),
        ({"models": ["none.py:build"]}, "MODEL 'none.py:build' names none.py, and there is no such file"),
        ({"dataset": "cifar11"}, "unknown data set 'cifar11' (did you mean cifar10?)"),
        ({"dataset": "own=folder:nowhere@32"}, "no folder nowhere (seen from"),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused_in_a_line(tmp_path, changes, says):
    config = tmp_path / "wrong.yaml"
    config.write_text(yaml.safe_dump({"run": "wrong", "dataset": "fashion_mnist"} | changes))
    done = dry_run(config)
    assert done.returncode != 0 and says in done.stdout + done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["run", "dataset"])
def test_a_configuration_names_its_run_and_its_data(tmp_path, missing):
    config = tmp_path / "short.yaml"
    config.write_text(yaml.safe_dump({key: "x" for key in ("run", "dataset") if key != missing}))
    done = dry_run(config)
    assert done.returncode != 0 and f"the config lacks {missing}" in done.stdout + done.stderr


@pytest.mark.parametrize("text", ["", "run: [", "- run", "run: a/b\ndataset: cifar10", "dataset: cifar10"])
def test_a_configuration_that_is_none_is_refused_before_anything_runs(tmp_path, text):
    config = tmp_path / "broken.yaml"
    config.write_text(text)
    command = [sys.executable, "-m", "workflow.run", "--configfile", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"{config} cannot be used: ") and done.stderr.count("\n") < 8
    assert "Traceback" not in done.stderr


def test_values_of_a_config_are_words_to_the_shell_and_no_commands(tmp_path):
    config = tmp_path / "hostile.yaml"
    folder = tmp_path / "$(touch G)"
    folder.mkdir()
    (folder / "a; touch F #.py").write_text("")
    models, dataset = ["mlp", f"{folder}/a; touch F #.py:build"], f"own=folder:{folder}"
    config.write_text(yaml.safe_dump({"run": "hostile", "dataset": dataset, "models": models}))
    done = dry_run(config, "--printshellcmds")
    assert done.returncode == 0, done.stdout + done.stderr
    (page,) = (line for line in done.stdout.splitlines() if "workflow.page" in line)
    assert shlex.split(page)[-2] == "mlp" and shlex.split(page)[-1].endswith("touch-G-a-touch-F-.py-build")
    executed = [shlex.split(line)[-5:] for line in done.stdout.splitlines() if "workflow.notebook" in line]
    settings = [json.loads(words[3]) for words in executed]
    assert len(settings) == 8 and all(words[2].startswith("runs/hostile/notebooks/") for words in executed)
    assert {values.get("dataset", dataset) for values in settings} == {dataset}
    assert [values["models"] for values in settings if "models" in values] == [models] * 7
