"""The page that `make report` ends with: what it says, and how it looks in a real browser."""

import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from src import paths
from src.plotting import model_style
from src.results import NOTEBOOKS
from src.runs import open_run
from src.tables.finetuning import accuracies
from src.tables.profile import AXES, MODELS, profile, summarise
from workflow import key_tables, notebook, page
from workflow.embedding import (
    Picture,
    as_lists,
    as_markdown,
    clean_table,
    embed_picture,
    embed_pixels,
    embed_svg,
    picture,
)
from workflow.page import build_page
from workflow.sections import FIGURES, LIMITS, describe

TABLES = paths.RESULTS / "cifar10"
ALL = [*(file.removesuffix(".ipynb") for file in NOTEBOOKS.values()), "07_plots"]


EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The notebooks as they are kept, each with a reading as a run leaves it; pages beside them."""
    folder = tmp_path_factory.mktemp("report") / "notebooks"
    folder.mkdir()
    for name in ALL:
        cells = nbformat.read(paths.ROOT / f"{name}.ipynb", as_version=4)
        said = f"{name} < says & means:\n  more\nleft out: x\nleft out: results/cifar10/y is not there\n"
        cells.cells[-1].outputs = [new_output("stream", name="stdout", text=said)]
        cells.metadata["papermill"] = {"duration": 59.2, "parameters": {"run": "a", "models": ["mlp"]}}
        nbformat.write(cells, folder / f"{name}.ipynb")
        (folder / f"{name}.html").write_text("<title>executed</title>")
    return folder


@pytest.fixture(scope="module")
def findings():
    return page.findings_of(TABLES)


@pytest.fixture(scope="module")
def whole(folder, findings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "findings_of", lambda folder: findings)
        text = build_page(TABLES, notebooks=ALL, executed=folder)
    (folder.parent / "report.html").write_text(text, encoding="utf-8")
    return text


class Cells(HTMLParser):
    """The text of all cells of the table inside #profile-table, row by row."""

    def __init__(self):
        super().__init__()
        self.inside, self.rows, self.open = False, [], False

    def handle_starttag(self, tag, attrs):
        self.inside = self.inside or ("id", "profile-table") in attrs
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


def test_the_numbers_of_the_page_are_the_tables(whole):
    parser = Cells()
    parser.feed(whole)
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


def part_of(text, name):
    return text[text.index(f'<h2 id="{name}"') :].split("<h2", 2)[1]


def test_each_section_has_figure_caption_numbers_reading_limits_and_command(whole):
    for name in ALL[:-1]:
        part, experiment = part_of(whole, name), page.EXPERIMENTS[name]
        alts = re.findall(r'<img [^>]* alt="([^"]*)"', part)
        assert alts and all(len(alt) > 60 and "PNG" not in alt for alt in alts)
        assert "figure that is stored here" not in part and "next cell" not in part
        assert f"<li>{name} &lt; says &amp; means:<ul><li>more</li></ul></li>" in part
        assert f'href="notebooks/{name}.html"' in part and "59 s" in part and LIMITS[experiment][:30] in part
        assert f"python -m workflow.notebook {name}.ipynb" in part and "&#34;run&#34;: &#34;a&#34;" in part
        assert "In numbers" in part and 'class="dataframe sortable"' in part and "left out: x" not in part


def test_a_downloaded_table_holds_what_is_shown_and_more_digits(whole):
    address = re.search(r'download="cifar10_01_finetuning.csv" href="data:text/csv;charset=utf-8,([^"]*)"', whole)[1]
    rows = [line.split(",") for line in unquote(address).splitlines()]
    stored = accuracies(pd.read_parquet(TABLES / "01_finetuning" / "vit.parquet"))
    assert rows[0] == key_tables.COLUMNS and len(rows) == 1 + len(stored)
    assert float(rows[1][2]) == pytest.approx(100 * stored["accuracy"].iloc[0], rel=1e-5)
    assert f">{100 * stored['accuracy'].iloc[0]:.1f} [" in whole


def test_findings_are_those_of_these_tables_and_say_their_verdict(whole, findings):
    found = findings
    assert set(found["said"]) <= set(page.STATES.values()) and (found["said"] == "held").any()
    first = page.leading(found)
    assert len(first) == min(page.LEADING, found.loc[found["said"].isin(["held", "reversed"]), "measure"].nunique())
    top = whole[: whole.index('<h2 id="profile"')]
    for row in first.itertuples():
        assert row.text in top and f"verdict on CIFAR-10: {row.verdict}" in top
    architecture = found.assign(said="held", verdict=["these networks"] * (len(found) - 1) + ["architecture"])
    assert page.leading(architecture).iloc[0]["text"] == found["text"].iloc[-1]


