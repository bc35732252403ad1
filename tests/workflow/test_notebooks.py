"""Every notebook runs top to bottom, small; and is kept the way notebooks are kept here."""

import ast
import subprocess
import sys

import nbformat
import papermill
import pytest
from graph import SMALL_CKA, link_repository

from src.paths import ROOT

# notebook -> overrides that make it small enough for a test
SMALL = {
    "01_vit_finetuning": dict(n_train=200, n_test=100, linear_epochs=2, full_epochs=1, device="cpu"),
    "02_adversarial_robustness": dict(
        models=["mlp", "cnn"], n_curve=20, n_worst=20, apgd_steps=3, n_targets=1, queries=5, pgd_steps=2, device="cpu"
    ),
    "03_texture_shape_bias": dict(  # one network alone, as someone may look at their own
        models=["mlp"], n_images=60, n_pairs=10, n_stylised=4, n_corrupted=2, style_steps=2, device="cpu"
    ),
    "04a_cka": SMALL_CKA | dict(device="cpu"),
    "04b_feature_visualization": dict(
        models=["mlp"], steps=3, n_images=2, n_stages=3, inversion_steps=3, n_statistics=100, device="cpu"
    ),
    "05_model_calibration": dict(models=["mlp", "cnn"], n_test=400, n_resamples=50, device="cpu"),
    "06_inference_time": dict(
        models=["mlp", "cnn"],
        others=[],
        batch_sizes=[1, 4],
        n_processes=2,
        n_repeats=6,
        seconds=0.05,
        device="cpu",
    ),
    "07_plots": dict(n_resamples=20),
}
NOTEBOOKS = sorted(path.stem for path in ROOT.glob("0*.ipynb"))


def test_every_notebook_is_tested():
    assert NOTEBOOKS == sorted(SMALL)


@pytest.fixture
def scratch_copy(tmp_path):
    """The repository as links, with folders of its own for what a notebook writes."""
    folder = link_repository(tmp_path / "copy")
    (folder / "results").symlink_to(ROOT / "results")
    return folder


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebook_runs(notebook, scratch_copy, monkeypatch):
    monkeypatch.chdir(scratch_copy)
    unknown = set(SMALL[notebook]) - set(papermill.inspect_notebook(f"{notebook}.ipynb"))
    assert not unknown, f"not parameters of {notebook}: {unknown}"
    done = papermill.execute_notebook(
        f"{notebook}.ipynb", "executed.ipynb", SMALL[notebook], kernel_name="python3", progress_bar=False
    )
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    warned = [output["text"] for output in outputs if output.get("name") == "stderr" and "Warning" in output["text"]]
    assert not warned
    if notebook == "07_plots":  # reads tables and writes none
        assert len(list((scratch_copy / "figures").glob("07_*.pdf"))) >= 14
        assert not any("left out" in output.get("text", "") and "fashion_mnist" in output["text"] for output in outputs)
    else:
        run = scratch_copy / "runs" / "by_hand_fashion_mnist"
        assert list(run.rglob("*.parquet")) and list((run / "figures").glob("*.pdf"))


def test_plots_names_what_is_missing_and_draws_the_rest(scratch_copy, monkeypatch):
    monkeypatch.chdir(scratch_copy)
    run = scratch_copy / "runs" / "new"
    run.mkdir(parents=True)
    (run / "run.json").write_bytes((ROOT / "results" / "fashion_mnist" / "run.json").read_bytes())
    done = papermill.execute_notebook(
        "07_plots.ipynb",
        "executed.ipynb",
        SMALL["07_plots"] | {"tables": "runs/new"},
        kernel_name="python3",
        progress_bar=False,
    )
    text = "".join(output.get("text", "") for cell in done.cells for output in cell.get("outputs", []))
    for notebook in NOTEBOOKS:
        assert notebook == "07_plots" or f'Run {notebook}.ipynb with run = "new" to make it.' in text
    assert (run / "figures" / "07_report2023_attacks.pdf").exists()


def test_plots_needs_no_torch():
    """The modules that 07 imports, in a Python that has no torch."""
    cell = next(c for c in nbformat.read(ROOT / "07_plots.ipynb", as_version=4).cells if "from src" in c.source)
    nodes = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    imports = [line for line in map(ast.unparse, nodes) if "IPython" not in line]
    assert len(imports) > 5
    block = "import sys\nclass No:\n    def find_spec(self, name, *_):\n        assert name != 'torch'\n"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([block + "sys.meta_path.insert(0, No())", *imports])],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebook_is_thin(notebook):
    cells = nbformat.read(ROOT / f"{notebook}.ipynb", as_version=4).cells
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
    assert tags.count("parameters") == 1 and 12 <= len(cells) <= 20
    for cell in cells:
        lines = cell.source.splitlines()
        assert len(lines) <= 40
        assert cell.cell_type == "markdown" or "keep_output" in cell.metadata.get("tags", []) or not cell.outputs
