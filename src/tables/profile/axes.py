"""Axes of the profile: what each measures, from stored tables, of every model and of every two.

An axis is a function of (folder of tables, models) that gives a row for each model (other is "") and for each pair of
models (other is subtracted): columns model, other, value, low, high, p_value (of a difference; NaN elsewhere), n, of
(what n counts), seeds, and of a model seed_low, seed_high (the range over its training seeds) and chance (the value
that would be seen were the claim of the axis false; NaN where there is none).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from src.results import load_table, load_tables, noting_missing
from src.runs import find_tables, load_run
from src.tables import attacks, calibration, cka, efficiency, texture_shape
from src.tables.compare.differences import of_shares
from src.tables.statistics import accuracy, first_seed, hits, two_level_bootstrap

MODELS = ("mlp", "cnn", "vit")  # the three architectures
COLUMNS = ["axis", "label", "model", "other", "value", "low", "high", "p_value", "n", "of", "seeds"]
COLUMNS += ["seed_low", "seed_high", "chance"]


def top1(folder: str | Path, models: Sequence[str]) -> pd.DataFrame:
    """Share of the test images classified right; by chance one in as many as there are classes."""
    return shares(load_tables(folder, "05_calibration", models)).assign(chance=1 / _n_classes(folder))


def worst_case(folder: str | Path, models: Sequence[str]) -> pd.DataFrame:
    """Accuracy under the worst of the ensemble's attacks, at the radius tried nearest to 2/255.

    Chance is what a classifier that does not look at the image keeps at any radius: one in the number of classes.
    """
    table = _of(load_table(folder, "02_attacks", "worst_case"), models, "02_attacks", folder)
    gap = (table["eps"] - 2 / 255).abs().round(6)
    table = table[gap == gap.min()]
    radius = f"{255 * table['eps'].iloc[0]:.3g}/255"
    rows = shares(table).assign(chance=1 / _n_classes(folder))
    return rows.assign(label=f"Worst-case accuracy under attack, {radius}")


def fooled_by_others(folder: str | Path, models: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """How much more examples made on other networks (MI-FGSM) fool it than random signs of the same radius do.

    The targets of `attacks.additive_transfer`, on the images that all of the models get right.  Empty below three.
    """
    table = _of(attacks.stored_transfer(folder), models, "02_attacks", folder, column="target")
    rows = attacks.compare_targets(table[table["attack"].isin(["mi_fgsm", attacks.NOISE])], list(models), seed=seed)
    return rows.assign(of="images", chance=0.0, label=f"Fooled by the {len(models) - 1} others, beyond random signs")


def shape_less_texture(folder: str | Path, models: Sequence[str]) -> pd.DataFrame:
    """Share of the cut-outs whose shape wins less the share whose texture does; 0 where neither cue wins.

    Of the pairs whose images the network gets right as they are; of two networks, those that both do.
    Raises FileNotFoundError as of `texture_shape.stored_cutouts`, and where no such pair is.
    """
    values = texture_shape.stored_cutouts(folder)
    rows = []
    for names in [*((name,) for name in models), *combinations(models, 2)]:
        part = values[values["model"].isin(names)].sort_values(
            "model", key=lambda of: of.map(names.index), kind="stable"
        )
        part = part[texture_shape.counted(part, "all models")]
        if part["model"].nunique() < len(names):  # a network that was not asked, or no pair that is right for all
            continue
        found = _over_seeds(part)
        rows.append(found[(found["model"] == names[0]) & (found["other"] == "".join(names[1:]))])
    if not rows:
        raise FileNotFoundError(f"the cut-outs of {folder} have no pair that {' or '.join(models)} gets right")
    return pd.concat(rows, ignore_index=True).assign(of="pairs", chance=0.0)


def calibration_error(folder: str | Path, models: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """Debiased calibration error of the networks as they are, on the half that 05 judges; calibrated ones have 0."""
    judged = calibration.scaled(load_tables(folder, "05_calibration", models), ["none"])
    by_seed = [
        (model, calibration.debiased_interval(part["confidence"], part["correct"])[0])
        for (model, _), part in judged.groupby(["model", "model_seed"], sort=False)
    ]
    rows = calibration.errors_over_seeds(judged, seed=seed).assign(of="images", chance=0.0)
    return _with_range(rows, pd.DataFrame(by_seed, columns=["model", "value"]))


def likeness(folder: str | Path, models: Sequence[str]) -> pd.DataFrame:
    """Mean CKA with the other architectures at matched depth, or what training adds to it (`cka.mean_with_others`)."""
    table = load_table(folder, "04a_cka", "hsic")
    _of(table, models, "04a_cka", folder, column="model_a")
    rows = cka.mean_with_others(table, models)
    labels = {"CKA": "CKA with the other architectures", "excess": "CKA with the others, beyond inputs and chance"}
    return rows.assign(other="", p_value=np.nan, of="images", label=rows["measure"].map(labels))


def latency(folder: str | Path, models: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """Milliseconds for one image on the most threads that were timed (`efficiency.compare_times`); without a chance."""
    table = first_seed(efficiency.one_image(load_table(folder, "06_efficiency", "timings")))
    table = _of(table, models, "06_efficiency", folder)
    table = table.sort_values("model", key=lambda names: names.map(list(models).index))
    rows = efficiency.compare_times(table, seed=seed)
    return _with_range(rows.assign(seeds=1, chance=np.nan), rows[rows["other"] == ""])


def _of(
    table: pd.DataFrame, models: Sequence[str], experiment: str, folder: str | Path, *, column: str = "model"
) -> pd.DataFrame:
    """The rows of the models; FileNotFoundError where one of them has none."""
    if missing := [name for name in models if name not in set(table[column])]:
        raise FileNotFoundError(f"{experiment} in {folder} has no {', '.join(missing)}; name other models, or run it")
    return table[table[column].isin(models)]


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each model and the difference of every two on the same images, as an axis has them, without chance.

    table: one row per network and image.  Of one training seed each: Wilson's interval, McNemar's exact test and
    Newcombe's interval of the difference; of more, over images and seeds (`two_level_bootstrap`).

    >>> rows = dict(model=["cnn"] * 2 + ["vit"] * 2, model_seed=0, sample_id=[0, 1] * 2, label=1)
    >>> rows |= dict(prediction=[1, 1, 1, 0])
    >>> shares(pd.DataFrame(rows))[["model", "other", "value", "p_value"]].fillna("-").values.tolist()
    [['cnn', '', 1.0, '-'], ['vit', '', 0.5, '-'], ['cnn', 'vit', 0.5, 1.0]]
    """
    table = table.assign(value=hits(table).astype(float), of="images")
    if (table.groupby("model")["model_seed"].nunique() > 1).any():
        return _over_seeds(table).assign(of="images")
    wide = table.pivot(index="sample_id", columns="model", values="value")
    if wide.isna().any(axis=None):
        raise ValueError("the networks were not measured on the same images; choose those that all have")
    facts, models = dict(n=len(wide), of="images", seeds=1), list(table["model"].unique())
    own = accuracy(table, by="model").rename(columns={"accuracy": "value"}).set_index("model").loc[models]
    rows = own[["value", "low", "high"]].reset_index().assign(other="", p_value=np.nan)
    pairs = [
        dict(model=a, other=b, value=found["difference"]) | {name: found[name] for name in ("low", "high", "p_value")}
        for a, b in combinations(models, 2)
        for found in [of_shares(wide[b] == 1, wide[a] == 1, paired=True)]
    ]
    return _with_range(pd.concat([rows, pd.DataFrame(pairs)], ignore_index=True).assign(**facts), rows)