def test_provenance_names_weights_and_where_it_comes_from(whole):
    assert "http" not in re.sub(r"(?:base64|svg\+xml),[^\"]*", "", whole) or "repository-code" in CITATION
    weights = whole[whole.index("Weights, by file") :]
    assert "cnn_cifar10.safetensors" in weights and re.search(r"<td>[0-9a-f]{64}</td>", weights)
    cite = part_of(whole, "cite")
    assert "MIT" in cite and "Zooming in on MLPs: how MLPs" in cite


def test_a_key_table_is_laid_out_by_row_and_network():
    rows = [
        ["top", "CNN", 12.34, 11, 13, 100, "%"],
        ["top", "MLP", 5, np.nan, np.nan, 90, "%"],
        ["t", "CNN", 0.01234, *[np.nan] * 4],
    ]
    shown = key_tables.as_text(pd.DataFrame(rows, columns=key_tables.COLUMNS).fillna({"unit": "ms"}))
    assert shown.loc["top (%)"].tolist() == ["12.3 [11.0, 13.0]", "5.0", "100 / 90"]
    assert shown.loc["t (ms)"].tolist() == ["0.0123", "–", "–"]


def test_what_was_not_run_speaks_of_this_run_alone(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(page, "findings_of", lambda folder: FINDINGS)
    left = part_of(build_page(TABLES, notebooks=["06_inference_time", "07_plots"], executed=folder), "left-out")
    assert "05_model_calibration: not part of this run" in left and "06_inference_time:" not in left
    assert "<li>results/cifar10/y is not there</li>" in left and "<li>x</li>" not in left
    nowhere = open_run("nowhere", "nothing", {"name": "nothing", "classes": ["a"]})
    text = build_page(nowhere, notebooks=[])
    left = part_of(text, "left-out")
    assert "Run 02_adversarial_robustness.ipynb with run = &#34;nowhere&#34; to make it." in left
    assert str(paths.ROOT) not in left and "none is judged here" in text and "The figure was not drawn" in text


FINDINGS = pd.DataFrame(
    dict(claim=["C1"], text="MLP above CNN", number="–", said="not measured", measure="robust", verdict="not run")
)


def test_a_notebook_without_outputs_is_no_error(tmp_path):
    cells = [new_markdown_cell("# 04a · Test\n\n**Question.** Is it?\n\nMore."), new_code_cell("1")]
    section = describe("04a_cka", new_notebook(cells=cells), experiment="04a_cka", folder=tmp_path, link="")
    assert section["question"].strip() == "<p>Is it?</p>" and section["about"].strip() == "<p>More.</p>"
    assert not section["blocks"] and not section["reading"]


def test_a_figure_is_taken_from_its_file_and_captioned_by_the_cells_around_it(tmp_path):
    drawing = (
        '<?xml version="1.0"?><svg viewBox="0 0 20 10" xmlns="http://www.w3.org/2000/svg"><path d="M 1.23456 2"/></svg>'
    )
    (tmp_path / "figures").mkdir()
    for name in ("04a_cka_untrained", "04a_cka_layers"):
        (tmp_path / "figures" / f"{name}.svg").write_text(drawing)
    cells = [
        new_markdown_cell("# 04a · Test\n\n**Question.** Is it?"),
        new_markdown_cell("Not this.\n\n## Heads\n\n*Before* <b>."),
        new_code_cell('study.save_figure(draw(a, "b"), "untrained")\nstudy.save_figure(draw(), "unknown")'),
        new_markdown_cell("After.\n\n## Next\n\nOf the next."),
        new_code_cell('study.save_figure(draw(), "layers")'),
    ]
    blocks = describe("04a_cka", new_notebook(cells=cells), experiment="04a_cka", folder=tmp_path, link="")["blocks"]
    assert [block["heading"] for block in blocks] == ["Heads", "Next"]
    assert blocks[0]["text"] == "<p><em>Before</em> &lt;b&gt;.</p>\n<p>After.</p>\n"
    (drawn,) = blocks[0]["pictures"]
    assert drawn["title"] == FIGURES["04a_cka"]["untrained"] and drawn["picture"][1:3] == (20, 10)
    assert "max-width: 36px" in picture(drawn["picture"], "")  # 20 points, of 7 inches that are 900 pixels wide
    assert "1.23 2" in unquote(drawn["picture"].address) and "<?xml" not in unquote(drawn["picture"].address)


def test_every_figure_of_the_page_is_saved_by_its_notebook():
    for experiment, file in NOTEBOOKS.items():
        source = "\n".join(cell.source for cell in nbformat.read(paths.ROOT / file, as_version=4).cells)
        for name in FIGURES[experiment]:
            assert not name or f'"{name}"' in source, f"{file} saves no figure {name}"


def test_a_picture_is_vector_unless_its_pixels_are_much_lighter(tmp_path):
    Image.fromarray(np.full((400, 4000, 3), 9, np.uint8)).save(tmp_path / "a.png")
    path = '<path d="M 1.25 2"/>'
    for size, kind in ((1, "svg+xml"), (4000, "webp")):
        (tmp_path / "a.svg").write_text(f'<svg viewBox="0 0 1 1">{size * path}</svg>')
        assert embed_picture(tmp_path / "a").address.startswith(f"data:image/{kind}")
    noise = np.random.default_rng(0).integers(0, 255, (700, 1300, 3), dtype=np.uint8)
    assert (embed_pixels(png_of(noise)).width, embed_pixels(png_of(0 * noise)).width) == (1200, 1300)
    assert embed_picture(tmp_path / "b") is None


def png_of(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def test_nothing_from_outside_becomes_markup(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(page, "findings_of", lambda folder: FINDINGS.assign(text=EVIL))
    run = open_run("evil", "pictures", {"name": EVIL, "note": EVIL, "classes": [EVIL, "b"]})
    (run / "notebooks").mkdir()
    table = f"<table><tr><td onclick='alert(1)'>{EVIL}</td></tr></table><script>alert(1)</script>"
    outputs = [
        new_output("stream", name="stdout", text=f"{EVIL}:\n  {EVIL}\nleft out: runs/evil/{EVIL}\n"),
        new_output("display_data", {"text/html": table}),
        new_output("display_data", {"text/markdown": f"| {EVIL} |\n|---|\n| [{EVIL}](javascript:alert(1)) |\n"}),
    ]
    cells = [new_markdown_cell(f"# 05 · {EVIL}\n\n**Question.** {EVIL}?"), new_markdown_cell("## Reading")]
    cells = new_notebook(cells=[*cells, new_code_cell("1", outputs=outputs)])
    cells.metadata["papermill"] = {"parameters": {"run": EVIL}}
    for name in ("05_model_calibration", "07_plots"):
        nbformat.write(cells, run / "notebooks" / f"{name}.ipynb")
    (run / "05_calibration").mkdir()
    facts = {"parameters": {"left_out": [EVIL]}, "weights": {EVIL: "0"}, "data": {}, "rows": 1, "columns": {}}
    facts |= {"sha256": "", "provenance": {"time": "2026", "device": EVIL, "threads": 1, "packages": {"torch": "2"}}}
    facts["provenance"]["commit"] = EVIL
    (run / "05_calibration" / "a.json").write_text(json.dumps(facts))
    text = build_page(run, notebooks=["05_model_calibration", "07_plots"], models=["mlp"])
    notebook.write_page(run / "notebooks" / "05_model_calibration.ipynb", tmp_path / "executed.html")
    for written in (text, (tmp_path / "executed.html").read_text(encoding="utf-8").partition("<body")[2]):
        assert "<img src=x" not in written and "onclick='alert" not in written and 'href="javascript:' not in written
        assert "<script>alert(1)" not in written and written.count("&lt;img src=x onerror=alert(1)&gt;") >= 4
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") >= 10


def test_pieces_from_outside_are_escaped():
    shown = picture(Picture("data:,", 1, 1), 'a "quoted" <b>title</b>')
    assert "<b>" not in shown and "&#34;quoted&#34;" in shown
    assert clean_table(f"<table><tr><th colspan='2'>{EVIL}").count("&lt;img") == 1
    assert as_lists(f"a\n  {EVIL}").count("&lt;img") == 1 and "<img" not in as_markdown(f"`{EVIL}` {EVIL}")
    assert as_lists("   one: 1\nthree: 3").count("<ul") == 1  # set to the right, not a list of its own
    assert "onload" not in unquote(embed_svg('<svg viewBox="0 0 1 1"></svg>').address)


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


CONTRAST = """() => {
  const luminance = c => c.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const colour = text => text.match(/[\\d.]+/g).map(Number);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const c = colour(getComputedStyle(node).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || ["SCRIPT", "STYLE"].includes(node.tagName)) continue;
    const [a, b] = [luminance(colour(getComputedStyle(node).color).slice(0, 3)), luminance(behind(node))];
    found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), walker.currentNode.textContent.slice(0, 40)]);
  }
  return found;
}"""


def opened(browser, file, problems, **options):
    tab = browser.new_page(**options)
    tab.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("requestfailed", lambda request: problems.append(request.url))
    tab.on("request", lambda asked: problems.append(asked.url) if asked.url.startswith("http") else None)
    tab.goto(file.as_uri())
    return tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_real_browser(whole, folder, browser, width, scheme):
    problems = []
    look = dict(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab = opened(browser, folder.parent / "report.html", problems, **look)
    sizes = tab.eval_on_selector_all(
        "main img", "images => images.map(i => [i.naturalWidth, i.getBoundingClientRect().width])"
    )
    assert len(sizes) >= 7 and all(natural > 100 and shown > 300 for natural, shown in sizes)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = tab.evaluate(CONTRAST)
    assert len(contrasts) > 100 and not [pair for pair in contrasts if pair[0] < 4.5]
    for target in tab.eval_on_selector_all("nav a, main a[href^='#']", "all => all.map(a => a.getAttribute('href'))"):
        assert tab.locator(f"[id='{target[1:]}']").count() == 1
    tab.evaluate("scrollTo(0, 3000)")
    seen = tab.locator("nav").bounding_box()
    assert (seen["y"] >= 0) == (width >= 1248)  # contents stay in sight where there is room beside the text
    tab.get_by_text("The executed notebook").first.click()
    assert tab.title() == "executed" and not problems
    tab.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_figure_is_enlarged_and_closed_in_four_ways(whole, folder, browser, width):
    problems = []
    tab = opened(browser, folder.parent / "report.html", problems, viewport={"width": width, "height": 700})
    box, figures = tab.locator("dialog"), tab.locator("button.open")
    ways = {
        "Esc": lambda: tab.keyboard.press("Escape"),
        "button": lambda: tab.get_by_role("button", name="Close").click(),
        "beside": lambda: tab.mouse.click(3, 350),
        "keyboard": lambda: tab.keyboard.press("Enter"),  # on the button, which has the focus
    }
    for way, close in ways.items():
        if way == "keyboard":
            figures.nth(1).focus()
            tab.keyboard.press("Enter")
        else:
            figures.nth(1).click()
        assert box.is_visible()
        held, shown = box.bounding_box(), box.locator("img").bounding_box()
        for at, size, most in (("x", "width", width), ("y", "height", 700)):
            assert held[at] >= 0 and held[at] + held[size] <= most
            assert shown[at] >= held[at] and shown[at] + shown[size] <= held[at] + held[size] + 1
        close()
        assert not box.is_visible(), way
    figures.nth(1).click()
    tab.get_by_role("button", name="Actual size").click()
    assert box.locator("img").bounding_box()["width"] == 1800
    assert tab.evaluate("document.documentElement.scrollWidth") <= width and not problems
    tab.close()


def test_a_table_is_sorted_by_any_column(browser, tmp_path):
    rows = pd.DataFrame(
        {"number": ["10.5 [1, 2]", "−3.0", "1,200", "–"], "text": ["b", "c", "a", "d"]}, index=list("wxyz")
    )
    environment = page.environment()
    text = environment.from_string("<main>{{ table }}</main>{% include 'script.html.j2' %}")
    (tmp_path / "sorted.html").write_text(text.render(table=page.table_of(rows)), encoding="utf-8")
    problems = []
    tab = opened(browser, tmp_path / "sorted.html", problems)
    for column, up in (("number", "xwyz"), ("text", "ywxz"), ("row", "wxyz")):
        for order in (up, up[::-1]):
            tab.get_by_role("button", name=column).click()
            assert "".join(tab.locator("tbody th").all_inner_texts()) == order
    assert tab.locator("th[aria-sort=descending]").inner_text().startswith("row") and not problems
    tab.close()


def test_without_a_script_everything_is_there_and_paper_has_it_open(whole, folder, browser):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((folder.parent / "report.html").as_uri())
    assert tab.locator("main img").count() >= 7 and not tab.locator("dialog").is_visible()
    assert tab.locator("tbody tr").count() > 20
    context.close()
    tab = browser.new_page()
    tab.goto((folder.parent / "report.html").as_uri())
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0 and not tab.locator("nav").is_visible()
    tab.close()


def test_the_page_is_light(whole):
    assert len(whole.encode()) < 3e6


CITATION = (paths.ROOT / "CITATION.cff").read_text(encoding="utf-8")
