"""Two folders of tables side by side: what differs, B less A, what only one has, and how they were made.

Two samples of one key are compared in pairs where at least half of the smaller one's units are in both, on those; else
as independent lots, which is too careful, if anything, where some images are shared.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from src.results import NOTEBOOKS, load_facts, load_table
from src.runs import find_tables, load_run
from src.tables.compare.samples import COUNTS, MEASURES, SETTINGS, Values, samples_of
from src.tables.statistics import with_holm

KEYS = ["experiment", "table", "model", "model_seed", "condition", *SETTINGS, "measure"]
COLUMNS = [*KEYS, "a", "b", "difference", "low", "high", "n", "n_a", "n_b", "paired", "p_value", "p_holm", "differs"]
LEVEL = 0.05  # of Holm's test


def compare(a: str | Path, b: str | Path) -> pd.DataFrame:
    """One row for each measure of each group that a folder of tables has: COLUMNS.

    a, b: values in the two folders, NaN where one lacks them; where `paired`, of the units that both have.  difference,
    low, high: B less A with its 95 % interval; of times and counts the change relative to A.  n: pairs, or where not
    paired the units of the smaller lot, of n_a and n_b.  p_holm: of all tests of the comparison as one family (Holm
    1979).  differs: whether p_holm is below LEVEL, or an exact count is another; times are not tested.
    Raises ValueError for folders on different images and for a damaged table, and FileNotFoundError for no folder.
    """
    folders, rows = [find_tables(a), find_tables(b)], []
    check_same_data(*folders)
    there = [tables_of(folder) for folder in folders]
    for experiment, name in sorted({*there[0], *there[1]}):
        tables = [
            load_table(folder, experiment, name) if (experiment, name) in own else None
            for folder, own in zip(folders, there, strict=True)
        ]
        check_same_labels(*tables, name=f"{experiment}/{name}")
        one, other = ({} if table is None else _by_key(table) for table in tables)
        for key in dict.fromkeys([*one, *other]):
            place = dict(experiment=experiment, table=name) | dict(key)
            rows.append(place | _difference(place["measure"], one.get(key), other.get(key)))
    table = with_holm(pd.DataFrame(rows, columns=COLUMNS[:-2]))
    exact = table["measure"].isin(COUNTS.values()) & table["difference"].abs().gt(0)
    return table.assign(differs=exact | table["p_holm"].lt(LEVEL))


def tables_of(folder: Path) -> list[tuple[str, str]]:
    """(experiment, name) of every table, or of its parts, in a folder."""
    files = [path for experiment in NOTEBOOKS for path in (folder / experiment).glob("*.parquet")]
    return sorted({(path.parent.name, re.sub(r"\.\d+of\d+$", "", path.stem)) for path in files})


def check_same_data(a: Path, b: Path) -> None:
    """ValueError unless both folders say that they are of the same images: name, classes and checksum."""
    told = [load_run(folder)["data"] for folder in (a, b)]
    for fact in ("name", "classes", "checksum"):
        one, other = (data.get(fact) for data in told)
        if one != other:
            if fact == "classes":
                one, other = (f"{len(classes)} classes ({', '.join(classes[:3])}, …)" for classes in (one, other))
            raise ValueError(
                f"{a.name} is on {one} and {b.name} on {other}: only runs on the same images can be compared"
            )


def check_same_labels(a: pd.DataFrame | None, b: pd.DataFrame | None, *, name: str) -> None:
    """ValueError where an image of both tables has two labels: then it is not the same image."""
    if a is None or b is None or not {"sample_id", "label"} <= {*a.columns} & {*b.columns}:
        return
    one, other = (table.drop_duplicates("sample_id").set_index("sample_id")["label"] for table in (a, b))
    one, other = one.align(other, join="inner")
    if (one != other).any():
        raise ValueError(
            f"{(one != other).sum()} images of {name} have other labels in A than in B: not the same images"
        )


def _by_key(table: pd.DataFrame) -> dict[tuple, Values]:
    """(column, value) of each key column -> the sample."""
    samples = {}
    for facts, measure, values in samples_of(table):
        facts = {name: _plain(value) for name, value in facts.items() if not pd.isna(value)} | dict(measure=measure)
        samples[tuple(facts.items())] = values
    return samples


def _plain(value):
    return round(float(value), 6) if isinstance(value, float | np.floating) else value


def _difference(measure: str, a: Values | None, b: Values | None) -> dict:
    """The columns of a row that follow its key."""
    how = MEASURES[measure]
    if any(isinstance(values, pd.Series) and not values.index.is_unique for values in (a, b)):
        raise ValueError(f"a {measure} holds a unit twice: the columns of its table do not tell its rows apart")
    n_a, n_b = (0 if values is None else values.index.nunique() for values in (a, b))
    if a is None or b is None:
        there = a if b is None else b
        own = how.differ(there, there, how.pairs)["a"]
        return dict(a=np.nan if a is None else own, b=np.nan if b is None else own, n=0, n_a=n_a, n_b=n_b, paired=False)
    shared = a.index.unique().intersection(b.index)
    paired = how.pairs and 2 * len(shared) >= min(n_a, n_b)
    if paired:
        a, b = (values[values.index.isin(shared)].sort_index(kind="stable") for values in (a, b))
    found = how.differ(a, b, paired)
    return found | dict(n=len(shared) if paired else min(n_a, n_b), n_a=n_a, n_b=n_b, paired=paired)


def only_in_one(table: pd.DataFrame) -> pd.DataFrame:
    """What one folder alone has, as coarse as is true; table: of `compare`.

    Columns: side (A or B), experiment, table, model, model_seed, condition, part, rows.  Empty from where the other
    folder has nothing: of an experiment, a table, a model, a condition.  part: whether it has some of the condition.

    >>> keys = dict(experiment="05_calibration", table="all", model=["cnn", "vit"], model_seed=0, condition="clean")
    >>> only_in_one(pd.DataFrame(keys | dict(n_a=[5, 5], n_b=[5, 0])))[["side", "model", "rows"]].values.tolist()
    [['A', 'vit', 1]]
    """
    names, rows = ["experiment", "table", "model", "model_seed", "condition"], []
    for side, other in (("A", "n_b"), ("B", "n_a")):
        left = table
        for by in (names[:1], names[:2], names[:4], names):
            alone = left.groupby(by)[other].transform("sum").eq(0)
            rows += [_group(by, key, part, side) for key, part in left[alone].groupby(by, sort=False)]
            left = left[~alone]
        left = left[left[other].eq(0)]
        rows += [_group(names, key, part, side) | dict(part=True) for key, part in left.groupby(names, sort=False)]
    return pd.DataFrame(rows, columns=["side", *names, "part", "rows"]).fillna({"part": False})


def _group(by: list[str], key: tuple, part: pd.DataFrame, side: str) -> dict:
    return dict(zip(by, key, strict=True)) | dict(side=side, part=False, rows=len(part))


def differing_facts(a: str | Path, b: str | Path) -> pd.DataFrame:
    """What the JSON beside the tables that both folders have says otherwise: columns fact, a, b, tables.

    Facts: parameters, sha256 of weights, hash of the code, checksum of the data, machine, threads and versions.
    """
    folders, rows = [find_tables(a), find_tables(b)], []
    for experiment, name in sorted({*tables_of(folders[0])} & {*tables_of(folders[1])}):
        one, other = (_flat(load_facts(folder, experiment, name)) for folder in folders)
        for fact in dict.fromkeys([*one, *other]):
            if one.get(fact) != other.get(fact):
                values = (str(side.get(fact, "not recorded")) for side in (one, other))
                rows.append((fact, *values, f"{experiment}/{name}"))
    table = pd.DataFrame(rows, columns=["fact", "a", "b", "tables"])
    return table.groupby(["fact", "a", "b"], sort=False)["tables"].agg(", ".join).reset_index()


def _flat(facts: dict) -> dict:
    made = facts["provenance"]
    flat = {f"parameter {name}": value for name, value in facts["parameters"].items()}
    flat |= {f"weights {file}": checksum[:12] for file, checksum in facts["weights"].items()}
    flat |= {f"package {name}": version for name, version in made.get("packages", {}).items()}
    flat |= {fact: made[fact] for fact in ("code", "device", "threads", "python") if fact in made}
    return flat | ({"data checksum": facts["data"]["checksum"]} if facts.get("data", {}).get("checksum") else {})
