"""Parts of the images measured apart are, put together, what one run measures; what does not fit is refused."""

import json

import nbformat
import numpy as np
import pandas as pd
import pytest

from src import paths
from src.data import load_images
from src.paths import ROOT
from src.results import GATHER, load_facts, load_parts, load_table, save_table, table_path
from src.study import part_of
from workflow.notebook import as_far_as_tables

# notebook -> its experiment, and parameters that make it small; 3 shards of uneven length
SHARDED = {
    "02_adversarial_robustness": (
        "02_attacks",
        dict(models=["mlp", "cnn"], n_curve=20, n_worst=13, pgd_steps=2, apgd_steps=2, n_targets=1, queries=3)
        | dict(worst_eps_255=[0.5, 4]),
    ),
    "03_texture_shape_bias": (
        "03_texture_shape",
        dict(models=["mlp", "cnn"], n_images=40, n_pairs=8, n_stylised=4, n_corrupted=3, style_steps=2),
    ),
    "05_model_calibration": ("05_calibration", dict(models=["mlp", "cnn"], n_test=200)),
}
SHARDS = ["1/3", "2/3", "3/3"]


def measure(notebook: str, shard: str, run: str) -> None:
    """What a shard's job does, in this process: the notebook's own cells, as far as its tables."""
    cells = as_far_as_tables(nbformat.read(ROOT / f"{notebook}.ipynb", as_version=4)).cells
    names: dict = {}
    for cell in cells:
        if cell.cell_type == "code":
            exec(cell.source, names)  # noqa: S102
        if "parameters" in cell.metadata.get("tags", []):
            assert "shard" in names
            names |= SHARDED[notebook][1] | dict(device="cpu", texture_steps=2, shard=shard, run=run)


@pytest.mark.parametrize("notebook", SHARDED)
def test_three_shards_are_row_for_row_one_run(notebook, tmp_path, monkeypatch):
    experiment = SHARDED[notebook][0]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    measure(notebook, "1/1", "whole")
    names = [path.stem for path in (whole / experiment).glob("*.parquet")]
    assert names
    for shard in reversed(SHARDS):
        measure(notebook, shard, "parted")
    assert not any(table_path(parted, experiment, name).exists() for name in names)
    before = {name: load_table(parted, experiment, name) for name in names}  # of the parts
    measure(notebook, GATHER, "parted")
    for name in names:
        expected, alone = load_table(whole, experiment, name), load_facts(whole, experiment, name)
        found, facts = load_table(parted, experiment, name), load_facts(parted, experiment, name)
        assert_alike(found, expected)
        pd.testing.assert_frame_equal(found, before[name])
        assert facts["rows"] == alone["rows"] and facts["parameters"] == alone["parameters"]
        assert len(facts["provenance"]["parts"]) == 3 and "parts" not in alone["provenance"]
    # images made by optimisation: one file each at the end
    assert len(list(parted.rglob("*.npz"))) == len(list(whole.rglob("*.npz")))


