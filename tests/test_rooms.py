"""The rule of the house: an experiment's word names all that belongs to it; what counts and draws needs no torch."""

import ast
import graphlib
import importlib
import subprocess
import sys

import nbformat
import pytest

from src.paths import ROOT
from src.results import NOTEBOOKS, WORDS

SRC = ROOT / "src"
FILES = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(SRC.rglob("*.py"))}
MODULES = {name.removesuffix(".__init__"): path for path, name in FILES.items()}
NOT_MEASURED = ("calibration", "finetuning")  # predicting or training is all there is to it
BLOCKED = """
import importlib, sys

class NoTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ImportError("torch is blocked here")

sys.meta_path.insert(0, NoTorch())
for module in sys.argv[1:]:
    importlib.import_module(module)
"""


@pytest.mark.parametrize("word", WORDS.values())
def test_a_word_names_all_that_belongs_to_it(word):
    assert f"src.tables.{word}" in MODULES and f"src.plotting.{word}" in MODULES
    assert (f"src.{word}" in MODULES) == (word not in NOT_MEASURED)
    assert list((ROOT / "tests" / word).glob("test_*.py"))
    assert (ROOT / "benchmarks" / f"bench_{word}.py").exists() or word == "finetuning"
    assert f"`{word}`" in (ROOT / "README.md").read_text()
    folders = {path.name for path in (ROOT / "results" / "cifar10").iterdir() if path.is_dir()}
    assert folders == set(NOTEBOOKS) and any(name.endswith(word) for name in folders)


def test_no_flat_file_is_left_beside_the_rooms():
    flat = {path.stem for path in SRC.glob("*.py")}
    assert flat == {
        "__init__",
        "study",
        "results",
        "runs",
        "names",
        "parameters",
        "seeding",
        "runtime",
        "files",
        "paths",
    }


def imported(path) -> set[str]:
    """The modules of src that a file imports, at its top or in a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "src":
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inner & set(MODULES)) or {node.module}
    return names


def test_no_module_imports_itself_by_a_detour():
    graph = {name: imported(path) - {name} for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > 100
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("room", ["src.tables", "src.plotting", "src.data", "src.results"])
def test_tables_figures_and_images_need_no_torch(room):
    modules = [name for name in MODULES if name.startswith(room)] if room in ("src.tables", "src.plotting") else [room]
    done = subprocess.run([sys.executable, "-c", BLOCKED, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", sorted(name for name, path in MODULES.items() if path.stem == "__init__"))
def test_a_package_lists_what_is_its_own(room):
    package = importlib.import_module(room)
    assert room == "src" or dir(package) == sorted(package.__all__)
    assert not {"F", "nn", "np", "pd", "Tensor", "torch"} & set(dir(package))
    assert all(hasattr(package, name) for name in getattr(package, "__all__", ()))


def test_notebooks_are_thin():
    lines = 0
    for notebook in sorted(ROOT.glob("0*.ipynb")):
        cells = nbformat.read(notebook, as_version=4).cells
        assert 12 <= len(cells) <= 20, f"{notebook.name} has {len(cells)} cells"
        for cell in cells:
            if cell.cell_type == "code":
                lines += sum(bool(line.strip()) for line in cell.source.splitlines())
                for node in ast.walk(ast.parse(cell.source)):
                    if isinstance(node, ast.FunctionDef):
                        assert node.end_lineno - node.lineno < 5, f"{notebook.name}: {node.name} belongs into src"
    assert lines <= 1_050
