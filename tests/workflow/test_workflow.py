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


def test_a_wrong_configuration_is_refused_in_a_line_by_run_and_by_snakemake(tmp_path):
    config = tmp_path / "wrong.yaml"
    config.write_text(yaml.safe_dump({"run": "wrong", "dataset": "fashion_mnist", "shards": "two"}))
    said = "cannot be used: shards must be a whole number from 1 to 1000, not 'two'\n"
    command = [sys.executable, "-m", "workflow.run", "--configfile", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == f"{config} {said}"
    done = dry_run(config)
    assert done.returncode != 0 and said in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_a_folder_with_braces_is_no_wildcard_and_config_is_refused(tmp_path):
    pictures, config = tmp_path / "a {b} $c", tmp_path / "own.yaml"
    for name in ("train/x", "train/y", "test/x", "test/y"):
        (pictures / name).mkdir(parents=True)
    config.write_text(yaml.safe_dump({"run": "own", "dataset": f"own=folder:{pictures}@16", "shards": 2}))
    done = dry_run(config)
    assert done.returncode == 0, done.stdout + done.stderr
    command = [sys.executable, "-m", "workflow.run", "--configfile", str(config), "--config", "shards=3", "-n"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2 and "--config is not taken: put the values into a copy of" in refused.stderr


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
    words = shlex.split(page.partition("&&")[0])
    assert words[-2] == "mlp" and words[-1].endswith("/$(touch G)/a; touch F #.py:build")
    executed = [shlex.split(line)[-5:] for line in done.stdout.splitlines() if "workflow.notebook" in line]
    settings = [json.loads(words[3]) for words in executed]
    assert len(settings) == 8 and all(words[2].startswith("runs/hostile/notebooks/") for words in executed)
    assert {values.get("dataset", dataset) for values in settings} == {dataset}
    assert [values["models"] for values in settings if "models" in values] == [models] * 7
