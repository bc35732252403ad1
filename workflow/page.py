"""One self-contained page of a study: summary, each notebook's figure, reading and key table, and where it all is from.

    python -m workflow.page runs/embedded --notebooks 01_vit_finetuning 07_plots

reads the tables of the run and its executed notebooks, and writes runs/embedded/report.html. No script is needed to
read it, and nothing is fetched: pictures are inside.
"""

import argparse
import html
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from src import paths
from src.files import read_json, written_whole
from src.plotting import model_style
from src.results import FACTS, NOTEBOOKS, changed_weights
from src.runs import code_hash, find_tables, load_run
from src.tables.profile import MODELS, as_text, profile, summarise

PLOTS = "07_plots"


def build_page(
    folder: Path, *, notebooks: Sequence[str], executed: Path | None = None, models: Sequence[str] = MODELS
) -> str:
    """The page of a folder of tables as HTML.

    executed: folder of the executed notebooks, in place of <folder>/notebooks; links go to the pages of them there.
    """
    about, place = load_run(folder), executed or folder / "notebooks"
    run, dataset = about["run"], about["dataset"]
    executed = {name: nbformat.read(place / f"{name}.ipynb", as_version=4) for name in notebooks}
    table, missing = profile(folder, models)
    text = as_text(summarise(table, models)[0], names={name: model_style(name)["label"] for name in models})
    sections = [
        section_of(name, notebook, link=f"{place.name}/{name}.html" if (place / f"{name}.html").exists() else "")
        for name, notebook in executed.items()
        if name != PLOTS
    ]
    left_out = [
        f"{Path(file).stem}: not part of this run" for file in NOTEBOOKS.values() if Path(file).stem not in executed
    ]
    left_out += [note.replace(f"{paths.ROOT}/", "") for note in missing]
    if PLOTS in executed:
        left_out += [line for line in reading_of(executed[PLOTS]).splitlines() if line.startswith("left out: ")]
    facts, weights = provenance_of(folder, [name for name, file in NOTEBOOKS.items() if Path(file).stem in executed])
    left_out += changed_weights(folder)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.globals["picture"] = picture
    summary = executed.get(PLOTS)
    return environment.get_template("page.html.j2").render(
        study=run,
        note=about["data"].get("note", ""),
        dataset=dataset,
        sections=sections,
        summary_figure=figure_of(summary) if summary else "",
        summary_reading="\n".join(
            line for line in (reading_of(summary) if summary else "").splitlines() if not line.startswith("left out: ")
        ),
        profile_table=Markup(text.rename_axis(None).to_html(border=0)),
        provenance=facts,
        weights=weights,
        left_out=dict.fromkeys(left_out),
    )


def section_of(name: str, notebook: nbformat.NotebookNode, *, link: str) -> dict:
    """What the page says of one notebook."""
    opening = notebook.cells[0].source
    title = opening.splitlines()[0].lstrip("# ")
    question = re.search(r"\*\*Question\.\*\*(.*?)(?:\n\n|$)", opening, flags=re.DOTALL)
    seconds = notebook.metadata.get("papermill", {}).get("duration")
    return dict(
        name=name,
        title=title,
        short=title.split("·")[-1].strip(),
        question=question.group(1).strip() if question else "",
        figure=figure_of(notebook),
        caption=f"{title}. Click to enlarge.",
        table=Markup(table_of(notebook)),
        reading=reading_of(notebook),
        link=link,
        seconds=f"{seconds:.0f} s" if seconds else "",
    )


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list:
    """The outputs of the cells with that tag."""
    cells = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
    return [output for cell in cells for output in cell.get("outputs", [])]


def figure_of(notebook: nbformat.NotebookNode) -> str:
    """The first picture of the cell that the notebook keeps, base64 of a PNG; empty if it has none."""
    pictures = [
        output.data["image/png"] for output in tagged(notebook, "keep_output") if "image/png" in output.get("data", {})
    ]
    return "".join(pictures[0].split()) if pictures else ""


def table_of(notebook: nbformat.NotebookNode) -> str:
    """The first table of the cell tagged "key_table", without its styles and numbers of rows."""
    tables = [
        output.data["text/html"] for output in tagged(notebook, "key_table") if "text/html" in output.get("data", {})
    ]
    if not tables:
        return ""
    return re.sub(r"<style.*?</style>|\s(?:id|class|border)=\"[^\"]*\"", "", tables[0], flags=re.DOTALL)


def reading_of(notebook: nbformat.NotebookNode) -> str:
    """What the cells under "## Reading" print, or the last cell where there is no such heading."""
    heads = [i for i, cell in enumerate(notebook.cells) if cell.source.startswith("## Reading")]
    cells = notebook.cells[heads[-1] + 1 :] if heads else notebook.cells[-1:]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.get("name") == "stdout").strip()


def picture(png: str, caption: str) -> Markup:
    """A figure that a click enlarges, by a checkbox instead of a script."""
    if not png:
        return Markup('<p class="soft">The figure was not drawn.</p>')
    said = html.escape(caption)
    return Markup(
        f'<figure><label><input type="checkbox" aria-label="enlarge the figure"><span>'
        f'<img src="data:image/png;base64,{png}" alt="{said}"></span></label><figcaption>{said}</figcaption></figure>'
    )


def provenance_of(folder: Path, experiments: Sequence[str]) -> tuple[list[dict], list[tuple[str, str]]]:
    """A row for each group of tables made in one run, and all weights that were measured."""
    rows, weights = {}, set()
    for experiment in experiments:
        today = code_hash(NOTEBOOKS[experiment])
        for file in sorted((folder / experiment).glob("*.json")):
            facts = read_json(file, **FACTS)
            origin = facts["provenance"]
            row = dict(
                time=origin["time"].replace("T", " ").removesuffix("+00:00"),
                device=origin["device"],
                threads=origin["threads"],
                torch=origin["packages"]["torch"],
                commit=(origin["commit"] or "")[:9],
                code="" if origin.get("code") == today else "made by other code than today's",
                parameters=", ".join(f"{key} = {value}" for key, value in facts["parameters"].items()),
            )
            key = (experiment, row["time"][:10], row["commit"], row["code"], row["parameters"])
            rows.setdefault(key, row | dict(tables=f"{experiment}:"))["tables"] += f" {file.stem}"
            weights |= set(facts["weights"].items())
    return list(rows.values()), sorted(weights)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the page of a run from its executed notebooks and tables.")
    parser.add_argument("folder", help="of the run, such as runs/embedded")
    parser.add_argument("--notebooks", nargs="+", required=True)
    parser.add_argument("--models", nargs="+", default=MODELS, help="of the summary (default: %(default)s)")
    asked = parser.parse_args()
    folder = find_tables(asked.folder)
    page = build_page(folder, notebooks=asked.notebooks, models=asked.models)
    with written_whole(folder / "report.html") as partial:
        partial.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