def assert_alike(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """The same rows; floats but for rounding, as a product of another length sums in another order.

    Rounding may turn the sign of a gradient, which moves an attacked image a little: one row in fifty.
    """
    floats = [name for name in expected if expected[name].dtype.kind == "f"]
    pd.testing.assert_frame_equal(found.drop(columns=floats), expected.drop(columns=floats))
    pd.testing.assert_frame_equal(found[floats], expected[floats], check_exact=False, rtol=0, atol=1e-2)
    apart = (found[floats] - expected[floats]).abs().max(axis=1) > 2e-6
    assert apart.mean() < 0.02


def test_parts_of_images_are_whole_and_apart():
    images = load_images("fashion_mnist", "test").subset(11, seed=0)
    for n in (1, 2, 3, 5, 11):
        parts = [part_of(images, f"{k}/{n}") for k in range(1, n + 1)]
        assert np.concatenate([part.sample_ids for part in parts]).tolist() == images.sample_ids.tolist()
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert part_of(images, GATHER) is images
    rows = part_of(pd.DataFrame(dict(pair=range(5))), "2/2")
    assert rows["pair"].tolist() == [2, 3, 4]


@pytest.mark.parametrize("shard", ["0/3", "4/3", "2", "", "2/0", "a/b", "1/3/3", None])
def test_what_is_no_shard_is_refused(shard):
    with pytest.raises(ValueError, match='shard must be "k/n" with k from 1 to n'):
        part_of(pd.DataFrame(dict(pair=range(5))), shard)


def test_more_shards_than_images_are_refused():
    with pytest.raises(ValueError, match="5 images or pairs cannot be divided into 6 shards; take fewer"):
        part_of(pd.DataFrame(dict(pair=range(5))), "1/6")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "05_calibration"


def rows_of(ids, conditions=("b", "a")) -> pd.DataFrame:
    table = pd.DataFrame([dict(condition=c, sample_id=i, value=10.0 * i) for c in conditions for i in ids])
    return table.assign(model="m", model_seed=0, dataset="d")


def save_part(place, shard: str, ids, *, parameters=None, **more) -> None:
    facts = dict(parameters=parameters or {"seed": 0}, provenance={"device": shard}, weights={"w": "0"})
    save_table(rows_of(ids, **more), place.parent, "05_calibration", "m", shard=shard, loops=["condition"], **facts)


def test_parts_come_back_in_the_order_of_one_run(place):
    save_part(place, "2/2", [3, 4])
    save_part(place, "1/2", [7, 1])  # the order of the images is theirs, not of their numbers
    expected = rows_of([7, 1, 3, 4])
    pd.testing.assert_frame_equal(load_parts(place.parent, "05_calibration", "m"), expected)
    pd.testing.assert_frame_equal(load_table(place.parent, "05_calibration", "m", columns=["value"]), expected)
    with pytest.raises(ValueError, match="lacks the columns nothing"):
        load_table(place.parent, "05_calibration", "m", columns=["nothing"])


def test_a_whole_table_is_read_before_parts_that_are_being_made(place):
    save_table(rows_of([1, 2]), place.parent, "05_calibration", "m", parameters={}, provenance={})
    save_part(place, "1/2", [7])
    assert load_table(place.parent, "05_calibration", "m")["sample_id"].tolist() == [1, 2, 1, 2]


def test_a_missing_part_is_named(place):
    save_part(place, "1/4", [1])
    save_part(place, "3/4", [3])
    for load in (load_parts, load_table):
        with pytest.raises(FileNotFoundError, match=r"the parts 2/4, 4/4 are missing.*05_model_calibration.*`shard`"):
            load(place.parent, "05_calibration", "m")
    with pytest.raises(FileNotFoundError, match="the parts 1/n to n/n are missing"):
        load_parts(place.parent, "05_calibration", "other")


def test_a_part_whose_facts_were_not_written_is_missing(place):
    save_part(place, "1/2", [1])
    save_part(place, "2/2", [2])
    (place / "m.2of2.json").unlink()
    with pytest.raises(FileNotFoundError, match="the parts 2/2 are missing"):
        load_parts(place.parent, "05_calibration", "m")


def test_parts_of_two_divisions_are_refused(place):
    save_part(place, "1/2", [1])
    save_part(place, "2/2", [2])
    save_part(place, "3/3", [3])
    with pytest.raises(ValueError, match="parts of 2 and of 3 shards"):
        load_parts(place.parent, "05_calibration", "m")


def test_an_image_in_two_parts_is_refused_and_named(place):
    save_part(place, "1/2", [1, 2])
    save_part(place, "2/2", [2, 3])
    with pytest.raises(ValueError, match=r"m\.2of2\.parquet measured what another part has too: .*sample_id 2"):
        load_parts(place.parent, "05_calibration", "m")


@pytest.mark.parametrize("other", ["parameters", "columns"])
def test_parts_made_in_different_ways_are_refused(place, other):
    save_part(place, "1/2", [1])
    if other == "columns":
        facts = dict(loops=["condition"], parameters={"seed": 0}, provenance={}, weights={"w": "0"})
        save_table(rows_of([2]).drop(columns="value"), place.parent, "05_calibration", "m", shard="2/2", **facts)
    else:
        save_part(place, "2/2", [2], parameters={"seed": 1})
    with pytest.raises(ValueError, match="were made in different ways"):
        load_parts(place.parent, "05_calibration", "m")


def test_a_part_that_left_a_condition_out_is_refused(place):
    save_part(place, "1/2", [1])
    save_part(place, "2/2", [2], conditions=("b",))
    with pytest.raises(ValueError, match=r"m\.2of2\.parquet went through other values of condition than m\.1of2"):
        load_parts(place.parent, "05_calibration", "m")


def test_parts_are_held_to_what_is_asked_and_to_their_checksums(place):
    save_part(place, "1/2", [1])
    save_part(place, "2/2", [2])
    with pytest.raises(ValueError, match=r"m\.1of2\.parquet was made with other parameters \(seed is 0, asked 5\)"):
        load_parts(place.parent, "05_calibration", "m", parameters={"seed": 5})
    with pytest.raises(ValueError, match=r"made with other weights"):
        load_table(place.parent, "05_calibration", "m", weights={"w": "1"})
    with open(place / "m.2of2.parquet", "r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match=r"m\.2of2\.parquet is not the table its JSON describes"):
        load_parts(place.parent, "05_calibration", "m")


def test_a_part_must_say_of_which_image_a_row_is(place):
    rows = rows_of([1]).drop(columns="sample_id")
    with pytest.raises(ValueError, match="lacks the columns sample_id or pair"):
        save_table(rows, place.parent, "05_calibration", "m", shard="1/2", parameters={}, provenance={})
    assert not place.exists()
    with pytest.raises(ValueError, match="lacks the columns nothing"):
        save_table(rows_of([1]), place.parent, "05_calibration", "m", loops=["nothing"], parameters={}, provenance={})


def test_a_gathered_table_says_what_measured_its_parts(place):
    save_part(place, "1/2", [1])
    save_part(place, "2/2", [2])
    whole = load_parts(place.parent, "05_calibration", "m")
    path = save_table(whole, place.parent, "05_calibration", "m", shard=GATHER, loops=["condition"],
                      parameters={"seed": 0}, provenance={"device": "here"})  # fmt: skip
    facts = json.loads(path.with_suffix(".json").read_text())
    assert path.name == "m.parquet" and facts["provenance"]["device"] == "here"
    assert [part["device"] for part in facts["provenance"]["parts"]] == ["1/2", "2/2"]
