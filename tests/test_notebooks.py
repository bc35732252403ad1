"""Every notebook runs top to bottom, small; and is kept the way notebooks are kept here."""

import shutil

import nbformat
import papermill
import pytest

from src.paths import ROOT

# notebook -> overrides that make it small enough for a test
SMALL = {
    "01_vit_finetuning": dict(n_train=200, n_test=100, linear_epochs=2, full_epochs=1, device="cpu"),
    "02_adversarial_robustness": dict(
        models=["mlp", "cnn"], n_curve=20, n_worst=20, apgd_steps=3, n_targets=1, queries=5, pgd_steps=2, device="cpu"
    ),
    "03_texture_shape_bias": dict(
        models=["mlp", "cnn"], n_images=60, n_pairs=10, n_stylised=4, n_corrupted=2, style_steps=2, device="cpu"
    ),
    "04a_cka": dict(
        models=["mlp", "cnn"],
        n_images=32,
        batch_size=8,
        n_permutations=5,
        n_resamples=20,
        n_measured=32,
        measured_batch_size=16,
        device="cpu",
    ),
    "04b_feature_visualization": dict(
        models=["mlp", "cnn"], steps=3, n_images=2, n_stages=3, inversion_steps=3, n_statistics=100, device="cpu"
    ),
    "05_model_calibration": dict(models=["mlp", "cnn"], n_test=400, n_resamples=50, device="cpu"),
    "06_inference_time": dict(models=["mlp", "cnn"], others=[], batch_sizes=[1, 4], n_repeats=6, device="cpu"),
}
NOTEBOOKS = sorted(path.stem for path in ROOT.glob("0*.ipynb"))


def test_every_notebook_is_tested():
    assert NOTEBOOKS == sorted(SMALL)


@pytest.fixture
def scratch_copy(tmp_path):
    """The repository as links, with folders of its own for what a notebook writes."""
    for entry in ROOT.iterdir():
        if entry.name not in ("results", "figures", "vit_models", "checkpoints", "report", ".git"):
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "src").unlink()  # copied instead: paths are anchored on the module's own place
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "vit_models").mkdir()
    for weights in (ROOT / "vit_models").iterdir():
        (tmp_path / "vit_models" / weights.name).symlink_to(weights)
    return tmp_path


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
    assert list((scratch_copy / "results").rglob("*.parquet"))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebook_is_thin(notebook):
    cells = nbformat.read(ROOT / f"{notebook}.ipynb", as_version=4).cells
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
    assert tags.count("parameters") == 1 and 10 <= len(cells) <= 22
    for cell in cells:
        lines = cell.source.splitlines()
        assert len(lines) <= 40
        assert cell.cell_type == "markdown" or "keep_output" in cell.metadata.get("tags", []) or not cell.outputs
