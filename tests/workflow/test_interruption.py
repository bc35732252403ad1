"""The study can be killed at any moment and goes on: nothing finished is lost, nothing half-written is read.

KILLS=20 python -m pytest tests/workflow/test_interruption.py        # by hand; otherwise 3 kills of one graph
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from graph import CONFIG, TABLES, finish, make_copy, start, tables_of

from src.files import written_whole
from src.paths import ROOT
from src.results import load_facts, load_table, save_table
from workflow.checks import RULES
from workflow.run import sweep

KILLS = int(os.environ.get("KILLS", "3"))


def test_a_killed_graph_goes_on_to_the_same_tables(undisturbed, tmp_path):
    reference, seconds = undisturbed
    folder, moment = make_copy(tmp_path / "copy"), random.Random(0)
    assert len(pages_done(reference)) == 2
    for page in pages_done(reference):  # a notebook says what it was made of by name, without a copy of it
        made_of = nbformat.read(page.with_suffix(".ipynb"), as_version=4).metadata.papermill.input_path
        assert made_of == f"{page.stem}.ipynb"
    finished: dict[str, int] = {}
    for _ in range(KILLS):
        run = start(folder)
        time.sleep(moment.uniform(1, 0.9 * seconds))
        os.killpg(run.pid, signal.SIGKILL)  # Snakemake, papermill and the kernel
        run.communicate()
        subprocess.run(["pkill", "-KILL", "-f", str(folder)], check=False)  # kernels lead sessions of their own
        for page in pages_done(folder):
            assert page.stat().st_mtime_ns == finished.setdefault(page.name, page.stat().st_mtime_ns), "was made again"
            assert "</html>" in page.read_text()[-200:]
        for notebook, experiment in (("04a_cka", "04a_cka"), ("05_model_calibration", "05_calibration")):
            if f"{notebook}.html" in finished:
                for key in TABLES:
                    assert key[0] != experiment or len(load_table(folder / "runs" / "killed", *key))
    finish(folder)
    for name, made in finished.items():
        assert (folder / "runs" / "killed" / "notebooks" / name).stat().st_mtime_ns == made, f"{name} was made again"
    expected, found = tables_of(reference), tables_of(folder)
    for key in TABLES:
        pd.testing.assert_frame_equal(found[key], expected[key])
    assert "Nothing to be done" in finish(folder)
    assert (folder / "runs" / "killed" / "report.html").exists() and not list(folder.glob("runs/**/*.partial"))


def pages_done(folder: Path) -> list[Path]:
    """The pages of the notebooks that the last run has finished: a page may be there a moment before its job is."""
    log, pages = folder / "runs" / "killed" / "log.txt", folder / "runs" / "killed" / "notebooks"
    said = log.read_text() if log.exists() else ""
    return [pages / f"{name}.html" for name, rule in RULES.items() if re.search(rf"Finished .*Rule: {rule}\)", said)]


def test_what_a_killed_run_left_half_written_is_swept_away(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "figures").mkdir()
    stale, live = (tmp_path / "figures" / f"a.pdf.{pid}.partial" for pid in (gone.pid, os.getpid()))
    others = [tmp_path / "figures" / name for name in ("a.pdf", "b.partial")]
    for path in (stale, live, *others):
        path.touch()
    sweep(tmp_path)
    assert sorted((tmp_path / "figures").iterdir()) == sorted([live, *others])


def test_two_runs_at_once_are_refused(finished):
    report, log = (finished / "runs" / "killed" / name for name in ("report.html", "log.txt"))
    report.unlink()
    log.unlink()
    first = start(finished)
    while not log.exists():  # which is written by who has the lock
        assert first.poll() is None
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGSTOP)  # it holds the lock for as long as the second takes to ask for it
    second = start(finished)
    said, _ = second.communicate(timeout=300)
    assert second.returncode != 0 and "run killed is going on already" in said and "Traceback" not in said
    os.killpg(first.pid, signal.SIGCONT)
    first.communicate(timeout=600)
    assert first.returncode == 0 and report.exists()


def test_deleting_one_table_makes_that_notebook_again_and_no_other(finished):
    folder = finished
    other = folder / "runs" / "killed" / "notebooks" / "04a_cka.ipynb"
    before = other.stat().st_mtime_ns
    (folder / "runs" / "killed" / "05_calibration" / "mlp.parquet").unlink()
    finish(folder)
    assert (folder / "runs" / "killed" / "05_calibration" / "mlp.parquet").exists()
    assert other.stat().st_mtime_ns == before


def test_a_kernel_that_dies_says_so_and_the_rest_is_done(tmp_path):
    folder = make_copy(tmp_path / "copy")
    good = nbformat.read(folder / "04a_cka.ipynb", as_version=4)
    broken = nbformat.from_dict(good)
    broken.cells[2].source = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    (folder / "04a_cka.ipynb").unlink()
    nbformat.write(broken, folder / "04a_cka.ipynb")
    run = start(folder)
    said, _ = run.communicate(timeout=600)
    assert run.returncode != 0 and "Kernel died" in said
    assert (folder / "runs" / "killed" / "notebooks" / "05_model_calibration.html").exists()
    assert not (folder / "runs" / "killed" / "notebooks" / "04a_cka.html").exists()
    assert not (folder / "runs" / "killed" / "report.html").exists()
    before = (folder / "runs" / "killed" / "notebooks" / "05_model_calibration.html").stat().st_mtime_ns
    (folder / "04a_cka.ipynb").unlink()
    (folder / "04a_cka.ipynb").symlink_to(ROOT / "04a_cka.ipynb")
    finish(folder)
    assert (folder / "runs" / "killed" / "notebooks" / "05_model_calibration.html").stat().st_mtime_ns == before


@contextmanager
def mounted(folder: Path, options: str):
    """An empty file system in memory at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small file system")
