"""The page that `make report` ends with: what it says, and how it looks in a real browser."""

import os
import re
import shutil
from html.parser import HTMLParser

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from src import paths
from src.plotting import model_style
from src.results import NOTEBOOKS
from src.runs import open_run
from src.tables.profile import AXES, MODELS, profile, summarise
from workflow.page import build_page, picture

TABLES = paths.RESULTS / "cifar10"
ALL = [*(file.removesuffix(".ipynb") for file in NOTEBOOKS.values()), "07_plots"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The notebooks as they are kept, each with a table and a reading as a run leaves them; pages beside them."""
    folder = tmp_path_factory.mktemp("report") / "notebooks"
    folder.mkdir()
    for name in ALL:
        notebook = nbformat.read(paths.ROOT / f"{name}.ipynb", as_version=4)
        table = '<style type="text/css">#T_1 {color: red}</style><table id="T_1"><tr><th>model</th>' + "".join(
            f'<td class="c{i}">{i}.123456</td>' for i in range(30)
        )
        for cell in notebook.cells:
            if "key_table" in cell.metadata.get("tags", []):
                cell.outputs = [new_output("display_data", {"text/html": table + "</tr></table>"})]
        notebook.cells[-1].outputs = [new_output("stream", name="stdout", text=f"{name} < says & means\nleft out: x\n")]
        notebook.metadata["papermill"] = {"duration": 61.2}
        nbformat.write(notebook, folder / f"{name}.ipynb")
        (folder / f"{name}.html").write_text("<title>executed</title>")
    return folder


@pytest.fixture(scope="module")
def page(folder):
    text = build_page(TABLES, notebooks=ALL, executed=folder)
    (folder.parent / "report.html").write_text(text, encoding="utf-8")
    return text


class Cells(HTMLParser):
    """The text of all cells of the table inside #profile, row by row."""

    def __init__(self):
        super().__init__()
        self.inside, self.rows, self.open = False, [], False

    def handle_starttag(self, tag, attrs):
        self.inside = self.inside or ("id", "profile") in attrs
        if self.inside and tag == "tr":
            self.rows.append([])
        self.open = self.inside and tag in ("td", "th")
        if self.open:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "table"
        self.open = False

    def handle_data(self, data):
        if self.open:
            self.rows[-1][-1] += data


def test_the_numbers_of_the_page_are_the_tables(page):
    parser = Cells()
    parser.feed(page)
    rows = {row[0]: row[1:] for row in parser.rows}
    summary, _ = summarise(profile(TABLES, MODELS)[0], MODELS)
    assert len(summary) == summary["axis"].nunique() * len(MODELS) > 0
    columns = next(values for values in rows.values() if "CNN" in values)
    for row in summary.itertuples():
        axis = AXES[row.axis]
        cells = next(values for label, values in rows.items() if label.startswith(row.label))
        cell = cells[columns.index(model_style(row.model)["label"])]
        numbers = re.match(r"(-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\](?:.*\(rank (\d)\))?", cell).groups("nan")
        value, low, high, rank = map(float, numbers)
        for shown, exact in ((value, row.value), (low, row.low), (high, row.high)):
            assert shown == pytest.approx(axis.scale * exact, abs=0.051, rel=0.006)
        assert rank == row.rank or (np.isnan(rank) and axis.better == 0 and np.isnan(row.rank))


def test_the_page_has_each_notebook_its_picture_reading_table_and_link(page):
    for name in ALL[:-1]:
        part = page[page.index(f'<h2 id="{name}"') :].split("<h2", 2)[1]
        assert "data:image/png;base64," in part and f"{name} &lt; says &amp; means" in part
        assert f'href="notebooks/{name}.html"' in part and "61 s" in part and "29.123456" in part
    summary = page[page.index('id="summary"') :].split("<h2", 2)[0]
    assert "07_plots &lt; says" in summary and "left out" not in summary
    assert "<li>left out: x</li>" in page[page.index('id="left-out"') :]
    assert "<script" not in page and "T_1" not in page and "http" not in re.sub(r"base64,[^\"]*", "", page)
    weights = page[page.index("Weights, by file") :]
    assert "cnn_cifar10.safetensors" in weights and re.search(r"<td>[0-9a-f]{64}</td>", weights)


def test_a_caption_cannot_break_the_page():
    shown = picture("AAAA", 'a "quoted" <b>caption</b>')
    assert "<b>" not in shown and shown.count('"quoted"') == 0 and "&quot;quoted&quot;" in shown


def test_what_was_not_run_is_said(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    page = build_page(TABLES, notebooks=["04a_cka"], executed=folder)
    left = page[page.index('id="left-out"') :]
    assert "06_inference_time: not part of this run" in left and "04a_cka:" not in left
    assert "The figure was not drawn" in page  # the summary's, which 07 draws
    nowhere = open_run("nowhere", "nothing", {"name": "nothing", "classes": ["a"]})
    page = build_page(nowhere, notebooks=[])
    left = page[page.index('id="left-out"') :]
    assert (
        "Run 02_adversarial_robustness.ipynb with run = &#34;nowhere&#34; to make it." in left
        and str(paths.ROOT) not in left
    )


def test_a_notebook_without_outputs_is_no_error(tmp_path):
    cells = [new_markdown_cell("# 04a · Test\n\n**Question.** Is it?\n\nMore."), new_code_cell("1")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "04a_cka.ipynb")
    page = build_page(TABLES, notebooks=["04a_cka"], executed=tmp_path)
    assert "<p>Is it?</p>" in page and "More." not in page


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        if os.environ.get("REQUIRE_CHROMIUM"):
            pytest.fail("REQUIRE_CHROMIUM is set, and there is no chromium")
        pytest.skip("needs chromium or google-chrome on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_real_browser(page, folder, browser, width):
    tab = browser.new_page(viewport={"width": width, "height": 800})
    problems, requests = [], []
    tab.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("requestfailed", lambda request: problems.append(request.url))
    tab.on("request", lambda request: requests.append(request.url) if not request.url.startswith("data:") else None)
    tab.goto((folder.parent / "report.html").as_uri())
    assert not problems and len(requests) == 1  # the page alone: it works offline
    sizes = tab.eval_on_selector_all(
        "img", "images => images.map(i => [i.naturalWidth, i.getBoundingClientRect().width])"
    )
    assert len(sizes) >= 8 and all(natural > 100 and shown > 0.8 * min(width, 900) for natural, shown in sizes)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for target in tab.eval_on_selector_all("nav a", "links => links.map(link => link.getAttribute('href'))"):
        assert tab.locator(f"[id='{target[1:]}']").count() == 1
    before = tab.locator("img").nth(1).bounding_box()["width"]
    tab.locator("figure label").nth(1).click()
    assert tab.locator("img").nth(1).bounding_box()["width"] >= max(1400, before)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.locator("figure span").nth(1).click(position={"x": 5, "y": 5})
    assert tab.locator("img").nth(1).bounding_box()["width"] == before
    tab.get_by_text("The executed notebook").first.click()
    assert tab.title() == "executed"
    tab.close()
