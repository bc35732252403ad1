"""Machines that are set up otherwise: another folder to start from, other rights of new files, another language."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from torch import nn

from src import paths
from src.data import load_images
from src.data.beton import write_beton
from src.files import write_images, written_whole
from src.models import build_model
from src.models.weights import save_weights
from src.parameters import default_parameters
from src.paths import ROOT
from src.results import load_table, save_table
from src.runs import find_tables
from src.study import begin

ROWS = pd.DataFrame(dict(model="m", model_seed=0, dataset="d", condition=["é", "→"], value=[1.0, 2.0]))


def test_another_working_directory_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    study = begin("05_calibration", default_parameters("05_model_calibration.ipynb") | {"device": "cpu"})
    assert study.model("mlp").path.is_relative_to(ROOT) and study.folder.parent == tmp_path / "runs"
    assert find_tables("results/cifar10") == ROOT / "results" / "cifar10"
    assert build_model("cnn", "fashion_mnist").trained and len(load_images("fashion_mnist", "test")) == 10_000
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o022, 0o000])
def test_new_files_have_the_rights_that_the_user_wants(mask, tmp_path):
    before = os.umask(mask)
    try:
        with written_whole(tmp_path / "a.txt") as partial:
            partial.write_text("a", encoding="utf-8")
            partial.chmod(0o600)  # as some writers leave it
        images = load_images("fashion_mnist", "test").images[:2]
        write_images(tmp_path / "b.npz", images)
        write_beton(tmp_path / "c.beton", images, [0, 1])
        save_weights(nn.Linear(2, 2), tmp_path / "d.safetensors", {})
        save_table(ROWS, tmp_path, "04a_cka", "e", parameters={}, provenance={})
        assert os.umask(mask) == mask  # still
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 8 and {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}


C = """
import sys, pandas as pd
from src.files import read_json
from src.results import load_facts, load_table, save_table
table = pd.DataFrame(dict(model="m", model_seed=0, dataset="d", condition=["\\u00e9", "\\u2192"], value=[1.0, 2.0]))
save_table(table, sys.argv[1], "04a_cka", "hsic", parameters={"a": "\\u00fc"}, provenance={})
assert load_table(sys.argv[1], "04a_cka", "hsic")["condition"].tolist() == ["\\u00e9", "\\u2192"]
assert load_facts(sys.argv[1], "04a_cka", "hsic")["parameters"] == {"a": "\\u00fc"}
assert read_json(sys.argv[2]) == {"a": "\\u00fc"}
"""


def test_another_language_changes_no_text(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"a": "ü"}, ensure_ascii=False), encoding="utf-8")
    other = os.environ | dict(LC_ALL="C", LANG="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    command = [sys.executable, "-c", C, str(tmp_path / "d"), str(tmp_path / "a.json")]
    done = subprocess.run(command, cwd=ROOT, env=other, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(load_table(tmp_path / "d", "04a_cka", "hsic"), ROWS)


@pytest.mark.parametrize("fault", ["full disk", "interrupted", "error"])
def test_whatever_ends_a_write_the_old_file_stays_and_nothing_else(fault, tmp_path):
    kinds = {
        "full disk": OSError(28, "No space left on device"),
        "interrupted": KeyboardInterrupt(),
        "error": ValueError(),
    }
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(type(kinds[fault])), written_whole(path) as partial:
        partial.write_text("half", encoding="utf-8")
        raise kinds[fault]
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"] and path.read_text(encoding="utf-8") == "old"
