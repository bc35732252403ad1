"""Each architecture on all axes of the study, from stored tables: values, intervals, seeds, ranks; no torch.

An axis is a function of (folder of tables, models) that gives one row per model and training seed: value, low, high, n.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.results import load_table, load_tables, noting_missing
from src.tables import attacks, calibration, cka, efficiency, texture_shape
from src.tables.statistics import accuracy

MODELS = ("mlp", "cnn", "vit")  # the three architectures
N_RESAMPLES = 2_000
KEYS = ["model", "model_seed"]
COLUMNS = ["axis", *KEYS, "value", "low", "high", "n"]


def top1(folder: str | Path, models: Sequence[str]) -> pd.DataFrame:
    """Share of the test images classified right, with Wilson's interval."""
    table = load_tables(folder, "05_calibration", models)
    return accuracy(table, by=KEYS).rename(columns={"accuracy": "value"})


def worst_case(folder: str | Path, models: Sequence[str]) -> pd.DataFrame:
    """Accuracy under the worst of APGD, targeted APGD and Square, at the radius tried nearest to 2/255."""
    table = load_table(folder, "02_attacks", "worst_case")
    gap = (table["eps"] - 2 / 255).abs().round(6)
    table = table[(gap == gap.min()) & table["model"].isin(models)]
    return accuracy(table, by=KEYS).rename(columns={"accuracy": "value"})