def test_faults_of_the_disk_and_a_truncated_weight_are_named_and_the_next_run_goes_on(undisturbed, tmp_path):
    """Nothing half-written is left by any fault, and the run after them makes the tables of an undisturbed one."""
    folder = make_copy(tmp_path / "copy", CONFIG | {"notebooks": ["05_model_calibration"]})
    results = folder / "runs" / "killed" / "05_calibration"
    (folder / "mlp_models").unlink()
    shutil.copytree(ROOT / "mlp_models", folder / "mlp_models")
    weights = folder / "mlp_models" / "mlp_fashion_mnist.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    assert "mlp_fashion_mnist.safetensors is not the file its card describes" in failed(folder)
    weights.write_bytes(whole)
    with mounted(results, "size=8k"):
        assert "No space left on device" in failed(folder)
        assert [path.name for path in results.iterdir()] == []
    with mounted(results, "size=1m"):
        subprocess.run(["mount", "-o", "remount,ro", results], check=True)
        said = failed(folder)
        assert "Read-only file system" in said and "05_calibration" in said
    assert not list(folder.rglob("*.partial"))
    finish(folder)
    expected = pd.read_parquet(undisturbed[0] / "runs" / "killed" / "05_calibration" / "mlp.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(results / "mlp.parquet"), expected)


def failed(folder: Path) -> str:
    """What a run says that cannot end well."""
    run = start(folder)
    said, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    return said


FULL = """
import resource, signal, sys
import pandas as pd
from src.results import save_table
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
table = pd.DataFrame(dict(model="m", model_seed=0, dataset="d", condition="c", value=range(100_000)))
save_table(table, sys.argv[1], "04a_cka", "hsic", parameters={}, provenance={})
"""


def some_table(rows: int) -> pd.DataFrame:
    return pd.DataFrame(dict(model="m", model_seed=0, dataset="d", condition="c", value=range(rows)))


def test_a_full_disk_leaves_the_old_table(tmp_path):
    """A file may not grow beyond 20 kB, as on a disk that is full: the error is seen, and the old table stays."""
    save_table(some_table(10), tmp_path / "d", "04a_cka", "hsic", parameters={}, provenance={})
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "OSError" in done.stderr
    assert (
        len(load_table(tmp_path / "d", "04a_cka", "hsic")) == 10
        and load_facts(tmp_path / "d", "04a_cka", "hsic")["rows"] == 10
    )
    assert sorted(path.name for path in (tmp_path / "d" / "04a_cka").iterdir()) == ["hsic.json", "hsic.parquet"]


def test_a_results_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "d").write_text("a file where a folder should be: root may write anywhere else")
    with pytest.raises(OSError, match=str(tmp_path / "d")):
        save_table(some_table(3), tmp_path / "d", "04a_cka", "hsic", parameters={}, provenance={})
    with pytest.raises(FileNotFoundError, match="Run 04a_cka.ipynb to make it"):
        load_table(tmp_path / "d", "04a_cka", "hsic")


def test_writing_dies_between_table_and_facts(tmp_path):
    """The parquet is new and its JSON old: the table is refused, and made again it is whole."""
    path = save_table(some_table(10), tmp_path / "d", "04a_cka", "hsic", parameters={}, provenance={})
    with written_whole(path) as partial:
        some_table(20).to_parquet(partial, index=False)
    with pytest.raises(ValueError, match="half-written or altered"):
        load_table(tmp_path / "d", "04a_cka", "hsic")
    save_table(some_table(20), tmp_path / "d", "04a_cka", "hsic", parameters={}, provenance={})
    assert len(load_table(tmp_path / "d", "04a_cka", "hsic")) == 20


def test_a_notebook_that_fails_keeps_its_earlier_tables_and_is_kept_to_read(finished):
    """Even one that fails in its last cell, after new tables were written, leaves whole tables; all else stays."""
    folder, run = finished, finished / "runs" / "killed"
    before = {path: path.read_bytes() for path in run.rglob("*.parquet")}
    config = CONFIG | {"05_model_calibration": dict(models=["mlp"], model_seeds=[99], n_resamples=20)}
    (folder / "killed.yaml").write_text(yaml.safe_dump(config))
    said = failed(folder)
    assert "no weights mlp_fashion_mnist_seed99.safetensors" in said and "05_model_calibration.failed.ipynb" in said
    assert {path: path.read_bytes() for path in run.rglob("*.parquet")} == before
    notebook = nbformat.read(run / "notebooks" / "05_model_calibration.failed.ipynb", as_version=4)
    assert any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", []))
    (folder / "killed.yaml").write_text(yaml.safe_dump(CONFIG))
    finish(folder)
    assert {path: path.read_bytes() for path in run.rglob("*.parquet")} == before
    assert not (run / "notebooks" / "05_model_calibration.failed.ipynb").exists()


def test_changed_code_and_changed_weights_run_their_notebooks_again_and_no_others(finished):
    folder = finished
    pages = folder / "runs" / "killed" / "notebooks"

    def made_again() -> list[str]:
        before = {page: page.stat().st_mtime_ns for page in pages.glob("*.html")}
        finish(folder)
        return sorted(page.stem for page in before if page.stat().st_mtime_ns != before[page])

    source = folder / "src" / "tables" / "calibration" / "measures.py"
    text = source.read_text()
    source.write_text(f"# a comment\n{text}")
    assert made_again() == []
    source.write_text(f"{text}\nNEW = 1\n")
    assert made_again() == ["05_model_calibration"]
