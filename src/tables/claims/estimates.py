"""Measures of claims: what the tables of a folder say of two architectures, with an interval over images and seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from src.results import load_facts, load_table, load_tables
from src.tables import attacks, calibration, cka, efficiency, texture_shape
from src.tables.statistics import hits, percentile_interval, two_level_bootstrap

Names = Mapping[str, str]  # architecture -> label in the tables, which a control replaces: {"cnn": "cnn@w2"}
N_RESAMPLES = 2_000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and the two-sided p-value of its being 0.

    n: images, pairs or processes.  seeds: training seeds of the architecture that has fewest.
    """

    value: float
    low: float
    high: float
    p_value: float
    n: int
    seeds: int = 1


Measure = Callable[[Path, Names], Estimate]


def mean_of(values: pd.DataFrame, a: str, b: str = "", *, beyond: float = 0.0) -> Estimate:
    """Mean over images and seeds of model a, less that of b where given, less `beyond`.

    values: columns model, model_seed, sample_id, value.  Interval and test: `statistics.two_level_bootstrap`.
    Raises FileNotFoundError where one of them has no rows.

    >>> rows = dict(model=["a"] * 4 + ["b"] * 4, model_seed=0, sample_id=[0, 1, 2, 3] * 2, value=[1] * 4 + [0, 0, 1, 0])
    >>> float(mean_of(pd.DataFrame(rows), "a", "b", beyond=0.25).value)
    0.5
    """
    values = values[values["model"].isin([a, b])]
    if missing := {a, b} - {""} - set(values["model"].unique()):
        raise FileNotFoundError(f"there are no images to count of {' and '.join(sorted(missing))}")
    values = values.assign(value=values["value"] - beyond * (values["model"] == a))
    order = values["model"].map({a: 0, b: 1}).sort_values(kind="stable").index  # a first, so that b is subtracted
    table = two_level_bootstrap(values.loc[order], n_resamples=N_RESAMPLES)
    row = table[(table["model"] == a) & (table["other"] == b)].iloc[0]
    return Estimate(row["value"], row["low"], row["high"], row["p_value"], int(row["n"]), int(row["seeds"]))


def robust(folder: Path, names: Names, a: str, b: str, *, eps_255: float) -> Estimate:
    """Accuracy of a under the ensemble less that of b, at a radius in 255ths."""
    return mean_of(_held(folder, [names[a], names[b]], eps_255), names[a], names[b])


def flattered(folder: Path, names: Names, a: str, b: str, *, eps_255: float) -> Estimate:
    """Accuracy under cold 5-step PGD less that under the ensemble, on the images of both: of a less of b."""
    models = [names[a], names[b]]
    curves = attacks.stored_curves(folder, models)
    drawn = curves[(curves["condition"] == "pgd cold") & np.isclose(255 * curves["eps"], eps_255)]
    drawn = _of(drawn, models, f"cold PGD at {eps_255:g}/255", folder)
    drawn = drawn.assign(value=hits(drawn).astype(float))
    both = drawn.merge(_held(folder, models, eps_255), on=["model", "model_seed", "sample_id"], suffixes=("", "_held"))
    return mean_of(both.assign(value=both["value"] - both["value_held"]), *models)


def retained(folder: Path, names: Names, a: str, b: str, *, condition: str, level: float) -> Estimate:
    """Accuracy on manipulated images over that on clean ones: of a less of b.

    Of a ratio of means, each image has its part of the first order: R + (manipulated - R clean) / mean clean.
    """
    models = [names[a], names[b]]
    table = texture_shape.with_clean(load_tables(folder, "03_texture_shape", models))
    table = table[(table["condition"] == condition) & (table["level"] == level)]
    both = _of(table, models, f"{condition} {level:g}", folder).astype({"right": float, "clean": float})
    means = both.groupby(["model", "model_seed"])[["right", "clean"]].transform("mean")
    ratio = means["right"] / means["clean"]
    return mean_of(both.assign(value=ratio + (both["right"] - ratio * both["clean"]) / means["clean"]), *models)


