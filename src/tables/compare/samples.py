"""Samples: the values of one measure in one group of a table, by image, pair, picture, minibatch or repeat.

And how two of them are compared, by measure.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.tables import cka, feature_vis, texture_shape
from src.tables.calibration.interval import contrast_interval, debiased_interval
from src.tables.calibration.resampling import bootstrap
from src.tables.compare import differences
from src.tables.statistics import hits

SETTINGS = ["eps", "level", "source", "other", "other_seed", "sweep", "threads", "batch_size"]
COUNTS = {"n_parameters": "parameters", "bytes": "bytes of weights", "macs": "multiply-adds"}
Values = pd.Series | pd.DataFrame  # by unit
Samples = Iterator[tuple[dict, str, Values]]  # key, measure, values


def _errors(a: pd.DataFrame, b: pd.DataFrame, paired: bool) -> dict:
    sides = [(part["confidence"].to_numpy(), part["correct"].to_numpy()) for part in (a, b)]
    ends = np.array([debiased_interval(*side) for side in sides])
    drawn = np.array([bootstrap(*side, norm="l2", equal_mass=True) for side in sides])
    together = np.corrcoef(drawn)[0, 1] if paired and (drawn.std(axis=1) > 0).all() else 0.0
    correlations = np.array([[1, together], [together, 1]])
    found = contrast_interval(ends, np.array([-1.0, 1.0]), correlations)
    return dict(zip(("difference", "low", "high", "p_value"), found, strict=True)) | dict(a=ends[0, 0], b=ends[1, 0])


def _likeness(a: pd.DataFrame, b: pd.DataFrame, paired: bool) -> dict:
    one, other = cka.drawn_mean(a), cka.drawn_mean(b, seed=0 if paired else 1)
    return differences.of_draws(*one, *other, n=min(a["batch"].nunique(), b["batch"].nunique()))


@dataclass(frozen=True)
class Measure:
    """differ: (values of A, values of B, paired) -> a dict as of `differences`.  unit: of a difference times `scale`.
    pairs: whether two samples of the same units can be paired."""

    differ: Callable[[Values, Values, bool], dict]
    unit: str = "points"
    scale: float = 100
    pairs: bool = True


def _share(a, b, paired):
    return differences.of_shares(a.to_numpy(), b.to_numpy(), paired=paired)


def _ratio(a, b, paired):
    return differences.of_ratios(a.to_numpy(), b.to_numpy(), paired=paired)


def _mean(a, b, paired):
    return differences.of_means(a.to_numpy(), b.to_numpy(), paired=paired)


def _time(a, b, paired):
    return differences.of_times(a.to_numpy(), b.to_numpy())


def _count(a, b, paired):
    return differences.of_counts(a.item(), b.item())


MEASURES = {
    **dict.fromkeys(("accuracy", "top-5 accuracy", "follows the shape", "follows the texture"), Measure(_share)),
    "shape bias": Measure(_ratio),
    "calibration error": Measure(_errors),
    "CKA": Measure(_likeness, "", 1),
    "p of the target": Measure(_mean),
    "SSIM over the depth": Measure(_mean, "SSIM", 1),
    "PSNR over the depth": Measure(_mean, "dB", 1),
    "time": Measure(_time, "% of A", pairs=False),
    **dict.fromkeys(COUNTS.values(), Measure(_count, "% of A")),
}


def samples_of(table: pd.DataFrame) -> Samples:
    """The samples of a stored table, told by its columns: their keys, measures and values.

    Nothing of tables that are not compared: training histories, the checks of the cue conflicts' measures, other
    measures than CKA and its null, CKA by other choices of layers, blocks of layers.

    >>> rows = dict(model="cnn", model_seed=0, condition="clean", sample_id=[7, 8], label=1, prediction=[1, 2])
    >>> [(key["model"], measure, values.tolist()) for key, measure, values in samples_of(pd.DataFrame(rows))]
    [('cnn', 'accuracy', [True, False])]
    """
    columns = set(table.columns)
    if {"cross", "batch"} <= columns:
        yield from _networks(table) if "choice" not in columns else ()
    elif "shape_id" in columns:
        yield from _cues(table)
    elif "n_parameters" in columns:
        for name, measure in COUNTS.items():
            yield from _grouped(table.dropna(subset=[name]), measure, name, "model")
    elif {"ms", "sweep"} <= columns:
        yield from _grouped(table, "time", "ms", [name for name in ("process", "repeat") if name in table])
    elif {"target", "p"} <= columns:
        yield from _grouped(table, "p of the target", "p", ["target", "seed", "sample_id"])
    elif {"psnr", "ssim"} <= columns:
        for name in ("psnr", "ssim"):
            areas = feature_vis.survival(table[np.isfinite(table[name])], name)
            yield from _grouped(areas, f"{name.upper()} over the depth", "survival", "sample_id")
    elif "holds" in columns:
        yield from _grouped(table, "accuracy", "holds", "sample_id")
    elif {"label", "prediction", "sample_id"} <= columns:
        yield from _images(table)


def _grouped(table: pd.DataFrame, measure: str, value: str | list[str], unit: str | list[str]) -> Samples:
    by = [name for name in ["model", "model_seed", "condition", *SETTINGS] if name in table]
    for key, part in table.groupby(by, sort=False, dropna=False):
        yield dict(zip(by, key, strict=True)), measure, part.set_index(unit)[value]


def _images(table: pd.DataFrame) -> Samples:
    table = table.assign(correct=hits(table))
    of_five = table["condition"].str.endswith("top-5")
    yield from _grouped(table[~of_five], "accuracy", "correct", "sample_id")
    if of_five.any():
        five = table[of_five]
        yield from _grouped(five.assign(correct=hits(five, k=5)), "top-5 accuracy", "correct", "sample_id")
    if "half" in table:
        yield from _grouped(
            table[table["half"] == "judged"], "calibration error", ["confidence", "correct"], "sample_id"
        )


def _cues(table: pd.DataFrame) -> Samples:
    unit = [name for name in ("pair", "shape_id", "texture_id", "painter") if name in table]
    table = table.assign(cue=texture_shape.cues(table))[texture_shape.counted(table, "own")]
    yield from _grouped(table.assign(cue=table["cue"] == 1), "follows the shape", "cue", unit)
    yield from _grouped(table.assign(cue=table["cue"] == -1), "follows the texture", "cue", unit)
    yield from _grouped(table, "shape bias", "cue", unit)


def _networks(hsic: pd.DataFrame) -> Samples:
    """Minibatches are of the same images where seed, number and size are the same."""
    batches = hsic["batch"].nunique()
    for names, part in hsic.groupby([*cka.NETWORK_A, *cka.NETWORK_B], sort=False):
        (model, kind, seed), (other, other_kind, other_seed) = sorted((names[:3], names[3:]))  # CKA is symmetric
        key = dict(model=model, model_seed=seed, condition=f"{kind} with {other_kind}")
        units = [*part[["seed", "batch", "n"]].to_numpy().T, np.full(len(part), batches)]
        yield key | dict(other=other, other_seed=other_seed), "CKA", part.set_index(pd.MultiIndex.from_arrays(units))
