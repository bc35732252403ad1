"""What the README shows must run, and what it names must be there."""

import base64
import io
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from benchmarks import bench_report, scaling
from src.data import load_images
from src.paths import ROOT
from src.tables.profile import MODELS, profile
from workflow.gallery import COLUMNS, GALLERY, STORED, STORED_WIDTH, THUMBNAIL, contact_sheet, with_gallery

README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_runs(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    some = load_images("fashion_mnist", "test").subset(20, seed=0)
    for i, (image, label) in enumerate(zip(some.images, some.labels, strict=True)):  # the example's PICTURES
        folder = tmp_path / "PICTURES" / some.classes[label].replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    names: dict = {}
    exec(example, names)
    if "history" in names:
        assert names["history"]["loss"].iloc[-1] < names["history"]["loss"].iloc[0]


def test_linked_files_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) > 5
    assert not [link for link in links if not (ROOT / link).exists()]


def test_named_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"`make ([\w-]+)", README)) | set(re.findall(r"^make ([\w-]+)", README, flags=re.MULTILINE))
    assert named and named <= targets


def test_the_time_of_a_notebook_is_its_cells_and_its_start():
    picture = new_output("display_data", data={"image/png": ""})
    cells = [
        new_code_cell("import time", metadata={"papermill": {"duration": 2.0}}),
        new_markdown_cell("# A study\nof three cells"),
        new_code_cell("measure()", metadata={"papermill": {"duration": 5.0}}),
        new_code_cell("draw()", outputs=[picture], metadata={"papermill": {"duration": 1.0}}),
        new_markdown_cell("## More"),
        new_code_cell("draw()", outputs=[picture], metadata={"papermill": {"duration": 4.0}}),
    ]
    row = bench_report.row_of("01", new_notebook(cells=cells, metadata={"papermill": {"duration": 13.5}}))
    assert row["seconds"] == 13.5 and row["first_figure"] == 9.5  # 1.5 for the kernel
    assert row["longest"] == "A study 6, More 4, the beginning 2"


def test_scaling_is_what_the_benchmark_found():
    text = (ROOT / "docs" / "scaling.md").read_text()
    tables = scaling.report_table(), scaling.targets_table(), scaling.growth_table(), scaling.classes_and_shards()
    assert all(table in text for table in tables), "run python -m benchmarks.scaling"
    gflop = float(re.search(r"take (\d+) GFLOP", text)[1])
    worst_hours = scaling.N * gflop * 1e9 * 4000 / scaling.SUSTAINED / 3600
    assert float(re.search(r"nothing ever breaks\s*\| 100.0%\s*\| ([\d.]+)", text)[1]) == pytest.approx(
        worst_hours, rel=0.01
    )


def test_the_gallery_quotes_the_tables():
    assert with_gallery(README) == README, "the tables of CIFAR-10 have changed: run `make gallery`"
    accuracies = profile("cifar10", MODELS)[0].query("axis == 'calibration' and other == ''")
    for value in accuracies["value"]:
        assert f"{100 * value:.1f} % [" in README
    for figure in GALLERY:
        with Image.open(ROOT / "figures" / "gallery" / f"{figure}_cifar10.png") as picture:
            assert picture.width == 1400
    with pytest.raises(ValueError, match="no <!-- first figure"):
        with_gallery("# Another text")


@pytest.mark.parametrize("notebook", STORED)
def test_the_picture_that_a_notebook_keeps_is_of_cifar10(notebook):
    """A run leaves its own there, of other data than the text beside it says."""
    cells = nbformat.read(ROOT / f"{notebook}.ipynb", as_version=4).cells
    (cell,) = (cell for cell in cells if "keep_output" in cell.metadata.get("tags", []))
    (output,) = cell.outputs
    assert output.data["text/plain"] == f"{STORED[notebook]}_cifar10", "run `make gallery`"
    with Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))) as picture:
        assert picture.width == STORED_WIDTH


def test_the_contact_sheet_shows_every_figure_in_its_place(tmp_path):
    colours = ["red", "lime", "blue", "black", "yellow"]
    for place, colour in enumerate(colours):
        Image.new("RGB", (300, 100 * (place + 1)), colour).save(tmp_path / f"{place}.png")
    sheet = contact_sheet(sorted(tmp_path.glob("*.png"))).convert("RGB")
    wide, high = THUMBNAIL
    assert sheet.size == (COLUMNS * wide, 2 * high)
    for place, colour in enumerate(colours):
        seen = sheet.getpixel((wide * (place % COLUMNS) + 20, high * (place // COLUMNS) + 15))
        assert seen == Image.new("RGB", (1, 1), colour).getpixel((0, 0))
