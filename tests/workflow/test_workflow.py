"""The graph of notebooks, without running them: `.ci/run` does that."""

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
def test_every_configuration_gives_a_graph_with_its_results(config):
    done = dry_run(config)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = yaml.safe_load(config.read_text())
    for experiment, notebook in NOTEBOOKS.items():
        wanted = Path(notebook).stem in asked.get("notebooks", [Path(notebook).stem])
        assert (f"results/{asked['dataset']}/{experiment}/" in done.stdout) == wanted
        assert (f"report/{config.stem}/{Path(notebook).stem}.html" in done.stdout) == wanted


def test_an_unknown_parameter_is_refused(tmp_path):
    config = tmp_path / "wrong.yaml"
    config.write_text("study: wrong\ndataset: fashion_mnist\n01_vit_finetuning:\n  n_trian: 10\n")
    done = dry_run(config)
    assert done.returncode != 0
    assert "01_vit_finetuning.ipynb has no parameter n_trian; it has dataset, backbone" in done.stdout + done.stderr


def test_values_of_a_config_are_words_to_the_shell_and_no_commands(tmp_path):
    config = tmp_path / "hostile.yaml"
    values = {"study": "a b; touch F", "dataset": "fashion_mnist", "07_plots": {"models": ["mlp", "cnn; touch F #"]}}
    config.write_text(yaml.safe_dump(values))
    done = dry_run(config, "--printshellcmds")
    assert done.returncode == 0, done.stdout + done.stderr
    (page,) = (line for line in done.stdout.splitlines() if "workflow.page" in line)
    words = shlex.split(page)
    assert "a b; touch F" in words and words[-2:] == ["mlp", "cnn; touch F #"]
    executed = [line for line in done.stdout.splitlines() if "papermill" in line]
    assert executed and all("report/a b; touch F/" in shlex.split(line)[4] for line in executed)
