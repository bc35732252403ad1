"""Counts from tables of texture and shape: retained accuracy, separation, shape bias, crossovers; no torch.

A table of manipulated images has columns model, condition (the manipulation), level, sample_id, label, prediction; the
rows of condition "clean" are the same images as they are.  A table of cue conflicts has one row per model and pair:
pair, shape_label, texture_label, prediction.  Intervals hold 95 % unless `level` says otherwise, and come from
`n_resamples` bootstrap samples of the images or pairs; the same seed gives the same interval.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binom

from src.tables.statistics import accuracy, bootstrap_counts, hits, percentile_interval, with_holm

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
# manipulation -> its levels in the study, weakest first
LEVELS: dict[str, tuple[float, ...]] = {
    "grayscale": (1,),
    **dict.fromkeys(("occlusion_black", "occlusion_mean", "occlusion_noise", "blacken"), SHARES),
    "patch_shuffle": (16, 8, 4, 2),
    "edges": (1,),
    "low_pass": (0.5, 1, 2, 4),
    "high_pass": (0.5, 1, 2, 4),
    "phase_scramble": (45, 90, 135, 180),
}
# manipulation -> what its level is
UNITS = {
    **dict.fromkeys(("grayscale", "edges"), "strength"),
    **dict.fromkeys(("occlusion_black", "occlusion_mean", "occlusion_noise"), "share of the area"),
    "blacken": "share of the pixels",
    "patch_shuffle": "patch, pixels",
    "low_pass": "blur, pixels",
    "high_pass": "cut-off, cycles per image",
    "phase_scramble": "phase noise, ± degrees",
}
# condition -> the level that stands for it where there is room for one
STANDING = dict(grayscale=1, edges=1, occlusion_black=0.5, blacken=0.5, patch_shuffle=8, low_pass=2, high_pass=2)
STANDING |= dict(phase_scramble=90, stylised=1, texture_only=1)
CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    *("snow", "frost", "fog", "spatter"),
    *("brightness", "contrast", "saturate", "elastic_transform", "pixelate", "jpeg_compression"),
)
CUTOFFS = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12)  # of the low/high hybrids, in cycles per image
BELOW, ABOVE = 0.0, np.inf  # a crossover that lies outside the grid


def cues(table: pd.DataFrame) -> np.ndarray:
    """The cue that each prediction follows: 1 the shape's class, -1 the texture's, 0 neither.

    Raises ValueError for a pair of one class, which cannot tell.

    >>> cues(pd.DataFrame({"shape_label": [0, 0, 0], "texture_label": [1, 1, 1], "prediction": [0, 1, 2]})).tolist()
    [1, -1, 0]
    """
    same = (table["shape_label"] == table["texture_label"]).to_numpy()
    if same.any():
        raise ValueError(f"{same.sum()} pairs have one class for shape and texture; a conflict needs two")
    shape = (table["prediction"] == table["shape_label"]).to_numpy()
    texture = (table["prediction"] == table["texture_label"]).to_numpy()
    return shape.astype(int) - texture.astype(int)


def shape_bias(
    table: pd.DataFrame, *, by: str | list[str] = "model", n_resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> pd.DataFrame:
    """Share of the decisive cue conflicts that go to the shape: S / (S + T), per group of `by`.

    Columns: those of `by`, n (pairs), shape (S), texture (T), decisive = (S + T) / n, shape_bias, low, high.
    A group without a decisive pair has NaN for the last three.  The interval is of the percentile bootstrap over pairs;
    where every decisive pair goes one way it has no width, so look at n and `decisive`.
    Source: Geirhos et al. 2019, section 2.4; counts and interval are this study's.

    >>> table = pd.DataFrame({"model": "cnn", "shape_label": 0, "texture_label": 1, "prediction": [0, 0, 1, 2]})
    >>> shape_bias(table)[["n", "shape", "texture", "decisive"]].to_numpy().tolist()
    [[4.0, 2.0, 1.0, 0.75]]
    """
    groups = [by] if isinstance(by, str) else list(by)
    rows = []
    for key, part in table.assign(cue=cues(table)).groupby(groups, sort=False):
        n, s, t = len(part), int((part["cue"] == 1).sum()), int((part["cue"] == -1).sum())
        # resampling n pairs with replacement is a draw of the three counts
        drawn = np.random.default_rng(seed).multinomial(n, [s / n, t / n, (n - s - t) / n], size=n_resamples)
        low, high = percentile_interval(_ratio(drawn[:, 0], drawn[:, 0] + drawn[:, 1]), level=level)
        facts = dict(n=n, shape=s, texture=t, decisive=(s + t) / n, shape_bias=_ratio(s, s + t), low=low, high=high)
        rows.append(dict(zip(groups, key, strict=True)) | facts)
    return pd.DataFrame(rows)


def compare_shape_bias(
    table: pd.DataFrame, *, n_resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> pd.DataFrame:
    """Difference in shape bias of every two models on the same pairs, one kind of conflict.

    Columns: a, b, n, difference (a minus b), low, high, p_value (two-sided, of the bootstrap over pairs, at least
    2 / (n_resamples + 1)), p_holm (Holm 1979, over the rows).  A model without a decisive pair gives NaN, and p 1.
    Raises ValueError when the models saw different pairs.

    >>> pairs = pd.DataFrame({"pair": range(4), "shape_label": 0, "texture_label": 1, "prediction": [0, 0, 0, 1]})
    >>> both = pd.concat([pairs.assign(model="mlp"), pairs.assign(model="cnn", prediction=[0, 1, 1, 1])])
    >>> compare_shape_bias(both)[["a", "b", "difference"]].to_numpy().tolist()
    [['mlp', 'cnn', 0.5]]
    """
    followed = _wide(table.assign(value=cues(table)), "pair")
    weights = bootstrap_counts(len(followed), n_resamples, seed)
    rows = []
    for a, b in combinations(followed.columns, 2):
        drawn, observed = 0.0, 0.0
        for model, sign in ((a, 1), (b, -1)):
            shape, texture = (followed[model] == 1).to_numpy(float), (followed[model] == -1).to_numpy(float)
            drawn = drawn + sign * _ratio(weights @ shape, weights @ (shape + texture))
            observed += sign * _ratio(shape.sum(), shape.sum() + texture.sum())
        low, high = percentile_interval(drawn, level=level)
        rows.append(dict(a=a, b=b, n=len(followed), difference=observed, low=low, high=high, p_value=_p_value(drawn)))
    return with_holm(pd.DataFrame(rows))


def crossover(table: pd.DataFrame, *, n_resamples: int = 2_000, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
    """The cut-off at which shape and texture tie, S = T, on the low/high hybrids: one row for each model.

    table: cue conflicts with `level`, the cut-off, and the same pairs at all of them.  As the cut-off rises, more of
    the first image comes through: the crossover is where S - T first turns from at most 0 to above, on the
    line between two cut-offs over the logarithm of the cut-off.  A model that follows the low frequencies already at
    the smallest cut-off gets 0, one that never does inf.  A low crossover means that coarse structure is enough.
    Columns: model, n, crossover, low, high (bootstrap over pairs, the same ones at all cut-offs).

    >>> table = pd.DataFrame({"model": "cnn", "pair": 0, "shape_label": 0, "texture_label": 1, "level": [1, 2, 4]})
    >>> crossover(table.assign(prediction=[1, 2, 0])).round(3).to_numpy().tolist()
    [['cnn', 1, 2.0, 2.0, 2.0]]
    """
    rows = []
    for model, part in table.assign(value=cues(table)).groupby("model", sort=False):
        wins = _wide(part.assign(model=part["level"]), "pair").sort_index(axis=1)
        grid, values = wins.columns.to_numpy(float), wins.to_numpy(float)
        drawn = _first_rise(bootstrap_counts(len(values), n_resamples, seed) @ values, grid)
        # inf is a value here, between which numpy must not take a mean
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="nearest")
        observed = _first_rise(values.sum(0, keepdims=True), grid)[0]
        rows.append(dict(model=model, n=len(values), crossover=observed, low=low, high=high))
    return pd.DataFrame(rows)


def retained_accuracy(
    table: pd.DataFrame,
    *,
    by: Sequence[str] = ("model", "condition", "level"),
    n_resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Accuracy on manipulated images over that of the same model on the same images as they are, per group of `by`.

    Columns: those of `by`, n, clean, accuracy, retained = accuracy / clean, low, high (of `retained`, bootstrap over
    images).  by: must hold model, and model_seed where there are several.  Raises ValueError when an image has no
    clean row.  Source: the curves of Naseer et al. 2021, figures 2 and 5.

    >>> clean = pd.DataFrame({"sample_id": range(4), "label": 1, "prediction": [1, 1, 0, 0], "condition": "clean"})
    >>> table = pd.concat([clean, clean.assign(condition="edges", prediction=[1, 0, 0, 0])])
    >>> retained_accuracy(table.assign(model="cnn", level=1))[["clean", "accuracy", "retained"]].to_numpy().tolist()
    [[0.5, 0.25, 0.5]]
    """
    groups, rows = list(by), []
    for key, part in _with_clean(table).groupby(groups, sort=False):
        n = len(part)
        cells = [int(((part["clean"] == c) & (part["right"] == r)).sum()) for c, r in ((1, 1), (1, 0), (0, 1), (0, 0))]
        drawn = np.random.default_rng(seed).multinomial(n, np.array(cells) / n, size=n_resamples)
        low, high = percentile_interval(_ratio(drawn[:, 0] + drawn[:, 2], drawn[:, 0] + drawn[:, 1]), level=level)
        clean, right = part["clean"].mean(), part["right"].mean()
        facts = dict(n=n, clean=clean, accuracy=right, retained=_ratio(right, clean), low=low, high=high)
        rows.append(dict(zip(groups, key, strict=True)) | facts)
    return pd.DataFrame(rows)


