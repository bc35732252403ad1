"""Execute a notebook: python -m workflow.notebook NOTEBOOK OUTPUT SETTINGS [--page]

SETTINGS: values of the notebook's parameters, as JSON. With `shard` "k/n" the cells up to the one tagged `tables` are
run: what comes after it draws and judges all images, and is left to the run with `shard` "gather". --page: write the
executed notebook as HTML too. A notebook that fails is kept as far as it came, as <OUTPUT's name>.failed.ipynb.
"""

import argparse
import json
import sys
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter

from src.files import written_whole
from src.results import GATHER, WHOLE
from workflow.embedding import as_markdown, clean_table
from workflow.gpus import take_gpu


def as_far_as_tables(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cells of a notebook up to the one tagged `tables`; ValueError unless there is one such cell."""
    ends = [i for i, cell in enumerate(notebook.cells) if "tables" in cell.metadata.get("tags", [])]
    if len(ends) != 1:
        raise ValueError(f"one cell, which saves the tables, must be tagged `tables`; there are {len(ends)}")
    notebook.cells = notebook.cells[: ends[0] + 1]
    return notebook


def execute(notebook: Path, output: Path, settings: dict) -> None:
    """Run a notebook top to bottom in the repository's folder; `output` appears when it is whole."""
    cells = notebook  # by its path, as what is handed over stands in the output's metadata, pictures and all
    if settings.get("shard", WHOLE) not in (WHOLE, GATHER):
        cells = as_far_as_tables(nbformat.read(notebook, as_version=4))
    failed = output.with_suffix(".failed.ipynb")
    failed.parent.mkdir(parents=True, exist_ok=True)
    quiet = dict(progress_bar=False, log_output=True)
    papermill.execute_notebook(cells, failed, parameters=settings, kernel_name="python3", cwd=".", **quiet)
    failed.replace(output)


def write_page(notebook: Path, page: Path) -> None:
    """Write an executed notebook as HTML; of what cells show, only the tags of tables are markup, the rest is text."""
    cells = nbformat.read(notebook, as_version=4)
    for data in (output.data for cell in cells.cells for output in cell.get("outputs", []) if "data" in output):
        if "text/markdown" in data:
            data["text/html"] = str(as_markdown(data.pop("text/markdown")))
        elif "<table" in data.get("text/html", ""):
            data["text/html"] = str(clean_table(data["text/html"]))
        else:
            data.pop("text/html", None)
    text, _ = HTMLExporter(embed_images=True).from_notebook_node(cells)
    with written_whole(page) as partial:
        partial.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Execute a notebook with these settings of its parameters.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("settings", type=json.loads)
    parser.add_argument("--page", action="store_true", help="write it as HTML too")
    asked = parser.parse_args()
    take_gpu()
    try:
        execute(asked.notebook, asked.output, asked.settings)
    except papermill.PapermillExecutionError as error:
        kept = asked.output.with_suffix(".failed.ipynb")
        sys.exit(f"{asked.notebook} failed in cell {error.exec_count}: {error.ename}: {error.evalue}\nIt is in {kept}")
    if asked.page:
        write_page(asked.output, asked.output.with_suffix(".html"))


if __name__ == "__main__":
    main()
