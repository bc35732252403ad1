"""The page and the text of a comparison: what they say, how they look in a browser, and how a wrong name ends."""

import os
import shutil
import subprocess
import sys

import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from src import paths, plotting
from src.results import load_table, save_table
from src.tables import compare
from workflow.compare import as_text, build_page, page_path

TABLES = paths.RESULTS / "cifar10"
KEPT = ("05_calibration", "06_efficiency")
SEEDS = load_table(TABLES, KEPT[0], "cnn")["model_seed"].nunique()  # each an accuracy and a calibration error


def cut(place):
    place.mkdir()
    shutil.copy(TABLES / "run.json", place)
    for experiment in KEPT:
        shutil.copytree(TABLES / experiment, place / experiment)
    return place


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders, B with the CNN's predictions under the MLP's name, slower times, and no ViT."""
    root = tmp_path_factory.mktemp("folders")
    a, b = cut(root / "a"), cut(root / "b")
    facts = dict(parameters={}, provenance={"device": "<another machine>"})
    save_table(load_table(a, KEPT[0], "cnn").assign(model="mlp"), b, KEPT[0], "mlp", **facts)
    times = load_table(a, KEPT[1], "timings")
    save_table(times.assign(ms=times["ms"] * 1.25), b, KEPT[1], "timings", **facts)
    for path in (b / KEPT[0]).glob("vit.*"):
        path.unlink()
    return a, b


@pytest.fixture(scope="module")
def table(folders):
    return compare.compare(*folders)


def test_the_text_names_what_differs_and_what_is_only_in_one(table):
    lines = as_text(table)
    assert lines[1] == f"{2 * SEEDS} differ after Holm's correction, at 0.05."
    assert lines[2].endswith("are not tested: the median changed by +25 % to +25 %.")
    (accuracy,) = (line for line in lines if "accuracy · mlp · clean" in line)
    assert (
        "66.63 % in A, 92.05 % in B, +25.42 points [" in accuracy
        and "(10,000 pairs; p < 0.0001 after Holm)" in accuracy
    )
    assert lines[-1] == f"only in A: 05_calibration/vit ({2 * SEEDS} rows)"


def test_the_figure_has_the_numbers_of_the_table_and_colours_what_differs(table):
    figure = plotting.compare.differences(table[table["experiment"] == KEPT[0]])
    (ax,) = figure.axes
    rows = compare.largest(table[table["experiment"] == KEPT[0]], 15, each=compare.EACH)
    points = [bar.lines[0] for bar in ax.containers]
    assert [point.get_xdata()[0] for point in points] == pytest.approx(100 * rows["difference"].to_numpy())
    for bar, row in zip(ax.containers, rows.to_dict("records"), strict=True):
        ends = bar.lines[2][0].get_segments()[0][:, 0]
        assert ends == pytest.approx([100 * row["low"], 100 * row["high"]])
        assert to_hex(bar.lines[0].get_color()).upper() == plotting.compare.DIFFERS
    assert [text.get_text() for text in ax.texts] == [compare.label_of(row) for _, row in rows.iterrows()]
    costs = plotting.compare.differences(table[table["experiment"] == KEPT[1]])
    colors = {to_hex(bar.lines[0].get_color()).upper() for bar in costs.axes[0].containers}
    assert colors == {plotting.compare.UNTESTED} and len(costs.axes[0].containers) == 15
    plt.close("all")


def test_there_is_no_figure_of_nothing(folders):
    same = compare.compare(folders[0], folders[0])
    with pytest.raises(ValueError, match="every difference is 0"):
        plotting.compare.differences(same)
    page = build_page(same, compare.differing_facts(folders[0], folders[0]), a="x", b="x", dataset="cifar10")
    assert "Nothing differs: every difference is 0." in page and "<img" not in page
    assert "same parameters, weights, code, machine and versions" in page


def test_the_page_is_read_on_a_phone_and_fetches_nothing(folders, table, tmp_path):
    page = build_page(table, compare.differing_facts(*folders), a="results/a", b="runs/" + 60 * "b", dataset="cifar10")
    assert page.count("<img") == 2 and "http" not in page and "<script" not in page
    assert "&lt;another machine&gt;" in page and "<another machine>" not in page
    assert f"only in A: 05_calibration/vit ({2 * SEEDS} rows)" in page and "parameter n_test" in page
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromium:
        if os.environ.get("REQUIRE_CHROMIUM"):
            pytest.fail("REQUIRE_CHROMIUM is set, and there is no chromium")
        pytest.skip("needs chromium or google-chrome on the PATH")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in (390, 1280):
            view = browser.new_page(viewport=dict(width=width, height=800))
            view.goto(f"file://{tmp_path}/page.html")
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            assert view.evaluate("[...document.images].every(image => image.naturalWidth > 700)")
        browser.close()


def command(*words):
    line = [sys.executable, "-m", "workflow.compare", *map(str, words)]
    return subprocess.run(line, cwd=paths.ROOT, capture_output=True, text=True, check=False)


def test_the_command_writes_the_page_and_prints_the_text(folders, tmp_path):
    done = command(*folders, "--out", tmp_path / "here" / "page.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == f"{2 * SEEDS} differ after Holm's correction, at 0.05."
    assert (tmp_path / "here" / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    place = page_path(TABLES, paths.RUNS / "mine")
    assert place == paths.RUNS / "comparisons" / "results-cifar10_runs-mine.html"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("results/nothing", "results/cifar10"), "there is no folder of tables 'results/nothing'; choose from"),
        (("results/published", "results/cifar10"), "results/published holds no run"),
        (("results/cifar10", "results/cifar100"), "only runs on the same images can be compared"),
    ],
)
def test_what_cannot_be_compared_ends_in_a_line(words, says):
    done = command(*words)
    assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1
