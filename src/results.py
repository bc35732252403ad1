"""Result tables: parquet beside a JSON that says what made them, written whole and checked on reading.

A folder of tables is runs/<run>, which a run writes, or results/<data set>, which `make publish` alone writes:

<folder>/run.json                       the run and its data
<folder>/<experiment>/<name>.parquet    one row per example and condition
<folder>/<experiment>/<name>.json       parameters, weights, provenance, checksum of the parquet
<folder>/<experiment>/<name>.2of3.…     the same of a part of the images, until the parts are put together

results/published/<name>.csv holds the 2023 report's numbers, as printed.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from src import paths
from src.files import read_json, sha256, written_whole
from src.names import slug

# notebook -> the word of its experiment
WORDS = {
    "01_vit_finetuning": "finetuning",
    "02_adversarial_robustness": "attacks",
    "03_texture_shape_bias": "texture_shape",
    "04a_cka": "cka",
    "04b_feature_visualization": "feature_vis",
    "05_model_calibration": "calibration",
    "06_inference_time": "efficiency",
}
# experiment, which names the folder of its tables -> the notebook that makes them
NOTEBOOKS = {f"{notebook.partition('_')[0]}_{word}": f"{notebook}.ipynb" for notebook, word in WORDS.items()}
GATHER = "gather"  # in place of a shard "k/n": nothing is measured, the parts are put together
WHOLE = "1/1"
PUBLISHED = ("adversarial", "texture_shape")  # tables of the 2023 report
FACTS = dict(rows=int, columns=dict, parameters=dict, weights=dict, provenance=dict, sha256=str, loops=list | None)
KEY_COLUMNS = ("model", "model_seed", "dataset", "condition")  # in every table, so that tables can be put together
IMAGES = ("sample_id", "pair")  # columns that say of which image, or pair of images, a row speaks


def table_path(folder: str | Path, experiment: str, name: str, shard: str = WHOLE) -> Path:
    """Where a table lies, or the part of it that a shard has measured."""
    if experiment not in NOTEBOOKS:
        raise ValueError(f"unknown experiment {experiment!r}; choose from {', '.join(NOTEBOOKS)}")
    return paths.ROOT / folder / experiment / f"{slug(name)}{part_suffix(shard)}.parquet"


def parse_shard(shard: str) -> tuple[int, int]:
    """(k, n) of "k/n", the k-th of n parts counted from 1; ValueError for anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", str(shard))
    k, n = (int(number) for number in match.groups()) if match else (0, 0)
    if not 1 <= k <= n:
        raise ValueError(f'shard must be "k/n" with k from 1 to n, such as "2/3", or "{GATHER}", not {shard!r}')
    return k, n


def part_suffix(shard: str) -> str:
    """What a shard's files have after their name: ".2of3", or nothing for all images and for "gather"."""
    k, n = (1, 1) if shard == GATHER else parse_shard(shard)
    return f".{k}of{n}" if n > 1 else ""


def save_table(
    table: pd.DataFrame,
    folder: str | Path,
    experiment: str,
    name: str,
    *,
    parameters: dict,
    provenance: dict,
    weights: dict[str, str] | None = None,
    data: dict | None = None,
    shard: str = WHOLE,
    loops: Sequence[str] = (),
) -> Path:
    """Write a result table and the facts about it; return the parquet's path.

    parameters: the notebook's.  weights: file -> sha256 of the weights that were measured.  data: name, note and
    checksum of the images.  provenance: of `runtime.provenance`.  shard: of the images that were measured; of "gather"
    the facts name the parts' provenance.  loops: the columns whose values the measuring went through, each time over
    all images, for `load_parts`.
    Both files are written aside and renamed, the JSON last: it holds the parquet's checksum, so a run that dies between
    the two is seen by `load_table`.  Raises ValueError for an empty table or one without KEY_COLUMNS, and for a part
    that does not say which image a row is of.
    """
    path = table_path(folder, experiment, name, shard)
    if table.empty:
        raise ValueError(f"the table {experiment}/{name} is empty; nothing was saved")
    missing = [column for column in (*KEY_COLUMNS, *loops) if column not in table.columns]
    if path != table_path(folder, experiment, name) and not set(IMAGES) & set(table.columns):
        missing.append(" or ".join(IMAGES))
    if missing:
        raise ValueError(f"the table {experiment}/{name} lacks the columns {', '.join(missing)}")
    if shard == GATHER:
        made = [_facts(part)["provenance"] for part in _find_parts(folder, experiment, name)]
        provenance = provenance | {"parts": made}
    with written_whole(path.with_suffix(".json")) as facts_file, written_whole(path) as table_file:
        table.to_parquet(table_file, index=False)
        facts = {
            "rows": len(table),
            "columns": {column: str(kind) for column, kind in table.dtypes.items()},
            "parameters": parameters,
            "weights": weights or {},
            "data": data or {},
            "provenance": provenance,
            "loops": list(loops),
            "sha256": sha256(table_file),
        }
        facts_file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return path


