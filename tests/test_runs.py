"""The folder of a run, and the hash of the code that makes its tables."""

import json

import nbformat
import pytest

from src import paths, runs
from src.results import NOTEBOOKS
from src.runs import code_hash, find_tables, load_run, open_run, weight_checksums

HEAD = "from src.b import c\n\n\ndef f():\n"
DATA = {"name": "some", "classes": ["a", "b"]}


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")


def test_a_run_is_opened_once_and_entered_again():
    folder = open_run("mine", "some", DATA)
    assert folder == paths.RUNS / "mine" and load_run(folder) == {"run": "mine", "dataset": "some", "data": DATA}
    before = (folder / "run.json").stat().st_mtime_ns
    assert open_run("mine", "some", DATA) == folder and (folder / "run.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("dataset", "data", "says"),
    [
        ("other", DATA, "run 'mine' is on some, not other; name another run, or delete"),
        ("some", DATA | {"classes": ["a"]}, "the images of some are not those that run 'mine' began with"),
    ],
)
def test_a_run_holds_one_kind_of_data(dataset, data, says):
    open_run("mine", "some", DATA)
    with pytest.raises(ValueError, match=says):
        open_run("mine", dataset, data)
    assert load_run(paths.RUNS / "mine")["data"] == DATA


def test_folders_that_are_no_run_are_named():
    with pytest.raises(FileNotFoundError, match="no folder of tables 'runs/none'; choose from results/cifar10, "):
        find_tables("runs/none")
    with pytest.raises(FileNotFoundError, match="choose from"):
        find_tables("")
    assert find_tables("results/cifar10") == paths.RESULTS / "cifar10"
    with pytest.raises(FileNotFoundError, match="holds no run"):
        load_run(paths.ROOT / "src")
    folder = open_run("mine", "some", DATA)
    (folder / "run.json").write_text("{")
    with pytest.raises(ValueError, match="run.json is damaged"):
        load_run(folder)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A small repository: a notebook that imports `src.a`, which imports `src.b.c`; none uses `src.b.e` or `src.d`."""
    files = {
        "a.py": "from src.b import c\n\n\ndef f():\n    return c.x\n",
        "b/__init__.py": "from src.b import c, e\n",
        "b/e.py": "w = 1\n",
        "b/c.py": "x = 1\n",
        "d.py": "y = 1\n",
        "plotting/__init__.py": "z = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    new = nbformat.v4
    cells = ["n = 1", "from src import plotting\nfrom src.a import f", "study.save(f(), 'a')", "print(1)"]
    notebook = new.new_notebook(cells=[new.new_code_cell(cell) for cell in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, tmp_path / "n.ipynb")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def hashes(house) -> tuple[str, str]:
    for cached in (runs._imported_by_file, runs._bare_file):
        cached.cache_clear()
    return code_hash("n.ipynb"), code_hash("n.ipynb", drawing=True)


def edit_cell(house, number, source):
    notebook = nbformat.read(house / "n.ipynb", as_version=4)
    notebook.cells[number].source = source
    nbformat.write(notebook, house / "n.ipynb")


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("b/c.py", "x = 2\n", (True, True)),
        ("b/__init__.py", "import os\n", (True, True)),
        ("a.py", "from src import b\n\n\ndef f():\n    return b.e.w\n", (True, True)),
        ("a.py", "from src import b as bb\n\n\ndef f():\n    return bb.e.w\n", (True, True)),
        ("a.py", f'"""Doc."""\n{HEAD}    """Another,\n    # long."""\n\n    return c.x  # one\n', (False, False)),
        ("a.py", f"{HEAD}    return c.x + 1\n", (True, True)),
        ("a.py", f'{HEAD}    return c.x, "# no comment"\n', (True, True)),
        ("d.py", "y = 2\n", (False, False)),
        ("b/e.py", "w = 2\n", (False, False)),
        ("plotting/__init__.py", "z = 2\n", (False, True)),
    ],
)  # fmt: skip
def test_the_hash_is_of_the_code_that_makes_the_tables(house, file, text, changed):
    before = hashes(house)
    (house / "src" / file).write_text(text)
    assert tuple(new != old for new, old in zip(hashes(house), before, strict=True)) == changed


