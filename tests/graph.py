"""A small graph of notebooks in a folder of its own, run as users run it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from src.paths import ROOT
from src.results import load_table

SMALL_CKA = dict(
    models=["mlp", "vit"],
    n_untrained=1,
    n_images=32,
    batch_size=8,
    n_permutations=5,
    n_resamples=20,
    n_measured=32,
    measured_batch_size=16,
)
CONFIG = {
    "run": "killed",
    "dataset": "fashion_mnist",
    "notebooks": ["04a_cka", "05_model_calibration"],
    "04a_cka": SMALL_CKA,
    "05_model_calibration": dict(models=["mlp"], n_test=200, n_resamples=20),
}
TABLES = [("04a_cka", name) for name in ("hsic", "null", "measures", "layers")] + [("05_calibration", "mlp")]


def link_repository(folder: Path) -> Path:
    """The repository as links in a new folder, which has its own of what runs write."""
    folder.mkdir()
    own = ("results", "runs", "figures", "checkpoints", ".git", ".snakemake", "src", "workflow")
    for entry in ROOT.iterdir():
        if entry.name not in own:
            (folder / entry.name).symlink_to(entry)
    for name in ("src", "workflow"):  # paths are anchored on the modules' own place
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def make_copy(folder: Path, config: dict = CONFIG) -> Path:
    """A linked repository with a small study of its own, and of what is published the verdicts that the page reads.

    The leaderboard would count all published tables again at the end of each run, which a test of its own looks at.
    """
    (link_repository(folder) / "killed.yaml").write_text(yaml.safe_dump(config))
    (folder / "results").mkdir()
    for name in ("claims.parquet", "published"):
        (folder / "results" / name).symlink_to(ROOT / "results" / name)
    return folder


def start(folder: Path, *, profile: str = "local", more: tuple[str, ...] = ()) -> subprocess.Popen:
    """The graph, as `make report` runs it."""
    command = ["-m", "workflow.run", "--profile", f"workflow/profiles/{profile}", "--snakefile", "workflow/Snakefile"]
    command += ["--configfile", "killed.yaml", "--cores", "1", *more]
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # the rules call `python`
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(folder: Path, **options) -> str:
    run = start(folder, **options)
    said, _ = run.communicate(timeout=600)
    assert run.returncode == 0, said
    return said


def tables_of(folder: Path) -> dict[tuple[str, str], pd.DataFrame]:
    return {key: load_table(folder / "runs" / "killed", *key) for key in TABLES}
