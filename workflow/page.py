"""One self-contained page of a study: what was found, the profile, each notebook's figures and numbers, provenance.

    python -m workflow.page runs/embedded --notebooks 01_vit_finetuning 07_plots

reads the tables of the run and its executed notebooks, and writes runs/embedded/report.html. No script is needed to
read it, and nothing is fetched: pictures and tables are inside.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import nbformat
import pandas as pd
import yaml

from src import paths
from src.files import read_json, written_whole
from src.plotting import model_style
from src.plotting.style import dataset_title
from src.results import FACTS, NOTEBOOKS, changed_weights, load_claims, noting_missing
from src.runs import code_hash, find_tables, load_run
from src.tables.claims import STATEMENTS, judge_claims
from src.tables.profile import MODELS, as_text, profile, sentences, summarise
from workflow import key_tables
from workflow.claims import number_of
from workflow.embedding import Picture, embed_picture, environment, table_of
from workflow.sections import describe, printed

PLOTS = "07_plots"
EXPERIMENTS = {Path(file).stem: experiment for experiment, file in NOTEBOOKS.items()}
LEADING = 5  # statements that the first screen shows
STATES = {"holds": "held", "reversed": "reversed", "open": "open", "not run": "not measured"}


def build_page(
    folder: Path, *, notebooks: Sequence[str], executed: Path | None = None, models: Sequence[str] = MODELS
) -> str:
    """The page of a folder of tables as HTML.

    executed: folder of the executed notebooks, in place of <folder>/notebooks; links go to the pages of them there.
    """
    about, place = load_run(folder), executed or folder / "notebooks"
    read = {name: nbformat.read(place / f"{name}.ipynb", as_version=4) for name in notebooks}
    table, missing = profile(folder, models)
    summary, _ = summarise(table, models)
    names = {name: model_style(name)["label"] for name in models}
    sections = [section_of(name, read[name], folder, place) for name in EXPERIMENTS if name in read]
    facts, weights = provenance_of(folder, [EXPERIMENTS[section["name"]] for section in sections])
    findings = findings_of(folder)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            study=about["run"],
            dataset=about["dataset"],
            facts=first_facts(about, facts, names.values()),
            findings=findings,
            leading=leading(findings),
            counts=findings["said"].value_counts().to_dict(),
            sections=sections,
            profile_figure=profile_figure(folder, read.get(PLOTS)),
            profile_table=table_of(as_text(summary, names=names)),
            profile_csv=csv_link(summary.to_csv(index=False, float_format="%.6g")),
            sentences=sentences(summary, names=[names[model] for model in summary["model"].unique()]),
            provenance=facts,
            weights=weights,
            left_out=left_out(folder, read, missing),
            citation=yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8")),
        )
    )


def section_of(name: str, notebook: nbformat.NotebookNode, folder: Path, place: Path) -> dict:
    """What the page says of one notebook, with the numbers of its experiment."""
    experiment, link = EXPERIMENTS[name], f"{place.name}/{name}.html" if (place / f"{name}.html").exists() else ""
    section = describe(name, notebook, experiment=experiment, folder=folder, link=link) | dict(table="", csv="")
    with noting_missing([]):  # the profile has told of it
        numbers = key_tables.key_table(experiment, folder)
        section["table"] = table_of(key_tables.as_text(numbers))
        section["csv"] = csv_link(key_tables.as_csv(numbers))
    return section | dict(experiment=experiment, over=key_tables.OVER.get(experiment, key_tables.IMAGES))


def csv_link(text: str) -> str:
    """A table as an address that a link downloads."""
    return f"data:text/csv;charset=utf-8,{quote(text)}"


def profile_figure(folder: Path, plots: nbformat.NotebookNode | None) -> Picture | None:
    """The profile that 07 drew of this run."""
    cells = [cell for cell in plots.cells if "keep_output" in cell.metadata.get("tags", [])] if plots else []
    drawn = [output for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    return embed_picture(folder / "figures" / "07_profile", output=drawn[0].data["image/png"] if drawn else "")


def findings_of(folder: Path) -> pd.DataFrame:
    """The study's statements judged by these tables alone: claim, text, number, said (of STATES), measure, verdict.

    verdict: that of the published tables, under all controls.
    """
    table = judge_claims({"base": folder})
    verdicts = load_claims().set_index("text")["verdict"]
    numbers = [number_of(row) for row in table.to_dict("records")]
    kinds = {statement.text: statement.kind for statement in STATEMENTS}
    found = table[["claim", "text"]].assign(number=numbers, said=table["state"].map(STATES))
    found["measure"] = found["text"].map(kinds)
    return found.assign(verdict=table["text"].map(verdicts).fillna("not run"))


def leading(findings: pd.DataFrame) -> pd.DataFrame:
    """The first statement by each measure that these tables settle, those of architectures first."""
    settled = findings[findings["said"].isin(["held", "reversed"])]
    order = (settled["verdict"] != "architecture").sort_values(kind="stable").index
    return settled.loc[order].drop_duplicates("measure").head(LEADING)


def first_facts(about: dict, made: Sequence[dict], networks: Sequence[str]) -> dict[str, str]:
    """What was measured, when and where, for the first screen."""
    days = sorted({row["time"][:10] for row in made})
    classes, note = about["data"].get("classes", []), about["data"].get("note", "")
    facts = dict(Data=f"{dataset_title(about['dataset'])}, {len(classes)} classes{f' ({note})' if note else ''}")
    facts["Networks"] = ", ".join(networks)
    facts["Measured"] = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "nothing yet"
    machines: dict[str, set] = {}
    for row in made:
        machines.setdefault(row["device"], set()).add(row["threads"])
    words = {device: f"{' or '.join(map(str, sorted(n)))} thread{'s' * (max(n) > 1)}" for device, n in machines.items()}
    facts["Machine"] = "; ".join(f"{device}, {threads}" for device, threads in words.items())
    return {name: said for name, said in facts.items() if said}


def left_out(folder: Path, read: dict[str, nbformat.NotebookNode], missing: Sequence[str]) -> list[str]:
    """What this run lacks: notebooks, tables, parts of them, and what was made with other weights."""
    lines = [f"{name}: not part of this run" for name in EXPERIMENTS if name not in read]
    lines += [note.replace(f"{paths.ROOT}/", "") for note in missing]
    for file in sorted(folder.glob("0*/*.json")):
        lines += [f"{file.parent.name}: {said}" for said in read_json(file)["parameters"].get("left_out", [])]
    here = f"{folder.parent.name}/{folder.name}/"
    for line in printed(read[PLOTS]) if PLOTS in read else []:
        if line.startswith("left out: ") and here in line:
            lines.append(line.removeprefix("left out: "))
    return list(dict.fromkeys(lines + changed_weights(folder)))


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