def test_a_module_of_a_package_under_another_name_is_seen(house):
    (house / "src" / "a.py").write_text("from src import b as bb\n\n\ndef f():\n    return bb.e.w\n")
    before = hashes(house)
    (house / "src" / "b" / "e.py").write_text("w = 2\n")
    assert hashes(house) != before


def test_a_module_that_is_run_by_its_name_is_seen(house):
    (house / "src" / "a.py").write_text("def f():\n    return run('src.d')\n")
    before = hashes(house)
    (house / "src" / "d.py").write_text("y = 2\n")
    assert hashes(house) != before


@pytest.mark.parametrize(
    ("cell", "source", "changed"),
    [
        (0, "n = 2", (False, False)),
        (1, "from src.a import f", (True, True)),
        (2, "study.save(f() + 1, 'a')", (True, True)),
        (3, "print(2)", (False, True)),
    ],
)
def test_the_hash_is_of_the_cells_up_to_the_tables(house, cell, source, changed):
    before = hashes(house)
    edit_cell(house, cell, source)
    assert tuple(new != old for new, old in zip(hashes(house), before, strict=True)) == changed


def test_every_notebook_has_a_hash_of_its_own():
    found = {code_hash(notebook) for notebook in NOTEBOOKS.values()}
    assert len(found) == len(NOTEBOOKS) and all(len(value) == 16 for value in found)


def test_published_tables_say_what_they_are():
    for folder in paths.RESULTS.glob("*/run.json"):
        about = json.loads(folder.read_text())
        dataset = folder.parent.name.removesuffix("_controls")
        assert about["dataset"] == dataset and len(about["data"]["classes"]) in (10, 100)


def test_weights_and_own_code_of_a_run_are_known_by_their_checksums(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    files = {
        "runs/r/weights/mine_d.safetensors": b"a",
        "mlp_models/mlp_d.safetensors": b"b",
        "own.py": b"c",
        "w.pt": b"d",
    }
    files |= {"mlp_models/mlp_d_seed1.safetensors": b"e", "runs/r/weights/mlp_d.safetensors": b"f"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    asked = {
        "dataset": "d=folder:x",
        "models": ["mine=own.py:build", "mlp", "o=own.py:build@w.pt", "cnn", "x@untrained"],
    }

    def found(**more) -> set[str]:
        return set(weight_checksums(asked | more, "runs/r"))

    expected = {"runs/r/weights/mine_d.safetensors", "runs/r/weights/mlp_d.safetensors", "own.py", "w.pt"}
    assert found() == expected
    (tmp_path / "runs/r/weights/mlp_d.safetensors").unlink()
    by_model = found(models=["mlp", "cnn"], model_seeds={"mlp": [0, 1]})
    both = found(models=["mlp"], model_seeds=[0, 1])
    assert by_model == both and found(models=[], backbone="mlp") == {"mlp_models/mlp_d.safetensors"}
    assert both == {"mlp_models/mlp_d.safetensors", "mlp_models/mlp_d_seed1.safetensors"}
    (tmp_path / "cnn_models").mkdir()
    (tmp_path / "cnn_models" / "cnn_elsewhere.safetensors").write_bytes(b"g")
    painters = ["random filters", "cnn on elsewhere", "compared", "mlp"]
    assert found(models=["mlp"], painters=painters) == {
        "mlp_models/mlp_d.safetensors",
        "cnn_models/cnn_elsewhere.safetensors",
    }
    before = weight_checksums(asked, "runs/r")
    (tmp_path / "own.py").write_bytes(b"other")
    after = weight_checksums(asked, "runs/r")
    assert before.keys() == after.keys() and sum(before[name] != after[name] for name in before) == 1
