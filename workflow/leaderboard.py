"""Every network that was measured here, a row each, on one page: python -m workflow.leaderboard

The published tables, those of the runs in runs/, and the 2023 report's accuracies as printed; `make report` and
`make compare` write runs/leaderboard.html anew.
"""

from pathlib import Path

import pandas as pd

from src import paths
from src.files import read_json, written_whole
from src.names import parse_models
from src.plotting import model_style
from src.results import load_published, noting_missing
from src.runs import load_run
from src.tables.profile import AXES
from src.tables.statistics import in_words
from src.training.controls import CONTROLS
from workflow.embedding import environment, table_of

# axis -> the experiment that measures it: not every network is in every notebook
MEASURED = dict.fromkeys(("accuracy", "calibration"), "05_calibration")
MEASURED |= dict.fromkeys(("robustness", "transferability"), "02_attacks")
MEASURED |= {"shape bias": "03_texture_shape", "similarity": "04a_cka", "cost": "06_efficiency"}


def main() -> None:
    with written_whole(paths.RUNS / "leaderboard.html") as partial:
        partial.write_text(build_page(leaderboard()), encoding="utf-8")


def leaderboard() -> pd.DataFrame:
    """A row for each network and folder of tables: network, data, tables, the control it is, a text for each axis."""
    folders = [path.parent for root in (paths.RESULTS, paths.RUNS) for path in sorted(root.glob("*/run.json"))]
    rows = []
    for folder in folders:
        try:
            rows += rows_of(folder)
        except ValueError as error:  # one folder that cannot be read takes no other off the page
            print(f"left out of the leaderboard: {error}")
    return pd.DataFrame([*rows, *report_2023()]).replace("", None).fillna("–")


def rows_of(folder: Path) -> list[dict]:
    """The networks of one folder on the axes whose tables it has: value [95 %], n."""
    dataset, found = load_run(folder)["dataset"], {}
    for axis, experiment in MEASURED.items():
        with noting_missing([]):  # a folder need not have all
            if names := networks_of(folder / experiment):
                table = AXES[axis].measure(folder, names)
                table = table[table["other"] == ""]
                scaled = table[["value", "low", "high"]] * AXES[axis].scale
                said = in_words(scaled, form=".3g") + table["n"].map(", n = {:,.0f}".format)
                for name, text in zip(table["model"], said, strict=True):
                    found.setdefault(name, {})[title_of(axis)] = text
    controls = CONTROLS.get(dataset, {})
    what = {name: controls[name].what if name in controls and "@" in name else "" for name in found}
    where = dict(data=dataset, tables=f"{folder.parent.name}/{folder.name}")
    rows = {name: dict(network=model_style(name)["label"]) | where | dict(control=what[name]) for name in found}
    return [row | found[name] for name, row in rows.items()]


def networks_of(folder: Path) -> list[str]:
    """The labels of the networks that the tables of an experiment were made with."""
    named = [read_json(path, parameters=dict)["parameters"].get("models", []) for path in sorted(folder.glob("*.json"))]
    return list(dict.fromkeys(model.label for names in named if names for model in parse_models(names)))


def report_2023() -> list[dict]:
    """The 2023 report's networks: the accuracy that was printed, on all test images, without an interval."""
    table = load_published("adversarial")
    clean = table[(table["eps"] == 0) & (table["condition"] == "fgsm")]
    return [
        dict(network=model_style(row.model)["label"], data=row.dataset, tables="2023 report, as printed")
        | {title_of("accuracy"): f"{100 * row.accuracy:.1f}"}
        for row in clean.itertuples()
    ]


def title_of(axis: str) -> str:
    arrow = {1: " ↑", -1: " ↓", 0: ""}[AXES[axis].better]
    return AXES[axis].title(AXES[axis].label) + arrow


def build_page(table: pd.DataFrame) -> str:
    """The page as HTML; its script sorts by the head of a column."""
    return environment().get_template("leaderboard.html.j2").render(table=table_of(table, index=False))


if __name__ == "__main__":
    main()
