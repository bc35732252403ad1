"""Run a notebook on one shard of the images, as far as its tables: python -m workflow.part NOTEBOOK OUTPUT K/N SETTINGS

SETTINGS: values of the notebook's parameters, as JSON. What comes after the cell tagged `tables` draws and judges all
images, and is left to the run with `shard` "gather".
"""

import json
import sys

import nbformat
import papermill


def as_far_as_tables(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cells of a notebook up to the one tagged `tables`; ValueError unless there is one such cell."""
    ends = [i for i, cell in enumerate(notebook.cells) if "tables" in cell.metadata.get("tags", [])]
    if len(ends) != 1:
        raise ValueError(f"one cell, which saves the tables, must be tagged `tables`; there are {len(ends)}")
    notebook.cells = notebook.cells[: ends[0] + 1]
    return notebook


def main(notebook: str, output: str, shard: str, settings: str) -> None:
    papermill.execute_notebook(
        as_far_as_tables(nbformat.read(notebook, as_version=4)),
        output,
        parameters=json.loads(settings) | {"shard": shard},
        kernel_name="python3",
        cwd=".",
        progress_bar=False,
        log_output=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
