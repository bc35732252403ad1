"""The table of claims: each statement with its numbers, what each control leaves of it, and a verdict."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from src.results import load_tables, noting_missing
from src.tables.claims.estimates import Estimate
from src.tables.claims.statements import CONTROLS, STATEMENTS, Statement, choices_of, networks_of
from src.tables.statistics import hits, with_holm

HOLDS, REVERSED, OPEN, NOT_RUN = "holds", "reversed", "open", "not run"
SEEDS = "seeds"  # the control that needs no other networks, only more of each
N_SEEDS = 3
ACCURACY = ("accuracy matched (narrow)", "accuracy matched (short)")
RECIPE = ("common recipe", "no smoothing, no mixup")
WITHIN = 0.01  # of each other, for accuracies that are called matched
POWER = 0.8
ROUNDING = 1e-9  # a share of images is at least a thousand times as large


def judge_claims(folders: Mapping[str, Path], statements: tuple[Statement, ...] = STATEMENTS) -> pd.DataFrame:
    """One row per statement: what it says, its numbers as trained, the state under each control, the verdict.

    folders: of tables; "base", and where they are there "controls" and "other".  Columns: claim, text, unit, scale,
    counted, value, low, high, p_value, p_holm, n, n_promised, small, n_seeds, state (as trained), a column for each
    control (SEEDS and CONTROLS), value, low and high under it as "<control> value" and so on, verdict, and what would
    settle an open one: needed (as many of `counted`) and needed_seeds, see `needed`.
    A control holds when its interval lies above 0, is reversed when it lies below, open when it holds 0, and not run
    when a table or a network is not there, or when accuracies that it calls matched are not WITHIN of each other.
    Holm's correction is over all statements that have a number.
    """
    rows = []
    for statement in statements:
        at = "controls" if statement.recipe == "plain" else "base"
        found = _estimate(statement, folders.get(at), networks_of(statement))
        row = dict(claim=statement.claim, text=statement.text, unit=statement.unit, scale=statement.scale)
        row |= dict(counted=statement.counted)
        row |= _numbers(found) | dict(n_promised=statement.n, small=statement.small)
        for control, (where, _) in CONTROLS.items() if statement.recipe == "base" else ():
            tried = partial(_estimate, statement, folders.get(where), matched=control in ACCURACY)
            under = next(filter(None, map(tried, choices_of(statement, control))), None)
            row |= {control: state_of(under)} | {
                f"{control} {end}": getattr(under, end, np.nan) for end in ("value", "low", "high")
            }
        rows.append(row)
    table = pd.DataFrame(rows)
    for control in CONTROLS:
        table[control] = table.get(control, pd.Series(index=table.index, dtype=object)).fillna(NOT_RUN)
    table = with_holm(table)
    table["state"] = [_as_trained(row) for row in table.to_dict("records")]
    enough = table["n_seeds"] >= N_SEEDS
    table[SEEDS] = np.where(table["value"].isna() | ~enough, NOT_RUN, table["state"])
    table["verdict"] = [verdict_of(row) for row in table.to_dict("records")]
    tests = table["p_value"].rank(ascending=False, method="max").fillna(1)  # of how many Holm's method takes each to be
    settled = [needed(row, tests=n) for row, n in zip(table.to_dict("records"), tests, strict=True)]
    table[["needed", "needed_seeds"]] = pd.DataFrame(settled, index=table.index, columns=["needed", "needed_seeds"])
    return table


def state_of(found: Estimate | None) -> str:
    """What an estimate leaves of a statement that says it is above 0; of no width, as of one image, it is open.

    An end of the interval that is 0 but for ROUNDING is 0, which the interval then holds.

    >>> state_of(Estimate(0.1, -0.1, 0.3, 0.3, 100))
    'open'
    """
    if found is None or np.isnan(found.low):
        return NOT_RUN
    if found.high - found.low < ROUNDING:
        return OPEN
    return HOLDS if found.low > ROUNDING else REVERSED if found.high < -ROUNDING else OPEN


def verdict_of(row: Mapping) -> str:
    """What may be said: "architecture", "these networks", "accuracy", "recipe", "refuted", "open" or "not run".

    row: state, low, n, n_promised, small and the states of SEEDS and CONTROLS.  As trained, an interval on the other
    side refutes a statement, and one that holds 0 does so at the n that was promised, unless it is of something small.
    One above 0 that Holm's correction leaves unsure is open.

    >>> held = dict(state="holds", n=9, n_promised=9) | dict.fromkeys([SEEDS, *CONTROLS], "holds")
    >>> verdict_of(held), verdict_of(held | {"common recipe": "reversed"}), verdict_of(held | {"other data": "not run"})
    ('architecture', 'recipe', 'these networks')
    """
    if row["state"] != HOLDS:
        enough = row["n"] >= row["n_promised"] and not row["small"] and not row["low"] > ROUNDING
        refuted = row["state"] == REVERSED or (row["state"] == OPEN and enough)
        return "refuted" if refuted else row["state"]
    undone = set(undone_by(row))
    gone = [name for name, controls in (("accuracy", ACCURACY), ("recipe", RECIPE)) if undone & set(controls)]
    if gone:
        return " and ".join(gone)
    return "architecture" if all(row[control] == HOLDS for control in (SEEDS, *CONTROLS)) else "these networks"


def undone_by(row: Mapping) -> list[str]:
    """The controls of accuracy and of the recipe under which a statement that holds as trained vanishes."""
    return [control for control in (*ACCURACY, *RECIPE) if row["state"] == HOLDS and vanishes(row, control)]


def vanishes(row: Mapping, control: str) -> bool:
    """Whether a control turns a statement round, or leaves it open and surely below its number as trained.

    What is open because its interval is wide has not vanished.  Surely: by the interval of the difference of two
    estimates from theirs, as if these shared no images (Zou & Donner 2008).

    >>> row = dict(value=0.2, low=0.1, high=0.3) | {"c value": 0.0, "c low": -0.1, "c high": 0.1, "c": "open"}
    >>> vanishes(row, "c"), vanishes(row | {"c high": 0.4}, "c")
    (True, False)
    """
    if row[control] != OPEN:
        return row[control] == REVERSED
    lost = row["value"] - row[f"{control} value"]
    return bool(lost > np.hypot(row["value"] - row["low"], row[f"{control} high"] - row[f"{control} value"]))


def needed(row: Mapping, *, tests: int = 1, level: float = 0.95) -> tuple[float, float]:
    """Images and training seeds at which what is open as trained would be settled with a chance of POWER.

    As if its number were the truth and its interval shrank with the root of both: of a network of one seed the images
    (NaN seeds), of CKA the seeds (NaN images), which from N_SEEDS on are in its interval.  NaN, NaN for what is not
    open.  tests: of which it is one, for Holm's correction.

    >>> row = dict(state="open", value=0.05, low=-0.05, high=0.15, n=100, n_seeds=3)
    >>> needed(row), needed(row | {"unit": "CKA"}), needed(row | {"n_seeds": 1}), needed(row, tests=3)
    ((818.0, 25.0), (nan, 25.0), (818.0, nan), (1091.0, 33.0))
    """
    if row["state"] != OPEN or not row["value"] or np.isnan(row["value"]):
        return np.nan, np.nan
    spread = (row["high"] - row["low"]) / (2 * special.ndtri((1 + level) / 2))
    reach = special.ndtri(1 - (1 - level) / (2 * tests)) + special.ndtri(POWER)
    times = max((reach * spread / row["value"]) ** 2, 1)
    of_networks = row.get("unit") == "CKA"
    has_seeds = row["n_seeds"] >= (N_SEEDS if of_networks else 2)
    images = np.nan if of_networks else float(np.ceil(row["n"] * times))
    return images, float(np.ceil(row["n_seeds"] * times)) if has_seeds else np.nan


def names_of(table: pd.DataFrame) -> list[str]:
    """C1, C2, …; C10a, C10b where a claim has several statements."""
    place, many = table.groupby("claim").cumcount(), table.groupby("claim")["claim"].transform("size") > 1
    return [name + "abcdefghi"[i] * several for name, i, several in zip(table["claim"], place, many, strict=True)]


def told(row: Mapping, end: str = "value", control: str = "") -> str:
    """A number of the table in its unit, with its sign: of the statement as trained, or under a control.

    >>> told(dict(scale=100, unit="points", value=-0.123)), told(dict(scale=1, unit="times", value=1.4427))
    ('−12.3', '4.23')
    """
    value = row[f"{control} {end}".strip()]
    if row["unit"] == "times":
        return f"{np.exp(value):.3g}"
    return f"{row['scale'] * value:+.{1 if row['scale'] == 100 else 2}f}".replace("-", "−")


def _as_trained(row: Mapping) -> str:
    state = state_of(Estimate(row["value"], row["low"], row["high"], row["p_value"], row["n"]))
    return OPEN if state in (HOLDS, REVERSED) and not row["p_holm"] < 0.05 else state


def _estimate(
    statement: Statement, folder: Path | None, names: dict[str, str], *, matched: bool = False
) -> Estimate | None:
    """The statement's number from a folder's tables; None where they or the networks are not there.

    matched: None too where the networks' accuracies, by the tables of 05, are not WITHIN of each other.
    """
    if folder is None:
        return None
    with noting_missing([]):
        if matched and not _are_matched(load_tables(folder, "05_calibration", list(names.values()))):
            return None
        return statement.measure(folder, names)
    return None


def _are_matched(predictions: pd.DataFrame) -> bool:
    accuracies = predictions.assign(hit=hits(predictions)).groupby("model")["hit"].mean()
    return bool(accuracies.max() - accuracies.min() <= WITHIN + ROUNDING)


def _numbers(found: Estimate | None) -> dict:
    keys = ("value", "low", "high", "p_value", "n", "seeds")
    return {key.replace("seeds", "n_seeds"): getattr(found, key, np.nan) for key in keys}
