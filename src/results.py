"""Result tables: parquet beside a JSON that says what made them, written whole and checked on reading.

results/<dataset>/<experiment>/<name>.parquet    one row per example and condition
results/<dataset>/<experiment>/<name>.json       parameters, weights, provenance, checksum of the parquet
results/published/<name>.csv                     the 2023 report's numbers, as printed
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from src import paths
from src.files import sha256, written_whole

# experiment -> the notebook that makes its tables
NOTEBOOKS = {
    "01_finetuning": "01_vit_finetuning.ipynb",
    "02_adversarial": "02_adversarial_robustness.ipynb",
    "03_texture_shape": "03_texture_shape_bias.ipynb",
    "04a_cka": "04a_cka.ipynb",
    "04b_feature_vis": "04b_feature_visualization.ipynb",
    "05_calibration": "05_model_calibration.ipynb",
    "06_efficiency": "06_inference_time.ipynb",
}
PUBLISHED = ("adversarial", "texture_shape")  # tables of the 2023 report
KEY_COLUMNS = ("model", "model_seed", "dataset", "condition")  # in every table, so that tables can be put together


def table_path(dataset: str, experiment: str, name: str) -> Path:
    if experiment not in NOTEBOOKS:
        raise ValueError(f"unknown experiment {experiment!r}; choose from {', '.join(NOTEBOOKS)}")
    return paths.RESULTS / dataset / experiment / f"{name}.parquet"


def save_table(
    table: pd.DataFrame,
    dataset: str,
    experiment: str,
    name: str,
    *,
    parameters: dict,
    provenance: dict,
    weights: dict[str, str] | None = None,
) -> Path:
    """Write a result table and the facts about it; return the parquet's path.

    parameters: the notebook's.  weights: file -> sha256 of the weights that were measured.  provenance: of
    `runtime.provenance`.  Both files are written aside and renamed, the JSON last: it holds the parquet's checksum, so
    a run that dies between the two is seen by `load_table`.  Raises ValueError for an empty table or one
    without KEY_COLUMNS.
    """
    if table.empty:
        raise ValueError(f"the table {dataset}/{experiment}/{name} is empty; nothing was saved")
    missing = [column for column in KEY_COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"the table {dataset}/{experiment}/{name} lacks the columns {', '.join(missing)}")
    path = table_path(dataset, experiment, name)
    with written_whole(path.with_suffix(".json")) as facts_file, written_whole(path) as table_file:
        table.to_parquet(table_file, index=False)
        facts = {
            "rows": len(table),
            "columns": {column: str(kind) for column, kind in table.dtypes.items()},
            "parameters": parameters,
            "weights": weights or {},
            "provenance": provenance,
            "sha256": sha256(table_file),
        }
        facts_file.write_text(json.dumps(facts, indent=2) + "\n")
    return path


def load_facts(dataset: str, experiment: str, name: str) -> dict:
    """The JSON beside a table; FileNotFoundError names the notebook to run."""
    path = table_path(dataset, experiment, name)
    if not (path.exists() and path.with_suffix(".json").exists()):
        raise FileNotFoundError(f"there is no table {path}. {_remedy(dataset, experiment)}")
    return json.loads(path.with_suffix(".json").read_text())


def load_table(
    dataset: str,
    experiment: str,
    name: str,
    *,
    columns: Iterable[str] = (),
    parameters: dict | None = None,
    weights: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Read a result table, if it is what was asked for.

    columns: that must be there.  parameters, weights: values that the table must have been made with; others are not
    looked at.  Raises FileNotFoundError for a missing table and ValueError for one that is half-written, was made with
    other parameters or weights, or lacks a column; each names the notebook to run.
    """
    facts, path = load_facts(dataset, experiment, name), table_path(dataset, experiment, name)
    remedy = _remedy(dataset, experiment)
    if sha256(path) != facts["sha256"]:
        raise ValueError(f"{path} is not the table its JSON describes: half-written or altered. {remedy}")
    for kind, asked in (("parameters", parameters), ("weights", weights)):
        found = facts[kind]
        other = [key for key in asked or {} if found.get(key) != asked[key]]
        if other:
            differences = "; ".join(f"{key} is {found.get(key)!r}, asked {asked[key]!r}" for key in other)
            raise ValueError(f"{path} was made with other {kind} ({differences}). {remedy}")
    table = pd.read_parquet(path)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}. {remedy}")
    return table


def load_published(name: str) -> pd.DataFrame:
    """A table of the 2023 report, as printed; results/published/README.md says what its columns mean and do not."""
    if name not in PUBLISHED:
        raise ValueError(f"the 2023 report has no table {name!r}; choose from {', '.join(PUBLISHED)}")
    return pd.read_csv(paths.RESULTS / "published" / f"{name}.csv")


@contextmanager
def noting_missing(notes: list[str]) -> Iterator[None]:
    """Leave the block at the first table that is not there and put what it said, with the remedy, among the notes.

    For what draws many figures: those that can be drawn are.  Only FileNotFoundError is caught; a damaged table stops.
    """
    try:
        yield
    except FileNotFoundError as missing:
        if str(missing) not in notes:
            notes.append(str(missing))


def _remedy(dataset: str, experiment: str) -> str:
    return f"Run {NOTEBOOKS[experiment]} on {dataset} to make it."
