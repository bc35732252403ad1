"""Runs: the folder that each writes, the state of the code that made it, and its way to `results/`.

runs/<run>/run.json                 the run and its data
runs/<run>/<experiment>/            tables, see `src.results`
runs/<run>/figures/, weights/       what notebooks draw and train
runs/<run>/notebooks/, report.html  what `make report` executes and writes
"""

import ast
import hashlib
import io
import json
import os
import re
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from src import paths
from src.data.records import WEIGHTS_OF
from src.files import read_json, sha256, written_whole
from src.names import FILES, check_run, parse_dataset, parse_model, parse_painter, seeds_of, weight_files


def find_tables(folder: str | Path) -> Path:
    """A folder of tables by its name, "results/cifar10" or "runs/mine" in the repository, or by its path.

    Raises FileNotFoundError that lists those there are.
    """
    found = paths.ROOT / folder
    if str(folder) and found.is_dir():
        return found
    there = [path.parent for root in (paths.RESULTS, paths.RUNS) for path in sorted(root.glob("*/run.json"))]
    names = ", ".join(f"{path.parent.name}/{path.name}" for path in there)
    raise FileNotFoundError(f"there is no folder of tables {str(folder)!r}; choose from {names}")


def load_run(folder: str | Path) -> dict:
    """What a folder of tables says of itself: run, dataset, data (name, classes, note, checksum).

    Raises FileNotFoundError where no run has written there, and ValueError for a damaged file.
    """
    path = paths.ROOT / folder / "run.json"
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} holds no run: there is no run.json in it")
    return read_json(path, run=str, dataset=str, data=dict)


def open_run(run: str, dataset: str, data: dict) -> Path:
    """The folder of a run, made if it is new, with run.json in it.

    data: name, classes, note and checksum of the images.  Raises ValueError where the run was made with other data, for
    its tables would be of two kinds.
    """
    folder = paths.RUNS / check_run(run)
    facts = {"run": run, "dataset": dataset, "data": data}
    if (folder / "run.json").exists():
        known = load_run(folder)
        if known["dataset"] != dataset:
            raise ValueError(
                f"run {run!r} is on {known['dataset']}, not {dataset}; name another run, or delete {folder}"
            )
        if known["data"] != data:
            raise ValueError(f"the images of {dataset} are not those that run {run!r} began with; name another run")
    else:
        with written_whole(folder / "run.json") as file:
            file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return folder


def published_beside(folder: Path) -> list[Path]:
    """The folders of results/ that hold tables of the images of a run, by their checksum; none of what is no run."""
    if not (folder / "run.json").exists():
        return []
    own, others = load_run(folder)["data"], [path.parent for path in sorted(paths.RESULTS.glob("*/run.json"))]
    return [other for other in others if other != folder and load_run(other)["data"] == own]


def read_cells(notebook: str) -> list[dict]:
    """The cells of a notebook, a file of the repository, as its JSON has them: nbformat takes two seconds to import."""
    return json.loads((paths.ROOT / notebook).read_text(encoding="utf-8"))["cells"]


def code_hash(notebook: str, *, drawing: bool = False) -> str:
    """A short sha256 of the code that makes a notebook's tables: its cells, and the modules of `src` that they import.

    Comments, docstrings and blank lines count for nothing, nor do the notebook's parameters.  drawing: with what comes
    after the tables, the later cells and `src.plotting`.  notebook: file in the repository.
    """
    cells = [cell for cell in read_cells(notebook) if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells if "parameters" not in cell["metadata"].get("tags", [])]
    if not drawing:
        saving = [i for i, source in enumerate(sources) if "study.save(" in source or "study.save_by_model(" in source]
        sources = sources[: max(saving, default=len(sources)) + 1]
    files = sorted(path for path in _closure(sources) if drawing or "plotting" not in path.parts)
    return hash_of(files, sources)


def hash_of(files: Iterable[Path], sources: Iterable[str] = ()) -> str:
    """A checksum of pieces of code and of files of it; comments, docstrings and blank lines count for nothing."""
    bare = [*map(_bare, sources), *map(_bare_file, files)]
    return hashlib.sha256("\n".join(bare).encode()).hexdigest()[:16]


def _imported(source: str, package: str = "") -> set[Path]:
    """The files of `src` that a piece of code imports, at its top or in a function.

    Of a package that lists its modules, as src.tables, those count that the code names: tables.cka.  A module that is
    run by its name counts too.  package: the one
    whose __init__ this is; the modules it lists count where they are named.
    """
    tree, names = ast.parse(source), set()
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "src"]
    called = {alias.asname: alias.name for node in froms for alias in node.names if alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module != package:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"src(\.\w+)+", str(node.value)):
            names.add(node.value)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names |= {f"src.{called.get(node.value.id, node.value.id)}.{node.attr}"}
    packages = {".".join(name.split(".")[:k]) for name in names for k in range(1, name.count(".") + 2)}
    places = [paths.ROOT.joinpath(*name.split(".")) for name in packages if name.split(".")[0] == "src"]
    return {file for place in places for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()}


def _closure(sources: list[str]) -> set[Path]:
    """The files of `src` that pieces of code import, and those that these import, and so on."""
    known, new = set(), set().union(*map(_imported, sources))
    while new:
        known |= new
        new = set().union(*map(_imported_by_file, new)) - known
    return known


@cache
def _imported_by_file(path: Path) -> set[Path]:
    package = ".".join(path.parent.relative_to(paths.ROOT).parts) if path.name == "__init__.py" else ""
    return _imported(path.read_text(encoding="utf-8"), package)


@cache
def _bare_file(path: Path) -> str:
    return _bare(path.read_text(encoding="utf-8"))


def _bare(source: str) -> str:
    """A piece of code without comments, docstrings and blank lines."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and body and isinstance(body[0], ast.Expr):
            if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                first, last = body[0].lineno, body[0].end_lineno
                lines[first - 1 : last] = [""] * (last - first + 1)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = lines[line - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def weight_checksums(settings: dict, folder: str | Path) -> dict[str, str]:
    """file -> sha256 of the weights, and of the code of one's own, that a notebook's models are made of.

    settings: the notebook's parameters.  folder: of the run.  What is not there yet is left out.
    """
    if "dataset" not in settings:
        return {}
    dataset, found = parse_dataset(settings["dataset"])[0], {}
    models = settings.get("models", [])  # none in 01
    seeds = seeds_of(models, settings.get("model_seeds", [0])) if models else {}
    asked = {(model.with_seed(seed), dataset) for model in map(parse_model, models) for seed in seeds[model.label]}
    others = settings.get("judges", []) + [settings[name] for name in ["backbone"] if name in settings]
    asked |= {(parse_model(name), dataset) for name in others}
    painters = map(parse_painter, settings.get("painters", []))  # the others are compared, or have no weights
    for model, trained_on in asked | {(parse_model(name), elsewhere) for name, elsewhere in painters if elsewhere}:
        own, shipped = paths.ROOT / folder / "weights", paths.ROOT / f"{model.reference.partition('_')[0]}_models"
        filed = weight_files(model, trained_on) + weight_files(model, WEIGHTS_OF.get(trained_on, trained_on))
        places = [at / name for at in (own, shipped) for name in filed]
        places = [paths.ROOT / model.weights] if model.weights.endswith(FILES) else places
        files = [next(filter(Path.is_file, places), None), paths.ROOT / model.reference.partition(":")[0]]
        found |= {os.path.relpath(file, paths.ROOT): sha256(file) for file in files if file and file.is_file()}
    return dict(sorted(found.items()))
