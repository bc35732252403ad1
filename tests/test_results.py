import pandas as pd
import pytest

from src import paths
from src.results import load_facts, load_table, save_table

KEY = ("fashion_mnist", "01_finetuning", "vit")


@pytest.fixture(autouse=True)
def own_results(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    return tmp_path


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


def save(table, **changes):
    facts = dict(parameters={"seed": 0, "n_test": 2}, provenance={"device": "a"}, weights={"w.safetensors": "ab"})
    return save_table(table, *KEY, **(facts | changes))


def test_a_table_comes_back_as_it_was_saved_with_its_facts(table):
    path = save(table)
    pd.testing.assert_frame_equal(load_table(*KEY), table)
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)
    facts = load_facts(*KEY)
    assert facts["rows"] == 2 and facts["parameters"]["n_test"] == 2 and facts["provenance"] == {"device": "a"}


def test_a_missing_table_names_the_notebook():
    with pytest.raises(FileNotFoundError, match="Run 01_vit_finetuning.ipynb on fashion_mnist"):
        load_table(*KEY)


def test_an_unknown_experiment_lists_the_known_ones(table):
    with pytest.raises(ValueError, match="unknown experiment '01_finetunig'; choose from 01_finetuning"):
        save_table(table, "fashion_mnist", "01_finetunig", "vit", parameters={}, provenance={})


def test_missing_columns_are_refused_on_saving_and_on_loading(table):
    with pytest.raises(ValueError, match="lacks the columns condition"):
        save(table.drop(columns="condition"))
    save(table)
    with pytest.raises(ValueError, match="lacks the columns label_rank.*Run 01"):
        load_table(*KEY, columns=["sample_id", "label_rank"])


def test_an_empty_table_is_refused(table):
    with pytest.raises(ValueError, match="is empty"):
        save(table.iloc[:0])


@pytest.mark.parametrize(
    "asked, message",
    [
        (dict(parameters={"seed": 1}), "other parameters .seed is 0, asked 1"),
        (dict(parameters={"new": True}), "new is None, asked True"),
        (dict(weights={"w.safetensors": "cd"}), "other weights .w.safetensors is 'ab', asked 'cd'"),
    ],
)
def test_a_table_made_otherwise_is_refused(table, asked, message):
    save(table)
    load_table(*KEY, parameters={"seed": 0}, weights={"w.safetensors": "ab"})
    with pytest.raises(ValueError, match=message):
        load_table(*KEY, **asked)


@pytest.mark.parametrize("damage", ["cut", "flipped", "other table"])
def test_a_damaged_table_is_refused(table, damage, tmp_path):
    path = save(table)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    else:  # what a run leaves that died after renaming the parquet and before renaming the JSON
        table.assign(confidence=0.0).to_parquet(path, index=False)
    with pytest.raises(ValueError, match="half-written or altered"):
        load_table(*KEY)


def test_a_failed_save_leaves_the_old_table_and_no_litter(table, monkeypatch, own_results):
    path = save(table)
    before = sorted(own_results.rglob("*"))
    monkeypatch.setattr("src.results.sha256", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(table.assign(confidence=0.0))
    assert sorted(own_results.rglob("*")) == before
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)
