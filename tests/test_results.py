import pandas as pd
import pytest

from src import paths
from src.files import sha256
from src.results import changed_weights, load_facts, load_table, save_table

KEY = ("01_finetuning", "vit")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "mine"


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "model": "vit",
            "model_seed": 0,
            "dataset": "fashion_mnist",
            "condition": ["linear", "full"],
            "sample_id": [3, 7],
            "confidence": [0.25, 0.75],
        }
    )


def save(folder, table, **changes):
    facts = dict(parameters={"seed": 0, "n_test": 2}, provenance={"device": "a"}, weights={"w.safetensors": "ab"})
    return save_table(table, folder, *KEY, **(facts | changes))


def test_a_table_comes_back_as_it_was_saved_with_its_facts(folder, table):
    path = save(folder, table)
    pd.testing.assert_frame_equal(load_table(folder, *KEY), table)
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)
    facts = load_facts(folder, *KEY)
    assert facts["rows"] == 2 and facts["parameters"]["n_test"] == 2 and facts["provenance"] == {"device": "a"}


def test_a_missing_table_names_the_notebook(folder, monkeypatch):
    with pytest.raises(FileNotFoundError, match="Run 01_vit_finetuning.ipynb to make it, and `make publish`"):
        load_table(folder, *KEY)
    monkeypatch.setattr(paths, "RUNS", folder.parent)
    with pytest.raises(FileNotFoundError, match='Run 01_vit_finetuning.ipynb with run = "mine" to make it.'):
        load_table(folder, *KEY)


def test_an_unknown_experiment_lists_the_known_ones(folder, table):
    with pytest.raises(ValueError, match="unknown experiment '01_finetunig'; choose from 01_finetuning"):
        save_table(table, folder, "01_finetunig", "vit", parameters={}, provenance={})


def test_missing_columns_are_refused_on_saving_and_on_loading(folder, table):
    with pytest.raises(ValueError, match="lacks the columns condition"):
        save(folder, table.drop(columns="condition"))
    save(folder, table)
    with pytest.raises(ValueError, match="lacks the columns label_rank.*Run 01"):
        load_table(folder, *KEY, columns=["sample_id", "label_rank"])


def test_an_empty_table_is_refused(folder, table):
    with pytest.raises(ValueError, match="is empty"):
        save(folder, table.iloc[:0])


@pytest.mark.parametrize(
    "asked, message",
    [
        (dict(parameters={"seed": 1}), "other parameters .seed is 0, asked 1"),
        (dict(parameters={"new": True}), "new is None, asked True"),
        (dict(weights={"w.safetensors": "cd"}), "other weights .w.safetensors is 'ab', asked 'cd'"),
    ],
)
def test_a_table_made_otherwise_is_refused(folder, table, asked, message):
    save(folder, table)
    load_table(folder, *KEY, parameters={"seed": 0}, weights={"w.safetensors": "ab"})
    with pytest.raises(ValueError, match=message):
        load_table(folder, *KEY, **asked)


@pytest.mark.parametrize("damage", ["cut", "flipped", "other table"])
def test_a_damaged_table_is_refused(folder, table, damage, tmp_path):
    path = save(folder, table)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    else:  # what a run leaves that died after renaming the parquet and before renaming the JSON
        table.assign(confidence=0.0).to_parquet(path, index=False)
    with pytest.raises(ValueError, match="half-written or altered"):
        load_table(folder, *KEY)


def test_a_failed_save_leaves_the_old_table_and_no_litter(table, monkeypatch, folder):
    path = save(folder, table)
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr("src.results.sha256", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(folder, table.assign(confidence=0.0))
    assert sorted(folder.rglob("*")) == before
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)


def test_weights_that_changed_under_their_name_are_told(folder, table):
    def put(experiment, **weights):
        save_table(table, folder, experiment, "vit", parameters={}, provenance={}, weights=weights)

    put("01_finetuning", a="1", b="2")
    put("05_calibration", a="1")
    assert changed_weights(folder) == []  # the files are gone, and all tables agree
    put("05_calibration", a="3")
    said = "a: 01_finetuning, 05_calibration had other weights of this name than today's; run them again"
    assert changed_weights(folder) == [said]
    weights = folder / "weights" / "w.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"today")
    put("05_calibration", **{"w.safetensors": sha256(weights)})
    put("06_efficiency", **{"w.safetensors": "yesterday"})
    assert changed_weights(folder) == [
        "w.safetensors: 06_efficiency had other weights of this name than today's; run them again"
    ]
    put("06_efficiency", **{"w.safetensors": sha256(weights)})
    assert changed_weights(folder) == []
