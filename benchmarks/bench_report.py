"""Where the time of a report goes, by the clock that runs in its notebooks.

    make report && python -m benchmarks.bench_report runs/embedded    # on a machine that does nothing else

reads the executed notebooks of a finished run and writes results/benchmarks/report.csv, a row for each notebook:
seconds by the clock, after how many of them the first figure was there, and what took longest under which heading.
`--before FILE.csv` puts the seconds of an earlier state of the code, on the same machine, beside them.
`python -m benchmarks.scaling` puts the table into docs/scaling.md.  Two notebooks may have run side by side.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd

from src.files import written_whole
from src.paths import RESULTS
from src.results import NOTEBOOKS
from src.runtime import provenance


def parts_of(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, float, bool]]:
    """Of each cell that ran: the heading above it, its seconds, and whether it shows a picture."""
    heading = "the beginning"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next(iter(re.findall(r"^#+ (.+)$", cell.source, re.M)), heading)
        elif seconds := cell.metadata.get("papermill", {}).get("duration"):
            yield heading, seconds, any("image/png" in output.get("data", {}) for output in cell.outputs)


def row_of(name: str, notebook: nbformat.NotebookNode) -> dict:
    """The times of one executed notebook; `starts` counts kernel and imports, which run before the first heading."""
    parts = pd.DataFrame(parts_of(notebook), columns=["heading", "seconds", "picture"])
    whole = notebook.metadata["papermill"]["duration"]
    upto = parts.index[parts["picture"]]
    first = parts["seconds"][: upto[0] + 1].sum() + whole - parts["seconds"].sum() if len(upto) else float("nan")
    longest = parts.groupby("heading", sort=False)["seconds"].sum().nlargest(3)
    said = ", ".join(f"{heading} {seconds:.0f}" for heading, seconds in longest.items())
    return dict(notebook=name, seconds=whole, first_figure=first, longest=said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run, as runs/embedded")
    parser.add_argument("--out", type=Path, default=RESULTS / "benchmarks" / "report.csv")
    parser.add_argument("--before", type=Path, help="such a table, of an earlier state of the code on this machine")
    asked = parser.parse_args()
    names = [Path(file).stem for file in NOTEBOOKS.values()] + ["07_plots"]
    files = {name: asked.run / "notebooks" / f"{name}.ipynb" for name in names}
    if missing := [str(file) for file in files.values() if not file.exists()]:
        parser.error(f"no {', '.join(missing)}; `make report` first")
    table = pd.DataFrame([row_of(name, nbformat.read(file, as_version=4)) for name, file in files.items()])
    facts = provenance()
    table = table.assign(run=asked.run.name, device=facts["device"], cpus=facts["cpus"], time=facts["time"])
    if asked.before:
        before = pd.read_csv(asked.before, index_col="notebook")
        if elsewhere := set(before["device"]) - {facts["device"]}:
            parser.error(f"{asked.before} is of another machine, {', '.join(elsewhere)}, not {facts['device']}")
        table.insert(2, "seconds_before", table["notebook"].map(before["seconds"]))
    print(table[["notebook", "seconds", "first_figure", "longest"]].round(0).to_string(index=False))
    with written_whole(asked.out) as path:
        table.to_csv(path, index=False, float_format="%.1f")


if __name__ == "__main__":
    main()
