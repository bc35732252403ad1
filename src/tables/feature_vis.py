"""Numbers from tables of pictures: means over seeds, quality along the depth, paired comparisons; no torch.

A table of classes has one row per model, condition (how the picture was made), target and seed; one of inversions one
row per model, condition, layer, image and seed.  `picture` is the row of the picture in the .npz beside the table.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from scipy import special

from src.files import read_images, sha256, write_images
from src.results import load_facts, table_path
from src.tables.statistics import percentile_interval, with_holm

# measures that are probabilities: their means lie in [0, 1], and so do the intervals
PROBABILITIES = ("p", "p_shift", "p_transfer")
JUDGED = "p_by_"  # and the judge: the column of its probability


def save_pictures(images: UInt8[np.ndarray, "n h w 3"], folder: str | Path, experiment: str, name: str) -> str:
    """Write the pictures of a table beside it, <name>.npz; returns its sha256, for the parameters of the table.

    Where all are grey, one channel is kept.  ValueError for anything but 8-bit colour images.

    >>> save_pictures(np.zeros((1, 2, 2, 3)), "results/cifar10", "04b_feature_vis", "classes")
    Traceback (most recent call last):
    ValueError: pictures are kept as uint8 [n, h, w, 3], not float64 (1, 2, 2, 3)
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"pictures are kept as uint8 [n, h, w, 3], not {images.dtype} {images.shape}")
    path = table_path(folder, experiment, name).with_suffix(".npz")
    write_images(path, images)
    return sha256(path)


def load_pictures(folder: str | Path, experiment: str, name: str) -> UInt8[np.ndarray, "n h w 3"]:
    """The pictures of a table; row i is that of `picture` i.  ValueError if they are not those of the table.

    >>> load_pictures("results/cifar10", "04b_feature_vis", "classes").shape[1:]
    (32, 32, 3)
    """
    path = table_path(folder, experiment, name).with_suffix(".npz")
    wanted = load_facts(folder, experiment, name)["parameters"].get("pictures_sha256")
    if not path.exists() or sha256(path) != wanted:
        raise ValueError(f"{path} does not hold the pictures of the table beside it; run the notebook again")
    return read_images(path)["images"]


def mean_over_seeds(
    table: pd.DataFrame, values: list[str], *, by: list[str], unit: str = "target", level: float = 0.95
) -> pd.DataFrame:
    """Mean of each measure per group, with an interval for what other seeds would have given.

    Classes are all there are, seeds are drawn: the standard error comes from the variances s² within each unit,
    sqrt(sum s² / S) / K for K units of S seeds, with Welch and Satterthwaite's degrees of freedom for Student's t.
    Columns: those of `by`, measure, n (rows), mean, low, high; the interval is NaN where a unit has one seed, and that
    of a probability is cut to [0, 1].

    >>> table = pd.DataFrame(dict(model="cnn", target=[0, 0, 1, 1], p=[0.4, 0.6, 0.9, 0.7]))
    >>> mean_over_seeds(table, ["p"], by=["model"]).round(2).values.tolist()
    [['cnn', 'p', 4, 0.65, 0.35, 0.95]]
    """
    rows = []
    for key, part in table.groupby(by, sort=False):
        for measure in values:
            cells = part.groupby(unit)[measure].agg(["mean", "var", "size"])
            share = (cells["var"] / cells["size"]).to_numpy()  # of the squared error, by each unit
            error = np.sqrt(share.sum()) / len(cells) if np.isfinite(share).all() else np.nan
            spread = (share**2 / np.maximum(cells["size"] - 1, 1)).sum()
            half = error * special.stdtrit(share.sum() ** 2 / spread, (1 + level) / 2) if spread > 0 else error
            mean = cells["mean"].mean()
            low, high = mean - half, mean + half
            if is_probability(measure):
                low, high = np.maximum(low, 0.0), np.minimum(high, 1.0)  # NaN stays NaN
            facts = dict(measure=measure, n=len(part), mean=mean, low=low, high=high)
            rows.append(dict(zip(by, key, strict=True)) | facts)
    return pd.DataFrame(rows)


def judged(table: pd.DataFrame) -> list[str]:
    """The columns of the judges' probabilities, p_by_<judge>, in the order of the models; none in older tables.

    >>> judged(pd.DataFrame(dict(model=["cnn", "vit"], p_by_mixer=0.5, p_by_vit=0.5, p_by_cnn=0.5)))
    ['p_by_cnn', 'p_by_vit', 'p_by_mixer']
    """
    models = [JUDGED + model for model in dict.fromkeys(table["model"])]
    there = [name for name in table if name.startswith(JUDGED)]
    return [name for name in models if name in there] + [name for name in there if name not in models]


def is_probability(measure: str) -> bool:
    return measure in PROBABILITIES or measure.startswith(JUDGED)


def compare_makers(table: pd.DataFrame, *, on: Sequence[str] = ("target", "seed")) -> pd.DataFrame:
    """Whose pictures carry over better, of every two makers and by each method, by the judges that both of them have.

    Columns: condition, a, b, judges (joined by " and "), and those of `compare_pairs`, p_holm over all rows.  Two
    makers that share no judge are left out.

    >>> rows = dict(condition="maco", target=range(6), seed=0)
    >>> parts = [pd.DataFrame(rows | dict(model=m, p_by_vit=p)) for m, p in (("mlp", 0.5), ("cnn", 0.25))]
    >>> compare_makers(pd.concat(parts))[["a", "b", "judges", "n", "difference"]].values.tolist()
    [['mlp', 'cnn', 'vit', 6, 0.25]]
    """
    parts = []
    for a, b in combinations(dict.fromkeys(table["model"]), 2):
        own = table[table["model"].isin([a, b])]
        judges = [name for name in judged(table) if own[name].notna().all()]
        if judges:
            own = own.assign(p=own[judges].mean(axis=1))
            for condition, rows in own.groupby("condition", sort=False):
                tests = compare_pairs(rows, "p", of="model", on=list(on))
                parts.append(
                    tests.assign(condition=condition, judges=" and ".join(name.removeprefix(JUDGED) for name in judges))
                )
    columns = ["condition", "a", "b", "judges", "n", "difference", "p_value"]
    return with_holm(pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns))