def _over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    by_seed = table.groupby(["model", "model_seed"])["value"].mean().reset_index()
    rows = two_level_bootstrap(table)
    return _with_range(rows.assign(p_value=rows["p_value"].where(rows["other"] != "")), by_seed)


def _with_range(rows: pd.DataFrame, by_seed: pd.DataFrame) -> pd.DataFrame:
    """The rows with seed_low and seed_high; by_seed: model and value, a row for each training seed."""
    ends = by_seed.groupby("model")["value"].agg(seed_low="min", seed_high="max")
    return rows.join(ends, on="model")


def _n_classes(folder: str | Path) -> int:
    return len(load_run(find_tables(folder))["data"]["classes"])


@dataclass(frozen=True)
class Axis:
    """measure: see above.  better: 1 where more is better, -1 where less is, 0 where neither is.  scale: of `unit`.

    null: what the value of `chance` would be the value of.
    """

    label: str
    measure: Callable[[str | Path, Sequence[str]], pd.DataFrame]
    better: int
    unit: str = "%"
    scale: float = 100
    null: str = "chance"

    def title(self, label: str) -> str:
        """The label that a table has for the axis, with the unit."""
        return f"{label} ({self.unit})" if self.unit else label


AXES: dict[str, Axis] = {
    "accuracy": Axis("Accuracy", top1, 1),
    "robustness": Axis("Worst-case accuracy under attack", worst_case, 1),
    "transferability": Axis(
        "Fooled by others, beyond random signs", fooled_by_others, -1, unit="points", null="random signs"
    ),
    "shape bias": Axis("Shape less texture on cut-outs", shape_less_texture, 0, unit="points", null="neither cue"),
    "calibration": Axis("Calibration error (debiased)", calibration_error, -1, null="calibrated"),
    "similarity": Axis("CKA with the other architectures", likeness, 0, unit="", scale=1),
    "cost": Axis("Time for one image", latency, -1, unit="ms", scale=1),
}


def profile(folder: str | Path, models: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """All axes of all models and of every two; and what tables are missing, each with the notebook that makes it.

    Rows of COLUMNS, for `summarise`.  An axis that lacks a table is left out.
    """
    parts, notes = [], []
    for name, axis in AXES.items():
        with noting_missing(notes):
            rows = axis.measure(folder, models)
            parts.append(rows.assign(axis=name, label=rows.get("label", axis.label))[COLUMNS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS), notes
