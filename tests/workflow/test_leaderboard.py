"""The leaderboard: every network with its axes, what was printed in 2023, and a folder that cannot be read."""

import shutil

import pytest

from src import paths
from workflow import leaderboard


@pytest.fixture
def two_folders(tmp_path, monkeypatch):
    """The published tables of CIFAR-100 and a run that is a copy of it, with one JSON that is none."""
    for root in ("results", "runs"):
        shutil.copytree(paths.RESULTS / "cifar100", tmp_path / root / "cifar100")
    shutil.copytree(paths.RESULTS / "published", tmp_path / "results" / "published")
    next((tmp_path / "runs" / "cifar100" / "05_calibration").glob("*.json")).write_text("{")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    return tmp_path


def test_a_network_is_a_row_and_a_broken_folder_is_named(two_folders, capsys):
    leaderboard.main()
    assert "left out of the leaderboard" in capsys.readouterr().out
    table = leaderboard.leaderboard().set_index(["data", "tables", "network"])
    cnn = table.loc[("cifar100", "results/cifar100", "CNN")]
    assert cnn["Accuracy (%) ↑"] == "68.9 [68, 69.8], n = 10,000"
    printed = table.loc[("cifar100", "2023 report, as printed", "CNN")]
    assert printed["Accuracy (%) ↑"] == "78.9" and printed["Time for one image (ms) ↓"] == "–"
    page = (two_folders / "runs" / "leaderboard.html").read_text(encoding="utf-8")
    assert page.count("<tr") == len(table) + 1 and "add yours" in page.lower() and "<script>" in page