def accuracy_beside_clean(table: pd.DataFrame, *, by: list[str]) -> pd.DataFrame:
    """Accuracy on manipulated images as of `statistics.accuracy`, and `clean`: that on the same images as they are.

    >>> clean = pd.DataFrame({"model": "cnn", "sample_id": range(4), "label": 1, "prediction": 1, "condition": "clean"})
    >>> table = pd.concat([clean, clean.assign(condition="edges", prediction=[1, 0, 0, 0])])
    >>> accuracy_beside_clean(table, by=["condition"])[["condition", "n", "accuracy", "clean"]].to_numpy().tolist()
    [['edges', 4, 0.25, 1.0]]
    """
    paired = _with_clean(table)
    return accuracy(paired, by=by).merge(paired.groupby(by)["clean"].mean().reset_index(), on=by)


def separation(table: pd.DataFrame) -> pd.DataFrame:
    """Distance to which each manipulation drives every two models apart, beyond that on clean images.

    table: one training seed.  Columns: condition, level, a, b, n, difference (accuracy of a minus b, manipulated),
    excess (difference minus that on the same images when clean), p_value (exact, two-sided), p_holm (Holm 1979, over
    all rows).  Largest excess first.  The test: were the models alike in what they lose, each image's difference of
    losses would be as likely of the other sign.  Where both are right on all clean images it is McNemar's.

    >>> clean = pd.DataFrame({"sample_id": range(4), "label": 1, "prediction": 1, "condition": "clean", "level": 0})
    >>> edges = clean.assign(condition="edges", level=1)
    >>> table = pd.concat([clean, edges]).assign(model="cnn")
    >>> other = pd.concat([clean, edges.assign(prediction=[0, 0, 0, 1])]).assign(model="mlp")
    >>> separation(pd.concat([table, other]))[["a", "b", "excess", "p_value"]].round(3).to_numpy().tolist()
    [['cnn', 'mlp', 0.75, 0.25]]
    """
    columns = ["condition", "level", "a", "b", "n", "difference", "excess", "p_value", "p_holm"]
    rows = []
    paired = _with_clean(table)
    paired["value"] = paired["right"].astype(int) - paired["clean"].astype(int)
    for (condition, level), part in paired.groupby(["condition", "level"], sort=False):
        losses, right = _wide(part, "sample_id"), _wide(part.assign(value=part["right"].astype(int)), "sample_id")
        for a, b in combinations(losses.columns, 2):
            differences = (losses[a] - losses[b]).to_numpy()
            facts = dict(difference=(right[a] - right[b]).mean(), excess=differences.mean())
            key = dict(condition=condition, level=level, a=a, b=b, n=len(losses))
            rows.append(key | facts | dict(p_value=sign_flip_test(differences)))
    ranked = with_holm(pd.DataFrame(rows)).reindex(columns=columns)  # of one model alone there is nothing to compare
    return ranked.sort_values("excess", key=abs, ascending=False, kind="stable", ignore_index=True)