def fooled_by_others(folder: str | Path, models: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """How much more examples made on other networks (MI-FGSM) fool it than random signs of the same radius do.

    The targets of `attacks.additive_transfer`, on the images that all of the models get right.  Empty below three.
    """
    table = attacks.stored_transfer(folder)
    seeds = table.groupby("target")["model_seed"].first()
    there = [model for model in models if model in seeds]
    fitted = attacks.additive_transfer(table[table["attack"].isin(["mi_fgsm", attacks.NOISE])], there, seed=seed)
    if fitted.empty:
        return pd.DataFrame(columns=[*KEYS, "value", "low", "high", "n"])
    targets = fitted[fitted["role"] == "target"].rename(columns={"excess": "value"})
    return targets.assign(model_seed=targets["model"].map(seeds))[[*KEYS, "value", "low", "high", "n"]]


def shape_share(folder: str | Path, models: Sequence[str]) -> pd.DataFrame:
    """Shape bias on the hybrids of one image's phase and another's amplitude (`texture_shape.shape_bias`)."""
    table = load_table(folder, "03_texture_shape", "cue_conflict")
    table = table[(table["condition"] == "phase") & table["model"].isin(models)]
    return texture_shape.shape_bias(table, by=KEYS).rename(columns={"shape_bias": "value"})


def calibration_error(folder: str | Path, models: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """Debiased calibration error of the networks as they are (`debiased_interval`), on the half that 05 judges."""
    rows = []
    for model in models:
        table = load_table(folder, "05_calibration", model)
        for model_seed, part in table[table["half"] == "judged"].groupby("model_seed"):
            probs = calibration.softmax(part.filter(regex=r"^logit_\d+$").to_numpy())
            sure = calibration.confidence_and_correct(probs, part["label"].to_numpy())
            rows.append((model, model_seed, *calibration.debiased_interval(*sure, seed=seed), len(part)))
    return pd.DataFrame(rows, columns=[*KEYS, "value", "low", "high", "n"])


def likeness(folder: str | Path, models: Sequence[str]) -> pd.DataFrame:
    """Mean CKA of all layers with all layers of the other architectures (`cka.mean_with_others`)."""
    return cka.mean_with_others(load_table(folder, "04a_cka", "hsic"), models)


def latency(folder: str | Path, models: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """Median milliseconds for one image on the most threads that were timed; bootstrap over repeats."""
    table = efficiency.one_image(load_table(folder, "06_efficiency", "timings"))
    table = table[table["model"].isin(models)]
    rows = []
    for (model, model_seed), part in table.groupby(KEYS, sort=False):
        times = part["ms"].to_numpy()
        drawn = np.median(np.random.default_rng(seed).choice(times, (N_RESAMPLES, len(times))), axis=1)
        rows.append((model, model_seed, np.median(times), *np.quantile(drawn, (0.025, 0.975)), len(times)))
    return pd.DataFrame(rows, columns=[*KEYS, "value", "low", "high", "n"])


@dataclass(frozen=True)
class Axis:
    """measure: see above.  better: 1 where more is better, -1 where less is, 0 where neither is.  scale: of `unit`."""

    label: str
    measure: Callable[[str | Path, Sequence[str]], pd.DataFrame]
    better: int
    unit: str = "%"
    scale: float = 100

    @property
    def title(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


AXES: dict[str, Axis] = {
    "accuracy": Axis("Accuracy", top1, 1),
    "robustness": Axis("Worst-case accuracy under attack", worst_case, 1),
    "transferability": Axis("Fooled by others, beyond random signs", fooled_by_others, -1),
    "shape bias": Axis("Shape bias (phase against amplitude)", shape_share, 0),
    "calibration": Axis("Calibration error (debiased)", calibration_error, -1),
    "similarity": Axis("CKA with the other architectures", likeness, 0, unit="", scale=1),
    "cost": Axis("Time for one image", latency, -1, unit="ms", scale=1),
}


def profile(folder: str | Path, models: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """All axes of all models; and what tables are missing, each with the notebook that makes it.

    Rows of COLUMNS, one per axis, model and training seed.  An axis that lacks a table is left out.
    """
    parts, notes = [], []
    for name, axis in AXES.items():
        with noting_missing(notes):
            parts.append(axis.measure(folder, models).assign(axis=name)[COLUMNS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS), notes


def summarise(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """One row per axis and model: the first training seed's value and interval, the range over seeds, and a rank.

    Columns: axis, model, value, low, high, n, seeds, seed_low, seed_high, rank.  A model's rank is 1 and how many
    others are better by more than their intervals overlap, so that models that cannot be told apart share one; NaN
    where neither way is better.
    """
    rows = []
    for name, part in table.groupby("axis", sort=False):
        first = part.sort_values("model_seed", kind="stable").drop_duplicates("model").set_index("model")
        sign = AXES[name].better
        for model in (model for model in models if model in first.index):
            own, over_seeds = first.loc[model], part.loc[part["model"] == model, "value"]
            others = first.drop(index=model)
            ahead = others["low"] > own["high"] if sign > 0 else others["high"] < own["low"]
            facts = dict(value=own["value"], low=own["low"], high=own["high"], n=int(own["n"]))
            facts |= dict(seeds=len(over_seeds), seed_low=over_seeds.min(), seed_high=over_seeds.max())
            rows.append(dict(axis=name, model=model) | facts | dict(rank=1 + int(ahead.sum()) if sign else np.nan))
    columns = ["axis", "model", "value", "low", "high", "n", "seeds", "seed_low", "seed_high", "rank"]
    return pd.DataFrame(rows, columns=columns)


def as_text(summary: pd.DataFrame, *, names: dict[str, str] | None = None) -> pd.DataFrame:
    """For print: a row for each axis, a column for each model: value, interval, range over seeds, rank."""
    cells: dict[str, dict[str, str]] = {}
    for row in summary.itertuples():
        axis = AXES[row.axis]
        label = axis.title + {1: " ↑", -1: " ↓", 0: ""}[axis.better]
        value, low, high, first, last = (
            f"{axis.scale * x:.3g}" if axis.scale == 1 else f"{axis.scale * x:.1f}"
            for x in (row.value, row.low, row.high, row.seed_low, row.seed_high)
        )
        seeds = f"; seeds {first} to {last}" if row.seeds > 1 else ""
        name = (names or {}).get(row.model, row.model)
        rank = f" (rank {row.rank:g})" if axis.better else ""
        cells.setdefault(label, {})[name] = f"{value} [{low}, {high}]{seeds}{rank}"
    return pd.DataFrame.from_dict(cells, orient="index").rename_axis("axis").fillna("")


def sentences(summary: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """A sentence for each axis: who is best, where one way is, how far apart the ends are, what training seeds change.

    names: of the models, in the order of the summary.
    """
    labels, said = dict(zip(summary["model"].unique(), names, strict=True)), []
    for name, part in summary.groupby("axis", sort=False):
        axis, first = AXES[name], " and ".join(labels[model] for model in part.loc[part["rank"] == 1, "model"])
        gap, spread = part["value"].max() - part["value"].min(), (part["seed_high"] - part["seed_low"]).max()
        seeds = f"; seeds of one architecture differ by up to {axis.scale * spread:.2g}" * bool(part["seeds"].max() > 1)
        ends = f"from end to end {axis.scale * gap:.3g} {axis.unit}".rstrip()
        said.append(f"{axis.label}: {f'best {first}; ' if axis.better else ''}{ends}{seeds}.")
    return said