def kept(folder: Path, names: Names, a: str, b: str, *, pixels: float, beyond: float = 0.0) -> Estimate:
    """Predictions kept under a shift: of a less of b, less `beyond`."""
    models = [names[a], names[b]]
    table = texture_shape.with_before(load_tables(folder, "03_texture_shape", models))
    table = table[(table["condition"] == "shift") & (table["level"] == pixels)]
    same = _of(table, models, f"shift by {pixels:g} px", folder)
    return mean_of(same.assign(value=(same["prediction"] == same["before"]).astype(float)), *models, beyond=beyond)


def follows_shape(folder: Path, names: Names, a: str, b: str) -> Estimate:
    """Share of the cut-out conflicts decided for the shape less that for the texture, both images right: a less b."""
    models = [names[a], names[b]]
    table = _of(texture_shape.stored_cutouts(folder), models, "cut-outs", folder)
    return mean_of(table[texture_shape.counted(table, "all models")], *models)


def alike_within(folder: Path, names: Names, a: str, b: str) -> Estimate:
    """Error consistency κ of two seeds of one architecture less that of two architectures, clean images."""
    models = [names[a], names[b]]
    table = load_tables(folder, "05_calibration", models)
    if table.groupby("model")["model_seed"].nunique().min() < 2:
        raise FileNotFoundError(f"{folder.name} has one training seed of {' or '.join(models)}; κ within needs two")
    row = texture_shape.consistency_gaps(table, n_resamples=N_RESAMPLES).iloc[0]
    seeds = int(table.groupby("model")["model_seed"].nunique().min())
    return Estimate(row["gap"], row["low"], row["high"], row["p_value"], int(row["n"]), seeds)


