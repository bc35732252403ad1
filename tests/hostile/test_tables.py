"""Tables, the facts beside them and run.json, damaged or changed by hand; folders of tables that are none."""

import json
from pathlib import Path

import pandas as pd
import pytest
from refusals import first_line

from src import paths
from src.files import sha256
from src.results import load_published, load_table, save_table
from src.runs import find_tables, load_run, open_run
from workflow.publish import publish

ROWS = dict(model="m", model_seed=0, dataset="d", condition=["a", "b"], value=[1.0, 2.0])
DATA = {"name": "fashion_mnist", "note": "", "checksum": "0", "classes": ["a"]}


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run of one table."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    folder = open_run("mine", "fashion_mnist", DATA)
    save_table(pd.DataFrame(ROWS), folder, "04a_cka", "hsic", parameters={"seed": 0}, provenance={})
    return folder


FACTS = [  # what the JSON beside the table holds, or changes in a right one; how the error goes on after its name
    ("", ".json is damaged (Expecting value"),
    ("[]", ".json is damaged (a list and no object)"),
    ("{}", ".json is damaged (without a right rows, columns, parameters, weights, provenance, sha256)"),
    ('{"rows": 2', ".json is damaged (Expecting"),
    (dict(sha256=None), ".json is damaged (without a right sha256)"),
    (dict(parameters=[]), ".json is damaged (without a right parameters)"),
    (dict(weights="w"), ".json is damaged (without a right weights)"),
    (dict(loops="seed"), ".json is damaged (without a right loops)"),
    (dict(sha256="0" * 64), ".parquet is not the table its JSON describes: half-written or altered. Run 04a_cka"),
    (dict(rows=3), ".parquet has other rows or columns than its JSON says: altered by hand. Run 04a_cka.ipynb"),
    (dict(columns={"model": "str"}), ".parquet has other rows or columns than its JSON says"),
    (dict(parameters={"seed": 1}), ".parquet was made with other parameters (seed is 1, asked 0). Run 04a_cka.ipynb"),
]


@pytest.mark.parametrize(("facts", "says"), FACTS, ids=lambda value: str(value)[:40])
def test_facts_that_are_not_the_table_s_are_refused_by_name(facts, says, run, tmp_path):
    path = run / "04a_cka" / "hsic.json"
    right = json.loads(path.read_text())
    path.write_text(json.dumps(right | facts) if isinstance(facts, dict) else facts)
    said = first_line(lambda: load_table(run, "04a_cka", "hsic", parameters={"seed": 0}), tmp_path)
    assert said.startswith(f"~/mine/04a_cka/hsic{says}") and len(said) < 200


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1" + bytes(50) + b"PAR1"])
def test_a_table_whose_facts_were_made_to_fit_is_refused_all_the_same(content, run, tmp_path):
    path = run / "04a_cka" / "hsic.parquet"
    path.write_bytes(content)
    facts = json.loads(path.with_suffix(".json").read_text()) | {"sha256": sha256(path)}
    path.with_suffix(".json").write_text(json.dumps(facts))
    said = first_line(lambda: load_table(run, "04a_cka", "hsic"), tmp_path)
    assert said.startswith("~/mine/04a_cka/hsic.parquet is no table: ") and said.endswith("to make it.")


ABOUT = [
    ("", "is damaged (Expecting value"),
    ("[1]", "is damaged (a list and no object)"),
    ("{}", "is damaged (without a right run, dataset, data)"),
    ('{"run": "mine", "dataset": null, "data": {}}', "is damaged (without a right dataset)"),
    ('{"run": "mine", "dataset": "d", "data": "d"}', "is damaged (without a right data)"),
]


@pytest.mark.parametrize(("content", "says"), ABOUT)
def test_a_damaged_run_is_refused_by_name_by_all_that_open_it(content, says, run, tmp_path):
    (run / "run.json").write_text(content)
    for act in (lambda: load_run(run), lambda: open_run("mine", "fashion_mnist", DATA), lambda: publish("mine")):
        assert first_line(act, tmp_path).startswith(f"~/mine/run.json {says}")


ASKED = [  # what is done, how the error begins
    (lambda: find_tables(""), "there is no folder of tables ''; choose from results/cifar10"),
    (lambda: find_tables("results/cifar11"), "there is no folder of tables 'results/cifar11'; choose from"),
    (lambda: find_tables("README.md"), "there is no folder of tables 'README.md'"),
    (lambda: find_tables("a\0b"), "there is no folder of tables 'a\\x00b'"),
    (lambda: load_run("src"), f"{paths.ROOT}/src holds no run: there is no run.json in it"),
    (lambda: open_run("mine", "cifar10", DATA), "run 'mine' is on fashion_mnist, not cifar10; name another run, or de"),
    (lambda: open_run("mine", "fashion_mnist", DATA | {"checksum": "1"}), "the images of fashion_mnist are not those"),
    (lambda: open_run("../mine", "fashion_mnist", DATA), "run must be a flat name"),
    (lambda: load_table("runs/mine", "04_cka", "hsic"), "unknown experiment '04_cka'; choose from 01_finetuning"),
    (
        lambda: load_table(paths.RUNS / "mine", "04a_cka", "../../x"),
        "there is no table ~/mine/04a_cka/x.parquet. Run 04a",
    ),
    (
        lambda: load_table(paths.RUNS / "mine", "04a_cka", "null"),
        "there is no table ~/mine/04a_cka/null.parquet. Run 04",
    ),
    (lambda: load_published("../x"), "the 2023 report has no table '../x'; choose from adversarial, texture_shape"),
    (lambda: publish("../../etc"), "run must be a flat name"),
    (lambda: publish(""), "run must be a flat name"),
    (lambda: publish("other"), "there is no folder of tables '~/other'; choose from"),
    (lambda: publish("mine"), "run 'mine' is not published:"),  # of other code than today's
]


@pytest.mark.parametrize(("act", "says"), ASKED, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_what_is_asked_of_folders_of_tables_that_they_have_not_is_told(act, says, run, tmp_path):
    assert first_line(act, tmp_path).startswith(says)