def load_facts(folder: str | Path, experiment: str, name: str) -> dict:
    """The JSON beside a table; FileNotFoundError names the notebook to run."""
    path = table_path(folder, experiment, name)
    if not (path.exists() and path.with_suffix(".json").exists()):
        raise FileNotFoundError(f"there is no table {path}. {_remedy(folder, experiment)}")
    return _facts(path)


def load_table(
    folder: str | Path,
    experiment: str,
    name: str,
    *,
    columns: Iterable[str] = (),
    parameters: dict | None = None,
    weights: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Read a result table, if it is what was asked for; where there is none but parts of it, those put together.

    columns: that must be there.  parameters, weights: values that the table must have been made with; others are not
    looked at.  Raises FileNotFoundError for a missing table and ValueError for one that is half-written, was made with
    other parameters or weights, or lacks a column; each names the notebook to run.
    """
    path, remedy = table_path(folder, experiment, name), _remedy(folder, experiment)
    if not path.exists() and _find_parts(folder, experiment, name):
        table = load_parts(folder, experiment, name, parameters=parameters, weights=weights)
    else:
        load_facts(folder, experiment, name)
        table = _read_checked(path, parameters, weights, remedy)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}. {remedy}")
    return table


def load_tables(folder: str | Path, experiment: str, names: Sequence[str], **asked) -> pd.DataFrame:
    """Several tables of one experiment, one below the other; asked: as of `load_table`."""
    return pd.concat([load_table(folder, experiment, name, **asked) for name in names], ignore_index=True)


def load_parts(
    folder: str | Path,
    experiment: str,
    name: str,
    *,
    parameters: dict | None = None,
    weights: dict[str, str] | None = None,
) -> pd.DataFrame:
    """The table that the parts of all shards make together, in the order in which one run would have written it.

    Arguments as of `load_table`.  Raises FileNotFoundError when a part is missing, by number, and ValueError when there
    are parts of two divisions, two that measured the same images or were made with different parameters or weights, or
    one that `load_table` would refuse.
    """
    files, remedy = _find_parts(folder, experiment, name), _remedy(folder, experiment)
    counts = sorted({n for _, n in files.values()})
    if len(counts) > 1:
        listed = ", ".join(path.name for path in files)
        raise ValueError(
            f"there are parts of {' and of '.join(map(str, counts))} shards: {listed}. Delete the old ones"
        )
    n = counts[0] if counts else 0
    there = {k for k, _ in files.values()}
    if missing := [f"{k}/{n}" for k in range(1, n + 1) if k not in there] or ["1/n to n/n"] * (not files):
        raise FileNotFoundError(
            f"of {table_path(folder, experiment, name).with_suffix('')} the parts {', '.join(missing)} are missing. "
            f"{remedy.removesuffix('.')}, with `shard` set to each."
        )
    facts = [_facts(path) for path in files]
    for other in facts[1:]:
        if any(other[kind] != facts[0][kind] for kind in ("parameters", "weights", "columns", "loops")):
            raise ValueError(f"the parts {', '.join(p.name for p in files)} were made in different ways. {remedy}")
    tables = [_read_checked(path, parameters, weights, remedy) for path in files]
    loops = facts[0]["loops"]
    keys = [*loops, *(column for column in IMAGES if column in tables[0].columns)]
    seen: set[tuple] = set()
    turns = [set(table[loops].itertuples(index=False, name=None)) for table in tables]
    first = next(iter(files))
    for path, table, own_turns in zip(files, tables, turns, strict=True):
        if own_turns != turns[0]:
            raise ValueError(f"{path} went through other values of {', '.join(loops)} than {first.name}. {remedy}")
        own = set(table[keys].itertuples(index=False, name=None))
        if twice := seen & own:
            what = ", ".join(f"{column} {value}" for column, value in zip(keys, min(twice, key=str), strict=True))
            raise ValueError(f"{path} measured what another part has too: {what}. {remedy}")
        seen |= own
    whole = pd.concat(tables, ignore_index=True)
    if loops:  # every part went through them all: first all images of the first turn, then those of the second, …
        turn = whole.groupby(loops, sort=False).ngroup()
        whole = whole.loc[turn.sort_values(kind="stable").index].reset_index(drop=True)
    return whole


def _find_parts(folder: str | Path, experiment: str, name: str) -> dict[Path, tuple[int, int]]:
    """path -> (k, n) of the parts that are there, in order."""
    whole = table_path(folder, experiment, name)
    parts = {
        path: (int(part[1]), int(part[2]))
        for path in whole.parent.glob(f"{whole.stem}.*of*.parquet")
        if (part := re.fullmatch(re.escape(whole.stem) + r"\.(\d+)of(\d+)\.parquet", path.name))
        and path.with_suffix(".json").exists()
    }
    return dict(sorted(parts.items(), key=lambda item: item[1]))


def _facts(path: Path) -> dict:
    return {"loops": []} | read_json(path.with_suffix(".json"), **FACTS)


def _read_checked(path: Path, parameters: dict | None, weights: dict | None, remedy: str) -> pd.DataFrame:
    """The table at `path`, if it is the one its JSON describes and was made as asked."""
    facts = _facts(path)
    if sha256(path) != facts["sha256"]:
        raise ValueError(f"{path} is not the table its JSON describes: half-written or altered. {remedy}")
    for kind, asked in (("parameters", parameters), ("weights", weights)):
        recorded = facts[kind]
        other = [key for key in asked or {} if recorded.get(key) != asked[key]]
        if other:
            differences = "; ".join(f"{key} is {recorded.get(key)!r}, asked {asked[key]!r}" for key in other)
            raise ValueError(f"{path} was made with other {kind} ({differences}). {remedy}")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no table: {str(error).splitlines()[0]}. {remedy}") from None
    if (len(table), [*table.columns]) != (facts["rows"], [*facts["columns"]]):
        raise ValueError(f"{path} has other rows or columns than its JSON says: altered by hand. {remedy}")
    return table


def changed_weights(folder: str | Path) -> list[str]:
    """A sentence for each file of weights that tables of a folder were made with in another state than today's.

    Today's are those of the run, then those of the repository; of a file that is gone, the states must be one.
    """
    folder, used = paths.ROOT / folder, defaultdict(lambda: defaultdict(list))  # file -> sha256 -> experiments
    for experiment in NOTEBOOKS:
        for path in sorted((folder / experiment).glob("*.parquet")):
            for file, checksum in _facts(path)["weights"].items():
                used[file][checksum].append(experiment)
    places = [*sorted(paths.ROOT.glob("*_models")), folder / "weights"]
    today = {file: at / file for at in places for file in used if (at / file).is_file()}
    said = []
    for file, states in sorted(used.items()):
        now = sha256(today[file]) if file in today else next(iter(states)) if len(states) == 1 else ""
        if old := sorted({experiment for checksum, those in states.items() if checksum != now for experiment in those}):
            said.append(f"{file}: {', '.join(old)} had other weights of this name than today's; run them again")
    return said


def load_published(name: str) -> pd.DataFrame:
    """A table of the 2023 report, as printed; results/published/README.md says what its columns mean and do not."""
    if name not in PUBLISHED:
        raise ValueError(f"the 2023 report has no table {name!r}; choose from {', '.join(PUBLISHED)}")
    return pd.read_csv(paths.RESULTS / "published" / f"{name}.csv")


def load_claims() -> pd.DataFrame:
    """The published claims and their verdicts, as `make claims` wrote them."""
    return pd.read_parquet(paths.RESULTS / "claims.parquet")


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


def _remedy(folder: str | Path, experiment: str) -> str:
    folder = paths.ROOT / folder
    if folder.parent == paths.RUNS:
        return f'Run {NOTEBOOKS[experiment]} with run = "{folder.name}" to make it.'
    return f"Run {NOTEBOOKS[experiment]} to make it, and `make publish` to have it in {folder.name}."
