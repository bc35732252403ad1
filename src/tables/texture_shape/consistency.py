"""Error consistency: whether two networks fail on the same images more than their accuracies make them."""

from collections.abc import Iterable, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd

from src.tables.statistics import bootstrap_counts, hits, interval_over_seeds, percentile_interval
from src.tables.texture_shape.pairing import ratio


def error_consistency(
    table: pd.DataFrame,
    *,
    by: Sequence[str] = ("condition", "level"),
    n_resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Cohen's κ of right and wrong, of every two networks on the same images, per group of `by`.

    table: with model, model_seed, sample_id, label, prediction.  A network is a model of one training seed.
    Columns: those of `by`, a, seed_a, b, seed_b, kind ("seeds" of one model, or "models"), n, observed (share of images
    that both get right or both wrong), expected (of independent errors at these accuracies), kappa = (observed -
    expected) / (1 - expected), low, high (bootstrap over images), chance_low, chance_high (where κ of independent
    errors lies: exact, given how many images each gets right), highest (κ if the errors agreed as far as the accuracies
    let them: networks of unlike accuracy cannot reach 1).
    κ is NaN of two networks that are always right, or always wrong.  Raises ValueError when the images differ.
    Source: Geirhos, Meding & Wichmann 2020, equations 1 and 3; the interval of chance is Fisher's, given the margins.

    >>> one = pd.DataFrame(dict(sample_id=range(4), label=1, prediction=[1, 1, 0, 0], condition="clean", level=0))
    >>> both = pd.concat([one.assign(model="cnn"), one.assign(model="vit", prediction=[1, 0, 0, 0])])
    >>> error_consistency(both.assign(model_seed=0))[["observed", "expected", "kappa"]].to_numpy().tolist()
    [[0.75, 0.5, 0.5]]
    """
    groups, rows = list(by), []
    for key, part in table.groupby(groups, sort=False):
        right = _right_by_network(part)
        for (a, seed_a), (b, seed_b) in combinations(right.columns, 2):
            x, y = right[a, seed_a].to_numpy(), right[b, seed_b].to_numpy()
            facts = dict(a=a, seed_a=seed_a, b=b, seed_b=seed_b, kind="seeds" if a == b else "models", n=len(right))
            rows.append(dict(zip(groups, key, strict=True)) | facts | _measured(x, y, n_resamples, seed, level))
    return pd.DataFrame(rows)


def consistency_gaps(
    table: pd.DataFrame, *, n_resamples: int = 2_000, seed: int = 0, level: float = 0.95
) -> pd.DataFrame:
    """How much more two seeds of one model fail alike than two models do: a row for every two models.

    table: rows of one condition and level, with two training seeds or more of each model.
    Columns: a, b, n, within (mean κ over the pairs of seeds of a and of b, each model counting half), between (mean
    over all pairs of a network of a with one of b), gap = within - between, low, high, p_value (of a gap of 0), by
    `statistics.interval_over_seeds`.  What seeds add to the variance is what leaving out each network makes of the gap
    (jackknife, Efron & Stein 1981); of two seeds, which make one pair, it cannot be told: that interval is over images.

    >>> ids = pd.DataFrame(dict(sample_id=range(4), label=1))
    >>> answers = {"cnn": [1, 1, 0, 0], "vit": [0, 0, 1, 1]}  # of either seed
    >>> tables = [ids.assign(model=m, model_seed=s, prediction=given) for m, given in answers.items() for s in (0, 1)]
    >>> consistency_gaps(pd.concat(tables))[["within", "between", "gap"]].to_numpy().tolist()
    [[1.0, -1.0, 2.0]]
    """
    right = _right_by_network(table)
    models = list(dict.fromkeys(right.columns.get_level_values(0)))
    if few := [name for name in models if right[name].shape[1] < 2]:
        raise ValueError(f"{', '.join(few)} has one training seed; κ within a model needs two or more")
    values, ones = right.to_numpy(np.float32), np.ones((1, len(right)), np.float32)
    draws, rows = bootstrap_counts(len(right), n_resamples, seed), []
    of = {name: values[:, right.columns.get_level_values(0) == name] for name in models}
    for a, b in combinations(models, 2):
        within, between = (found.item() for found in _within_and_between(ones, of[a], of[b]))
        within_drawn, between_drawn = _within_and_between(draws, of[a], of[b])
        added = [part for pair in ((of[a], of[b]), (of[b], of[a])) for part in _added_by_seeds_of_first(ones, *pair)]
        ends = interval_over_seeds(within - between, within_drawn - between_drawn, added, level=level, seed=seed)
        facts = dict(within=within, between=between, gap=within - between)
        rows.append(dict(a=a, b=b, n=len(right)) | facts | dict(zip(("low", "high", "p_value"), ends, strict=True)))
    return pd.DataFrame(rows)


def _measured(x: np.ndarray, y: np.ndarray, n_resamples: int, seed: int, level: float) -> dict:
    """Everything of two networks; x, y: whether each is right, bool [n]."""
    from scipy.stats import hypergeom  # a second to import

    n, n_x, n_y = len(x), int(x.sum()), int(y.sum())
    cells = np.array([(x & y).sum(), (x & ~y).sum(), (~x & y).sum(), (~x & ~y).sum()])
    drawn = np.random.default_rng(seed).multinomial(n, cells / n, size=n_resamples)
    low, high = percentile_interval(_kappa(drawn[:, 0], *(drawn[:, 0] + drawn[:, i] for i in (1, 2)), n), level=level)
    chance = hypergeom(n, n_x, n_y).ppf([(1 - level) / 2, (1 + level) / 2])
    facts = dict(observed=(cells[0] + cells[3]) / n, expected=(n_x * n_y + (n - n_x) * (n - n_y)) / n**2)
    facts |= dict(kappa=float(_kappa(cells[0], n_x, n_y, n)), low=low, high=high)
    facts |= dict(zip(("chance_low", "chance_high"), _kappa(chance, n_x, n_y, n).tolist(), strict=True))
    return facts | dict(highest=float(_kappa(min(n_x, n_y), n_x, n_y, n)))


def _kappa(both, n_x, n_y, n):
    """κ from numbers of images: right for both, for each of the two, and in all."""
    both, n_x, n_y = (np.asarray(number, float) for number in (both, n_x, n_y))
    observed = n * (n + 2 * both - n_x - n_y)
    expected = n_x * n_y + (n - n_x) * (n - n_y)
    return ratio(*np.broadcast_arrays(observed - expected, n * n - expected))


def _added_by_seeds_of_first(ones: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[tuple[float, float]]:
    """What the seeds of a add to the variance of the gap, as `interval_over_seeds` takes it; nothing for two."""
    k = a.shape[1]
    if k < 3:
        return []
    left = [np.subtract(*_within_and_between(ones, np.delete(a, i, axis=1), b)).item() for i in range(k)]
    variance = (k - 1) * np.var(left)
    return [(variance, variance**2 / (k - 1))]


def _within_and_between(draws: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean κ [r] within and between; draws [r, n] of images, a and b [n, k] right."""
    n = draws[0].sum()

    def mean(pairs: Iterable) -> np.ndarray:
        x, y = (np.stack(part, axis=1) for part in zip(*pairs, strict=True))
        return _kappa(draws @ (x * y), draws @ x, draws @ y, n).mean(1)

    return (mean(combinations(a.T, 2)) + mean(combinations(b.T, 2))) / 2, mean(product(a.T, b.T))


def _right_by_network(table: pd.DataFrame) -> pd.DataFrame:
    """Whether each network is right, bool, a row for each image and a column for each (model, training seed)."""
    table, network = table.assign(right=hits(table)), ["model", "model_seed"]
    if table.duplicated([*network, "sample_id"]).any():
        raise ValueError("a network has an image twice; compare one condition and level at a time")
    right = table.pivot(index="sample_id", columns=network, values="right")
    if right.isna().any(axis=None):
        raise ValueError("the networks did not see the same images; error consistency needs that")
    order = table[network].drop_duplicates()
    return right[list(order.itertuples(index=False, name=None))].astype(bool)
