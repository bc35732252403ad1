"""What the code itself may not do: run or unpickle what it is given, or leave the encoding of a file to the machine."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from src.paths import ROOT

FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py"), *ROOT.glob("*.ipynb")])
OWN = "src/models/own.py"  # runs the file that a user has named, and says so: tests/models/test_own.py
CALLS = {  # never called: the last part of a name, or all of it
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "pickle.load", "pickle.loads",
    "pickle.Unpickler", "pd.read_pickle", "marshal.loads", "shelve.open", "joblib.load", "yaml.load", "torch.hub.load",
    "exec_module", "load_module", "runpy.run_path",
}  # fmt: skip
MUST = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False), "numpy.load": ("allow_pickle", False)}
NEVER = {"shell": True, "trust_remote_code": True, "weights_only": False, "allow_pickle": True}
TEXT = ("read_text", "write_text", "open", "Path.open")


def parsed(path: Path) -> ast.Module:
    if path.suffix == ".py":
        return ast.parse(path.read_text(encoding="utf-8"))
    cells = nbformat.read(path, as_version=4).cells
    return ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))


def calls(tree: ast.Module):
    """(name, its keywords, its plain arguments, line) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {
                key.arg: key.value.value if isinstance(key.value, ast.Constant) else ... for key in node.keywords
            }
            plain = [value.value if isinstance(value, ast.Constant) else ... for value in node.args]
            yield ast.unparse(node.func), keywords, plain, node.lineno


def dangers(tree: ast.Module) -> list[str]:
    """Calls that would run or unpickle what comes from outside."""
    found = []
    for name, keywords, _, line in calls(tree):
        last, (key, value) = name.rpartition(".")[2], MUST.get(name, ("", None))
        bad = name in CALLS or (last in CALLS and last in ("exec_module", "load_module"))
        bad = bad or (name in MUST and keywords.get(key, ...) is not value)
        if bad or any(keywords.get(key) == value for key, value in NEVER.items() if key in keywords):
            found.append(f"line {line}: {name}")
    return found


def unsaid_encodings(tree: ast.Module) -> list[str]:
    """Texts that are read or written in the machine's own encoding."""
    found = []
    for name, keywords, plain, line in calls(tree):
        if name == "os.open" or name.endswith(("Image.open", "gzip.open")):
            continue
        mode = keywords.get("mode") or next((value for value in plain if re.fullmatch(r"[rwax+bt]+", str(value))), "r")
        if name.rpartition(".")[2] in TEXT and "b" not in mode and keywords.get("encoding") != "utf-8":
            found.append(f"line {line}: {name}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_runs_or_unpickles_what_it_is_given_and_all_text_is_utf8(path):
    known = ["spec.loader.exec_module"] if str(path.relative_to(ROOT)) == OWN else []
    assert [danger.partition(": ")[2] for danger in dangers(parsed(path))] == known
    assert unsaid_encodings(parsed(path)) == []


@pytest.mark.parametrize(
    "code",
    [
        "eval('1')",
        "exec(source, names)",
        "pickle.load(file)",
        "pickle.loads(content)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
        "datasets.load_dataset(name, trust_remote_code=True)",
        "spec.loader.exec_module(module)",
        "yaml.load(text)",
    ],
)
def test_the_search_finds_what_it_is_for(code):
    assert len(dangers(ast.parse(code))) == 1


@pytest.mark.parametrize("code", ["path.read_text()", "open(path)", "open(path, 'w')", "path.write_text(text)"])
def test_the_search_finds_texts_without_encoding(code):
    assert len(unsaid_encodings(ast.parse(code))) == 1


@pytest.mark.parametrize(
    "code", ["model.eval()", "open(path, 'rb')", "torch.load(f, weights_only=True)", "re.compile(x)"]
)
def test_the_search_leaves_harmless_calls_alone(code):
    assert dangers(ast.parse(code)) == unsaid_encodings(ast.parse(code)) == []


def test_the_graph_hands_every_value_to_the_shell_as_one_word():
    text = (ROOT / "workflow" / "Snakefile").read_text(encoding="utf-8")
    commands = re.findall(r"shell:\s*\n((?:\s*\"[^\n]*\n)+)", text)
    assert len(commands) == 4 == text.count("shell:")
    values = [re.findall(r"\{([^}]*)\}", command) for command in commands]
    assert [bool(names) for names in values] == [True, True, True, False]  # the leaderboard is of all runs
    assert all(name.endswith(":q") for names in values for name in names), commands