def depth_curve(
    table: pd.DataFrame, value: str, *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Mean of a measure at each stage of each model, with a bootstrap interval over images.

    Seeds of one image are averaged first. One seed's draws serve all stages, so curves of one model move together.
    Values that are not finite are left out: the PSNR of equal images, p_transfer without a judge.
    Columns: model, model_seed, condition, layer, depth, n (images), mean, low, high, in the order of the table.

    >>> table = pd.DataFrame(dict(model="cnn", model_seed=0, condition="fourier", layer="logits", depth=1.0,
    ...                           sample_id=[3, 5], ssim=[0.25, 0.75]))
    >>> depth_curve(table, "ssim")[["n", "mean", "low", "high"]].values.tolist()
    [[2.0, 0.5, 0.25, 0.75]]
    """
    keys = ["model", "model_seed", "condition", "layer", "depth"]
    rows = []
    for key, part in table[np.isfinite(table[value])].groupby(keys, sort=False):
        per_image = part.groupby("sample_id")[value].mean().to_numpy()
        n = len(per_image)
        drawn = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
        low, high = percentile_interval(per_image[drawn].mean(1), level=level)
        rows.append(dict(zip(keys, key, strict=True)) | dict(n=n, mean=per_image.mean(), low=low, high=high))
    return pd.DataFrame(rows, columns=[*keys, "n", "mean", "low", "high"])


def survival(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Area under each image's curve of a measure over the depth, from the stem to the logits, by trapezoids.

    Columns: model, model_seed, condition, sample_id, survival (in the unit of the measure).

    >>> table = pd.DataFrame(dict(model="cnn", model_seed=0, condition="fourier", depth=[0, 0.5, 1], sample_id=3))
    >>> survival(table.assign(ssim=[1.0, 0.5, 0.5]), "ssim")["survival"].tolist()
    [0.625]
    """
    keys = ["model", "model_seed", "condition", "sample_id"]
    means = table.groupby([*keys, "depth"], sort=False)[value].mean().reset_index().sort_values("depth")
    areas = [
        dict(zip(keys, key, strict=True)) | dict(survival=np.trapezoid(part[value], part["depth"]))
        for key, part in means.groupby(keys, sort=False)
    ]
    return pd.DataFrame(areas)


def compare_pairs(table: pd.DataFrame, value: str, *, of: str, on: list[str]) -> pd.DataFrame:
    """Wilcoxon's signed-rank test of every two values of column `of`, as the table has them, paired on columns `on`.

    Columns: a, b, n (pairs), difference (mean of a minus b), p_value (two-sided; 1 where all pairs are equal), p_holm
    (Holm 1979, over the rows).  Raises ValueError when a pair is missing or there twice.

    >>> one = pd.DataFrame(dict(model="mlp", sample_id=range(6), ssim=0.5))
    >>> table = pd.concat([one, one.assign(model="cnn", ssim=0.25)])
    >>> compare_pairs(table, "ssim", of="model", on=["sample_id"]).round(3).values.tolist()
    [['mlp', 'cnn', 6, 0.25, 0.031, 0.031]]
    """
    from scipy.stats import wilcoxon  # a second to import

    names = list(dict.fromkeys(table[of]))
    if table.duplicated([of, *on]).any():
        raise ValueError(f"{of} has a row twice for one {on}; average first, or name in `on` what tells them apart")
    wide = table.pivot(index=on, columns=of, values=value)
    if wide.isna().any(axis=None):
        raise ValueError(f"some {on} lack a value of {value} for one of {', '.join(map(str, names))}")
    rows = []
    for a, b in combinations(names, 2):
        differences = (wide[a] - wide[b]).to_numpy()
        p_value = float(wilcoxon(differences).pvalue) if (differences != 0).any() else 1.0
        rows.append(dict(a=a, b=b, n=len(wide), difference=differences.mean(), p_value=p_value))
    return with_holm(pd.DataFrame(rows, columns=["a", "b", "n", "difference", "p_value"]))


def diversity(images: Float[np.ndarray, "n h w 3"] | UInt8[np.ndarray, "n h w 3"], table: pd.DataFrame) -> pd.DataFrame:
    """Distance of pictures of one target from several seeds: root mean square difference of pixels, mean over pairs.

    images: all pictures; `picture` of a row is its place.  uint8 counts in 1/255.  Columns: model, model_seed,
    condition, target, n (seeds), distance (in pixels of [0, 1]; NaN for one seed).

    >>> table = pd.DataFrame(dict(model="cnn", model_seed=0, condition="maco", target=0, picture=[0, 1]))
    >>> diversity(np.stack([np.zeros((2, 2, 3)), np.full((2, 2, 3), 0.5)]), table)["distance"].tolist()
    [0.5]
    """
    scale = 255 if images.dtype == np.uint8 else 1
    keys, rows = ["model", "model_seed", "condition", "target"], []
    for key, part in table.groupby(keys, sort=False):
        own = images[part["picture"].to_numpy()].astype(float) / scale
        pairs = [np.sqrt(np.square(a - b).mean()) for a, b in combinations(own, 2)]
        distance = float(np.mean(pairs)) if pairs else np.nan
        rows.append(dict(zip(keys, key, strict=True)) | dict(n=len(own), distance=distance))
    return pd.DataFrame(rows)
