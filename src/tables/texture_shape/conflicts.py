"""Cue conflicts counted: which cue a prediction follows, shape bias, and the cut-off where the cues tie."""

from itertools import combinations

import numpy as np
import pandas as pd

from src.tables.statistics import bootstrap_counts, percentile_interval, wilson_interval, with_holm
from src.tables.texture_shape.pairing import AMONG, counted, ratio, two_sided, wide

BELOW, ABOVE = 0.0, np.inf  # a crossover that lies outside the grid
RULES = {"shape rule": "shape", "texture rule": "texture"}  # of the calibration, and the cue that each looks at
VALID = 0.95


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


def cue_shares(table: pd.DataFrame, *, by: str | list[str] = "model", level: float = 0.95) -> pd.DataFrame:
    """Of all cue conflicts the shares that follow the shape, the texture and neither, each with its Wilson interval.

    Columns: those of `by`, n, then shape, shape_low, shape_high, and so for texture and neither.

    >>> table = pd.DataFrame({"model": "cnn", "shape_label": 0, "texture_label": 1, "prediction": [0, 0, 1, 2]})
    >>> cue_shares(table)[["n", "shape", "texture", "neither"]].to_numpy().tolist()
    [[4.0, 0.5, 0.25, 0.25]]
    """
    groups, rows = [by] if isinstance(by, str) else list(by), []
    for key, part in table.assign(cue=cues(table)).groupby(groups, sort=False):
        facts = dict(n=len(part))
        for name, cue in (("shape", 1), ("texture", -1), ("neither", 0)):
            count = int((part["cue"] == cue).sum())
            low, high = wilson_interval(count, len(part), level=level)
            facts |= {name: count / len(part), f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(dict(zip(groups, key, strict=True)) | facts)
    return pd.DataFrame(rows)


def validated(calibration: pd.DataFrame) -> pd.DataFrame:
    """Which kinds of conflict tell the cues apart: both rules of one cue follow theirs on VALID of the drawn figures.

    calibration: of `calibration_images.calibrate`, with the models RULES.  Columns: condition, level, shape_rule (share
    of all figures in which it follows the shape), texture_rule (the same of the texture), valid.

    >>> pairs = pd.DataFrame(dict(condition="phase", level=1, shape_label=0, texture_label=1, prediction=[0, 0]))
    >>> rules = [pairs.assign(model="shape rule"), pairs.assign(model="texture rule", prediction=[1, 2])]
    >>> validated(pd.concat(rules)).to_numpy().tolist()
    [['phase', 1, 1.0, 0.5, False]]
    """
    shares = cue_shares(calibration, by=["condition", "level", "model"]).set_index(["condition", "level"])
    follows = {f"{cue}_rule": shares.loc[shares["model"] == rule, cue] for rule, cue in RULES.items()}
    table = pd.DataFrame(follows, index=shares.index.unique())
    return table.assign(valid=(table >= VALID).all(axis=1)).reset_index()


def shape_bias(
    table: pd.DataFrame,
    *,
    by: str | list[str] = "model",
    among: str = "own",
    n_resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Share of the decisive cue conflicts that go to the shape: S / (S + T), per group of `by`.

    among: which pairs count (`pairing.AMONG`); by default those whose images the network itself gets right as they are.
    Every conflict that counts weighs the same.
    Columns: those of `by`, n (conflicts), shape (S), texture (T), decisive = (S + T) / n, shape_bias, low, high, then
    excess = (S - T) / n, excess_low, excess_high.  NaN where nothing counts, or nothing is decisive.  Intervals are of
    the percentile bootstrap over pairs, which keeps together what several painters made of one; where every decisive
    pair goes one way that of the ratio has no width, so look at n and `decisive`.
    Source: Geirhos et al. 2019, section 2.4; counts and interval are this study's.

    >>> table = pd.DataFrame({"model": "cnn", "shape_label": 0, "texture_label": 1, "prediction": [0, 0, 1, 2]})
    >>> shape_bias(table)[["n", "shape", "texture", "decisive", "excess"]].to_numpy().tolist()
    [[4.0, 2.0, 1.0, 0.75, 0.25]]
    """
    groups = [by] if isinstance(by, str) else list(by)
    rows = []
    for key, part in table.assign(cue=cues(table), counts=counted(table, among)).groupby(groups, sort=False):
        part = part[part["counts"]]
        n, s, t = len(part), int((part["cue"] == 1).sum()), int((part["cue"] == -1).sum())
        drawn_n, drawn_s, drawn_t = _resample(part, n_resamples, seed)
        low, high = percentile_interval(ratio(drawn_s, drawn_s + drawn_t), level=level)
        facts = dict(n=n, shape=s, texture=t, decisive=ratio(s + t, n), shape_bias=ratio(s, s + t), low=low, high=high)
        low, high = percentile_interval(ratio(drawn_s - drawn_t, drawn_n), level=level)
        facts |= dict(excess=ratio(s - t, n), excess_low=low, excess_high=high)
        rows.append(dict(zip(groups, key, strict=True)) | facts)
    return pd.DataFrame(rows)


def _resample(part: pd.DataFrame, n_resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n, S and T of each bootstrap sample of the pairs; `part` has a column cue, and perhaps a pair several times."""
    shape, texture = (part["cue"] == 1).to_numpy(float), (part["cue"] == -1).to_numpy(float)
    n = len(part)
    if not n:
        return (np.zeros(n_resamples),) * 3
    if "pair" not in part or not part["pair"].duplicated().any():
        # resampling n pairs with replacement is a draw of the three counts
        s, t = shape.sum(), texture.sum()
        drawn = np.random.default_rng(seed).multinomial(n, [s / n, t / n, (n - s - t) / n], size=n_resamples)
        return np.full(n_resamples, n), drawn[:, 0], drawn[:, 1]
    _, pairs = np.unique(part["pair"], return_inverse=True)
    weights = bootstrap_counts(pairs.max() + 1, n_resamples, seed)
    return tuple(weights @ np.bincount(pairs, weights=values) for values in (np.ones(n), shape, texture))


def compare_shape_bias(
    table: pd.DataFrame,
    *,
    of_all: bool = False,
    among: str = "own",
    n_resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Difference in shape bias of every two models on the same pairs, one kind of conflict.

    of_all: compare (S - T) / n, the share of all conflicts for the shape less that for the texture, not S / (S + T).
    among: which pairs count; by default those whose images both of the two get right, so that no third network decides.
    Where several painters made images of a pair, they count together.
    Columns: a, b, n (pairs), difference (a minus b), low, high, p_value (two-sided, of the bootstrap over pairs, at
    least 2 / (n_resamples + 1)), p_holm (Holm 1979, over the rows).  Where nothing counts, or a model has no decisive
    pair, NaN, and p 1.
    Raises ValueError when the models saw different pairs.

    >>> pairs = pd.DataFrame({"pair": range(4), "shape_label": 0, "texture_label": 1, "prediction": [0, 0, 0, 1]})
    >>> both = pd.concat([pairs.assign(model="mlp"), pairs.assign(model="cnn", prediction=[0, 1, 1, 1])])
    >>> compare_shape_bias(both)[["a", "b", "difference"]].to_numpy().tolist()
    [['mlp', 'cnn', 0.5]]
    """
    shape, texture, counts = _per_pair(table, among)
    n_painters = table["painter"].nunique() if "painter" in table else 1
    rows = []
    for a, b in combinations(shape.columns, 2):
        both = (counts[a] & counts[b]).to_numpy()
        n = int(both.sum())
        weights = bootstrap_counts(n, n_resamples, seed) if n else np.zeros((n_resamples, 0))
        drawn, observed = 0.0, 0.0
        for model, sign in ((a, 1), (b, -1)):
            s, t = shape[model].to_numpy(float)[both], texture[model].to_numpy(float)[both]
            parts = (s - t, np.full(n, float(n_painters))) if of_all else (s, s + t)
            drawn = drawn + sign * ratio(*(weights @ values for values in parts))
            observed += sign * ratio(*(values.sum() for values in parts))
        low, high = percentile_interval(drawn, level=level)
        rows.append(dict(a=a, b=b, n=n, difference=observed, low=low, high=high, p_value=two_sided(drawn)))
    return with_holm(pd.DataFrame(rows))


def _per_pair(table: pd.DataFrame, among: str) -> list[pd.DataFrame]:
    """Pairs by models: for how many painters it followed the shape, and the texture; and whether the pair counts."""
    keys = ["pair", "model", *(["painter"] if "painter" in table else [])]
    if table.duplicated(keys).any():
        raise ValueError("a model has a pair twice; compare one kind of conflict and one training seed at a time")
    cue = cues(table)
    values = table.assign(shape=cue == 1, texture=cue == -1, counts=counted(table, among))
    sums = values.groupby(["pair", "model"], sort=False).agg(shape=("shape", "sum"), texture=("texture", "sum"))
    sums["counts"] = values.groupby(["pair", "model"], sort=False)["counts"].all()
    sums = sums.reset_index()
    return [wide(sums.assign(value=sums[name]), "pair") for name in ("shape", "texture", "counts")]


def sensitivity(table: pd.DataFrame, **options) -> pd.DataFrame:
    """What `compare_shape_bias` gives of (S - T) / n, whichever pairs count: three rows for every two models.

    options: of `compare_shape_bias`.  Columns: among ("own": right for both), then its columns; models together.

    >>> pairs = pd.DataFrame(dict(pair=range(2), shape_label=0, texture_label=1, clean_right=[True, False]))
    >>> both = [pairs.assign(model="mlp", prediction=0), pairs.assign(model="cnn", prediction=[0, 1])]
    >>> sensitivity(pd.concat(both))[["among", "n", "difference"]].to_numpy().tolist()
    [['own', 1, 0.0], ['all models', 1, 0.0], ['all pairs', 2, 1.0]]
    """
    parts = [compare_shape_bias(table, of_all=True, among=name, **options).assign(among=name) for name in AMONG]
    rows = pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)  # the order of the comparisons
    return rows[["among", *rows.columns.drop("among")]]


def crossover(table: pd.DataFrame, *, n_resamples: int = 2_000, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
    """The cut-off at which shape and texture tie, S = T, on the low/high hybrids: one row for each model.

    table: cue conflicts with `level`, the cut-off, and the same pairs at all of them.  As the cut-off rises, more of
    the first image comes through: the crossover is where S - T first turns from at most 0 to above, on the
    line between two cut-offs over the logarithm of the cut-off.  A model that follows the low frequencies already at
    the smallest cut-off gets 0, one that never does inf.  A low crossover means that coarse structure is enough.  Of
    each model those pairs count whose images it gets right as they are; NaN without any.
    Columns: model, n, crossover, low, high (bootstrap over pairs, the same ones at all cut-offs).

    >>> table = pd.DataFrame({"model": "cnn", "pair": 0, "shape_label": 0, "texture_label": 1, "level": [1, 2, 4]})
    >>> crossover(table.assign(prediction=[1, 2, 0])).round(3).to_numpy().tolist()
    [['cnn', 1, 2.0, 2.0, 2.0]]
    """
    rows = []
    for model, part in table.assign(value=cues(table), counts=counted(table, "own")).groupby("model", sort=False):
        part = part[part["counts"]]
        if part.empty:
            rows.append(dict(model=model, n=0, crossover=np.nan, low=np.nan, high=np.nan))
            continue
        wins = wide(part.assign(model=part["level"]), "pair").sort_index(axis=1)
        grid, values = wins.columns.to_numpy(float), wins.to_numpy(float)
        drawn = _first_rise(bootstrap_counts(len(values), n_resamples, seed) @ values, grid)
        # inf is a value here, between which numpy must not take a mean
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="nearest")
        observed = _first_rise(values.sum(0, keepdims=True), grid)[0]
        rows.append(dict(model=model, n=len(values), crossover=observed, low=low, high=high))
    return pd.DataFrame(rows)


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
