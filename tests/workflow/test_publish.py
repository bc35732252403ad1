"""What a run publishes, and what keeps it from being published."""

import subprocess
import sys

import pandas as pd
import pytest

from src import paths
from src.results import load_table, save_table
from src.runs import code_hash, open_run
from workflow.publish import publish

CODE = code_hash("05_model_calibration.ipynb")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    return open_run("mine", "some", {"name": "some", "classes": ["a"]})


def save(run, name="m", code=CODE, value=1.0, shard="1/1"):
    table = pd.DataFrame(dict(model="m", model_seed=0, dataset="some", condition="c", sample_id=[0], value=[value]))
    return save_table(table, run, "05_calibration", name, parameters={}, provenance={"code": code}, shard=shard)


def test_a_whole_run_is_published_and_says_what_it_replaces(run):
    save(run, "m"), save(run, "other")
    (run / "figures").mkdir()
    assert publish("mine") == [
        f"new       05_calibration/{name}" for name in ("m.json", "m.parquet", "other.json", "other.parquet")
    ]
    target = paths.RESULTS / "some"
    assert {path.name for path in target.iterdir()} == {"run.json", "05_calibration"}
    save(run, "m", value=2.0)
    (run / "05_calibration" / "other.parquet").unlink()
    (run / "05_calibration" / "other.json").unlink()
    (target / "06_efficiency").mkdir()
    assert [line.split()[0] for line in publish("mine")] == ["replaced", "replaced", "removed", "removed"]
    assert load_table(target, "05_calibration", "m")["value"].item() == 2 and (target / "06_efficiency").exists()
    assert all(line.startswith("as before") for line in publish("mine"))


def test_a_run_of_other_networks_goes_beside_the_studys_own(run):
    save(run)
    assert publish("mine", "some_controls") and publish("mine")
    assert {path.name for path in paths.RESULTS.iterdir()} == {"some", "some_controls"}
    (paths.RESULTS / "benchmarks").mkdir()
    for name in ("benchmarks", "../some"):
        with pytest.raises(ValueError, match="results/benchmarks holds no tables|flat name"):
            publish("mine", name)


def test_tables_of_other_images_are_not_put_beside_those_that_are_there(run):
    save(run)
    publish("mine")
    about = paths.RESULTS / "some" / "run.json"
    before = about.read_bytes()
    other = open_run("other", "some", {"name": "some", "classes": ["a", "b"]})
    save(other, "new")
    with pytest.raises(ValueError, match="results/some holds tables of other images or classes; take another name"):
        publish("other")
    assert about.read_bytes() == before and not (paths.RESULTS / "some" / "05_calibration" / "new.json").exists()
    assert publish("other", "elsewhere")


def damage(run):
    path = save(run)
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda run: None, "run 'mine' holds no tables"),
        (lambda run: save(run, code="0" * 16), "05_calibration/m was made by other code than today's"),
        (damage, "half-written or altered"),
        (lambda run: save(run, shard="1/2"), "05_calibration has parts that are not put together, as m.1of2"),
        (lambda run: [save(run, shard=part) for part in ("1/1", "1/2", "2/2")], "parts that are not put together"),
        (lambda run: save(run).with_suffix(".json").unlink(), "there is no table"),
    ],
)
def test_what_is_not_whole_is_not_published(run, make, says):
    make(run)
    with pytest.raises(ValueError, match=says):
        publish("mine")
    assert not paths.RESULTS.exists()


@pytest.mark.parametrize("name", ["nothing", "../x", "a b"])
def test_an_unknown_run_ends_in_a_line(name):
    done = subprocess.run(
        [sys.executable, "-m", "workflow.publish", name], cwd=paths.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and name in done.stderr and done.stderr.count("\n") == 1