def sign_flip_test(differences: np.ndarray) -> float:
    """Exact two-sided p-value of a sum of whole numbers, each as likely of either sign; 1 if all are 0.

    The distribution of the sum is the convolution of one binomial for each size that occurs (Fisher 1935).

    >>> round(sign_flip_test(np.array([1, 1, 1, 0])), 3)  # + + + or - - - of eight
    0.25
    """
    differences = np.asarray(differences)
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    masses, reach = np.ones(1), 0
    for size, count in zip(sizes.astype(int), counts, strict=True):
        steps = np.zeros(2 * size * count + 1)  # sums from -size · count to size · count, in steps of 2 · size
        steps[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        masses, reach = np.convolve(masses, steps), reach + size * count
    sums = np.abs(np.arange(-reach, reach + 1))
    return float(min(1.0, masses[sums >= abs(differences.sum())].sum()))


def _with_clean(table: pd.DataFrame) -> pd.DataFrame:
    """The manipulated rows with `right`, and `clean`: whether the same model is right on the same image as it is."""
    keys = ["model", "sample_id"] + (["model_seed"] if "model_seed" in table else [])
    right = table.assign(right=hits(table))
    clean = right.loc[right["condition"] == "clean", [*keys, "right"]].rename(columns={"right": "clean"})
    if clean.duplicated(keys).any():
        raise ValueError("an image has two clean rows of one model; name the models apart, by model and model_seed")
    paired = right[right["condition"] != "clean"].merge(clean, on=keys, how="left")
    missing = int(paired["clean"].isna().sum())
    if missing:
        raise ValueError(f"{missing} manipulated rows have no row of condition 'clean' for their model and image")
    return paired.assign(clean=paired["clean"].astype(bool))


def _wide(table: pd.DataFrame, index: str) -> pd.DataFrame:
    """`value` with a row for each image or pair and a column for each model; ValueError unless all models have all."""
    if table.duplicated([index, "model"]).any():
        raise ValueError(f"a model has a {index} twice; compare one kind of conflict and one training seed at a time")
    wide = table.pivot(index=index, columns="model", values="value")[list(dict.fromkeys(table["model"]))]
    if wide.isna().any(axis=None):
        raise ValueError(f"the columns {list(wide.columns)} do not have the same {index}s; a paired test needs that")
    return wide


def _first_rise(wins: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Where each row of S - T over the grid first goes above 0, on a line over log cut-off."""
    above = wins > 0
    first = above.argmax(1)
    rows = np.arange(len(wins))
    before = np.maximum(first - 1, 0)
    left, right = wins[rows, before], wins[rows, first]
    share = np.where(right > left, -left / np.where(right > left, right - left, 1), 0)
    places = np.exp(np.log(grid[before]) + share * (np.log(grid[first]) - np.log(grid[before])))
    return np.where(~above.any(1), ABOVE, np.where(first == 0, BELOW, places))


def _ratio(part, whole):
    """part / whole, NaN where whole is 0."""
    whole = np.asarray(whole, float)
    ratio = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio if ratio.ndim else float(ratio)


def _p_value(drawn: np.ndarray) -> float:
    """Two-sided: how often the bootstrap lands on the rarer side of 0, doubled."""
    drawn = drawn[~np.isnan(drawn)]
    rarer = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(drawn) + 1)))