def agrees(folder: Path, names: Names, pair: tuple[str, str], what: str) -> Estimate:
    """A row of `cka.compare_at_depth`, deconfounded, mean over depth: what is of a pair of architectures.

    what: as there; "less a–b" with architectures for models.
    """
    models = list(names.values())
    hsic = _at_depth(folder, load_facts(folder, "04a_cka", "hsic")["sha256"])
    if missing := set(models) - set(hsic["model_a"].unique()):
        networks = ", ".join(sorted(missing))
        raise FileNotFoundError(f"{folder.name} has no CKA of {networks}. Run 04a_cka.ipynb to make it.")
    table = cka.compare_at_depth(hsic, models, n_resamples=N_RESAMPLES // 2)
    table = table[(table["measure"] == "deconfounded") & (table["layers"] == "depth")]
    for architecture, label in names.items():
        what = what.replace(f"{{{architecture}}}", label)
    row = table[(table["pair"] == "–".join(names[name] for name in pair)) & (table["what"] == what)]
    if row.empty:
        raise FileNotFoundError(f"{folder.name} has no CKA of {what} for {pair}. Run 04a_cka.ipynb to make it.")
    row = row.iloc[0]
    return Estimate(row["value"], row["low"], row["high"], row["p_value"], int(row["n"]), int(row["seeds"]))


@lru_cache(maxsize=3)  # the table of the controls has two million rows, of which few are asked for, again and again
def _at_depth(folder: Path, checksum: str) -> pd.DataFrame:
    """The rows at matched depth of a folder's table of HSIC, which has this checksum."""
    return cka.rows_at_depth(load_table(folder, "04a_cka", "hsic", columns=["kind_a"]))


def sure(folder: Path, names: Names, a: str, *, sign: int) -> Estimate:
    """Mean confidence less accuracy of a, as trained, times the sign: 1 for too sure, -1 for not sure enough."""
    judged = calibration.scaled(load_tables(folder, "05_calibration", [names[a]]), ["none"])
    return mean_of(judged.assign(value=sign * (judged["confidence"] - judged["correct"])), names[a])


def calibrated_alike(folder: Path, names: Names, *, within: float) -> Estimate:
    """`within` less the largest difference of two models' debiased errors after temperature scaling."""
    judged = calibration.scaled(load_tables(folder, "05_calibration", list(names.values())), ["temperature"])
    row = calibration.compared(judged, null=within).nlargest(1, "difference").iloc[0]
    low, high, value = within - row["high"], within - row["low"], within - row["difference"]
    return Estimate(value, low, high, row["p_value"], int(row["n"]), int(row["seeds"]))


def dearer(folder: Path, names: Names, a: str, b: str, *, at: str) -> Estimate:
    """Logarithm of how many times longer a takes than b; at: "latency" (batch 1, one thread), "saturation", "growth".

    growth: the ratio at saturation over that at batch 1.  Drawn over processes, then repeats.
    """
    timings = load_table(folder, "06_efficiency", "timings")
    timings = _of(timings, [names[a], names[b]], "timings", folder)
    latency = timings[(timings["sweep"] == "latency") & (timings["threads"] == timings["threads"].min())]
    tables = {"latency": latency, "saturation": efficiency.at_saturation(timings)}
    found, processes, stretch = {}, 1, 1.0
    for what, table in tables.items():
        wide, drawn, stretch = efficiency.medians_drawn(table, n_resamples=N_RESAMPLES)
        columns = [list(wide.columns).index(names[name]) for name in (a, b)]
        typical = np.log(efficiency.typical(wide))
        ratio, draws = typical[names[a]] - typical[names[b]], np.log(drawn[:, columns[0]] / drawn[:, columns[1]])
        found[what], processes = (ratio, draws), wide.index.get_level_values("process").nunique()
    found["growth"] = tuple(late - early for late, early in zip(found["saturation"], found["latency"], strict=True))
    value, draws = found[at]
    low, high = (value + stretch * (end - value) for end in percentile_interval(draws))
    return Estimate(float(value), float(low), float(high), efficiency.p_value_of(value, draws, processes), processes)


def transferred(
    folder: Path, names: Names, a: str, b: str = "", *, eps_255: float, below: float | None = None
) -> Estimate:
    """Excess of MI-FGSM's transfer over random signs onto a, less that onto b; or `below` less that onto a."""
    table = attacks.stored_transfer(folder)
    table = table[np.isclose(255 * table["eps"], eps_255)]
    table = _of(table, list(names.values()), f"transfer at {eps_255:g}/255", folder)
    table = table[table["attack"].isin(["mi_fgsm", attacks.NOISE])]
    found = attacks.compare_targets(table, list(names.values()), n_resamples=N_RESAMPLES)
    if found.empty:
        raise FileNotFoundError(f"{folder.name} has no image that {', '.join(names.values())} all get right")
    sides = (names[a], names[b] if b else "")
    row = found[found["model"].isin(sides) & found["other"].isin(sides)].iloc[0]
    sign = 1 if b and row["model"] == names[a] else -1
    value, *ends = ((below or 0) + sign * row[end] for end in ("value", "low", "high"))
    spread = (max(ends) - min(ends)) / (2 * special.ndtri(0.975))
    p_value = float(2 * special.ndtr(-abs(value) / spread)) if spread > 0 else float(value == 0)
    return Estimate(value, min(ends), max(ends), p_value, int(row["n"]), int(row["seeds"]))


def _held(folder: Path, models: list[str], eps_255: float) -> pd.DataFrame:
    """Whether each image withstands the ensemble, as `value`."""
    worst = attacks.stored_worst_case(folder)
    worst = worst[np.isclose(255 * worst["eps"], eps_255)]
    worst = _of(worst, models, f"ensemble at {eps_255:g}/255", folder)
    return worst.assign(value=(worst["broken_by"] == "").astype(float))


def _of(table: pd.DataFrame, models: list[str], what: str, folder: Path) -> pd.DataFrame:
    """The rows of the models; FileNotFoundError where one has none."""
    if missing := set(models) - set(table["model"]):
        raise FileNotFoundError(f"{folder.name} has no {what} of {', '.join(sorted(missing))}")
    return table[table["model"].isin(models)]
