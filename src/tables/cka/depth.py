"""Agreement of architectures at matched depth, beyond untrained networks, over images and seeds."""

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement

import numpy as np
import pandas as pd

from src.tables.cka.hsic import (
    EXAMPLE,  # noqa: F401 -- of docstrings
    NETWORK_A,
    NETWORK_B,
    deconfounded,
    estimates,
    same_network,
)
from src.tables.statistics import interval_over_seeds

Contrast = dict[tuple[str, str, str], float]  # (model, other, kind) -> what their mean is multiplied by
Networks = dict[str, np.ndarray]  # the columns NETWORK_A and NETWORK_B of pairs of networks


def at_matched_depth(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of two layers as deep as each other: each layer of the network of fewer with the nearest of the other.

    table: any with the columns SIDE_A and SIDE_B, all layers of each pair of networks.  The first layers, stem or patch
    embedding, meet each other only: index_a and index_b are 0 there.  Where two are as near the later one is taken.

    >>> rows = [EXAMPLE | dict(index_a=i, index_b=j, batch=0, cross=0.5) for i in range(3) for j in range(5)]
    >>> at_matched_depth(pd.DataFrame(rows))[["index_a", "index_b"]].values.tolist()
    [[0, 0], [1, 2], [2, 4]]
    """
    index = table[["index_a", "index_b"]]
    last = table.groupby([*NETWORK_A, *NETWORK_B], sort=False)[["index_a", "index_b"]].transform("max").to_numpy()
    order = last.argsort(axis=1, kind="stable")  # the network of fewer layers first
    (i, j), (m, n) = (np.take_along_axis(values, order, 1).T for values in (index.to_numpy(), last))
    return table[j == (2 * i * n + m) // np.maximum(2 * m, 1)]


def compare_at_depth(
    hsic: pd.DataFrame, models: Sequence[str], *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Mean CKA at matched depth of every two architectures and of the seeds of each, and what training adds to it.

    hsic: of `cka.hsic_table`.  Columns: measure ("CKA", and "deconfounded" where the table has the inputs), layers
    ("depth": all but the first, or "stem": the first of each), pair, what ("trained", "untrained", "excess" of trained
    over untrained networks of the same architectures and layers, "seeds alike" (excess of the seeds of one, the mean of
    both architectures, less that of the pair), or "less " and an earlier pair: of their excesses), value, low, high,
    p_value, seeds (the fewest of a kind), n (images).  Intervals: bootstrap over minibatches, the same for all, and
    the jackknife over networks of one architecture, as `interval_over_seeds` joins them; of one seed: minibatches only,
    and NaN for fewer than 2.  Of two seeds it is not known how seeds differ in how alike they are: they add nothing.
    Where a table has no untrained networks, or one of each, what needs more is left out.

    >>> layers = dict(index_a=[0, 0, 1, 1], index_b=[0, 1, 0, 1], cross=[0.3, 0, 0, 0.5])
    >>> table = compare_at_depth(pd.DataFrame(EXAMPLE | layers | dict(batch=0)), ["mlp", "cnn"])
    >>> table[["layers", "what", "value"]].values.tolist()
    [['depth', 'trained', 0.5], ['stem', 'trained', 0.3]]
    """
    parts = []
    for measure, rows in _by_measure(hsic, models):
        for layers in ("depth", "stem"):
            part = rows[(rows[["index_a", "index_b"]].max(axis=1) == 0) == (layers == "stem")]
            networks, values, n = _drawn(part, n_resamples, seed)
            found = []
            for pair, what, contrast in _contrasts(networks, models):
                *ends, fewest = _estimated(contrast, networks, values, level=level, seed=seed)
                found.append((pair, what, *ends, fewest, n, measure, layers))
            columns = ["pair", "what", "value", "low", "high", "p_value", "seeds", "n", "measure", "layers"]
            parts.append(pd.DataFrame(found, columns=columns))
    columns = ["measure", "layers", "pair", "what", "value", "low", "high", "p_value", "seeds", "n"]
    return pd.concat(parts, ignore_index=True)[columns]


def mean_with_others(
    hsic: pd.DataFrame, models: Sequence[str], *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """How alike each architecture is to the others: mean CKA at matched depth with each, then over them, no stems.

    hsic: of `cka.hsic_table`.  Where it has the inputs and untrained networks, they are taken away: the excess of the
    deconfounded CKA over untrained networks, by chance 0; else plain CKA, by chance that of untrained networks.
    Columns: model, measure ("excess" or "CKA"), value, low, high (as of `compare_at_depth`), n (images), seeds (of
    training, of the model), seed_low, seed_high (the range over them), chance (NaN where there
    are no untrained networks).

    >>> layers = dict(index_a=[0, 0, 1, 1], index_b=[0, 1, 0, 1], cross=[0.3, 0, 0, 0.5])
    >>> table = mean_with_others(pd.DataFrame(EXAMPLE | layers | dict(batch=0)), ["mlp", "cnn"])
    >>> table[["model", "measure", "value"]].values.tolist()
    [['mlp', 'CKA', 0.5], ['cnn', 'CKA', 0.5]]
    """
    for measure, rows in reversed(_by_measure(hsic, models)):
        if measure == "CKA" or (rows["kind_a"] == "untrained").any():
            break
    columns = ["model", "measure", "value", "low", "high", "n", "seeds", "seed_low", "seed_high", "chance"]
    rows, found = rows[rows[["index_a", "index_b"]].max(axis=1) > 0], []
    if rows.empty:
        return pd.DataFrame(columns=columns)
    networks, values, n = _drawn(rows, n_resamples, seed)
    there = _pairs_of(networks)
    for model in models:
        pairs = [tuple(sorted((model, other))) for other in models if other != model]
        pairs = [pair for pair in pairs if (*pair, "trained") in there]
        if not pairs:
            continue
        trained, untrained = ({(*pair, kind): 1 / len(pairs) for pair in pairs} for kind in ("trained", "untrained"))
        if measure != "CKA":
            trained, chance = _sum((1, trained), (-1, untrained)), 0.0
        else:
            chance = float(_of(untrained, networks, values[:, :1])[0])
        value, low, high, *_ = _estimated(trained, networks, values, level=level, seed=seed)
        one_by_one = _by_seed(model, trained, networks, values[:, :1])
        facts = dict(model=model, measure="CKA" if measure == "CKA" else "excess", value=value, low=low, high=high)
        facts |= dict(n=n, seeds=len(one_by_one), seed_low=min(one_by_one), seed_high=max(one_by_one), chance=chance)
        found.append(facts)
    return pd.DataFrame(found, columns=columns)


def rows_at_depth(hsic: pd.DataFrame) -> pd.DataFrame:
    """The rows that comparisons at matched depth look at, a small part of a table of all layers with all.

    hsic: of `cka.hsic_table`.  Two networks of one kind, layers at matched depth; and every layer with the inputs.

    >>> layers = dict(index_a=[0, 0, 1, 1], index_b=[0, 1, 0, 1], cross=[0.3, 0, 0, 0.5])
    >>> rows_at_depth(pd.DataFrame(EXAMPLE | layers | dict(batch=0)))["cross"].tolist()
    [0.3, 0.5]
    """
    of_networks = hsic[hsic["kind_a"].isin(["trained", "untrained"])]
    of_one_kind = of_networks[(of_networks["kind_a"] == of_networks["kind_b"]) & ~same_network(of_networks)]
    return pd.concat([at_matched_depth(of_one_kind), of_networks[of_networks["kind_b"] == "inputs"]])


def _by_measure(hsic: pd.DataFrame, models: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """("CKA", rows) and, where the table has the inputs, ("deconfounded", rows), of two networks at matched depth."""
    of_inputs = hsic["kind_b"] == "inputs"
    rows = rows_at_depth(hsic[hsic["model_a"].isin(models) & (hsic["model_b"].isin(models) | of_inputs)])
    measured = [("CKA", rows[rows["kind_b"] != "inputs"])]
    return measured + [("deconfounded", deconfounded(rows))] if of_inputs.any() else measured


def _drawn(rows: pd.DataFrame, n_resamples: int, seed: int) -> tuple[Networks, np.ndarray, int]:
    """Pairs of networks, their mean CKA as it is and of minibatches drawn anew, [pairs, 1 + resamples], and images."""
    pairs, cka, drawn, n = estimates(rows, n_resamples, seed)
    if rows["batch"].nunique() < 2:
        drawn = np.full_like(drawn, np.nan)
    values = pd.DataFrame(np.vstack([cka, drawn]).T).groupby([pairs[name] for name in (*NETWORK_A, *NETWORK_B)]).mean()
    return {name: values.index.get_level_values(name).to_numpy() for name in values.index.names}, values.to_numpy(), n


def _estimated(
    contrast: Contrast, networks: Networks, values: np.ndarray, *, level: float, seed: int
) -> tuple[float, float, float, float, int]:
    """Value, low, high and p-value of a contrast, and the fewest seeds in it."""
    value, *draws = _of(contrast, networks, values)
    added, fewest = _jackknifed(contrast, networks, values[:, :1])
    return float(value), *interval_over_seeds(value, np.array(draws), added, level=level, seed=seed), fewest


def _by_seed(model: str, contrast: Contrast, networks: Networks, values: np.ndarray) -> list[float]:
    """The contrast with each training seed of the model alone."""
    sides = [(networks[f"model_{s}"] == model) & (networks[f"kind_{s}"] == "trained") for s in "ab"]
    seeds = sorted({number for own, s in zip(sides, "ab", strict=True) for number in networks[f"seed_{s}"][own]})
    found = []
    for number in seeds:
        others = [own & (networks[f"seed_{s}"] != number) for own, s in zip(sides, "ab", strict=True)]
        found.append(float(_of(contrast, networks, values, ~np.any(others, axis=0))[0]))
    return found


def _pairs_of(networks: Networks) -> set[tuple[str, str, str]]:
    sides = (networks["model_a"], networks["model_b"], networks["kind_a"])
    return {(*sorted(two), kind) for *two, kind in zip(*sides, strict=True)}


def _contrasts(networks: Networks, models: Sequence[str]) -> list[tuple[str, str, Contrast]]:
    """(pair, what, contrast) of all that the networks allow."""
    there, found, excess = _pairs_of(networks), [], {}
    for a, b in combinations_with_replacement(models, 2):
        keys = {kind: (*sorted((a, b)), kind) for kind in ("trained", "untrained")}
        keys = {kind: key for kind, key in keys.items() if key in there}
        found += [(f"{a}–{b}", kind, {key: 1.0}) for kind, key in keys.items()]
        if len(keys) == 2:
            excess[a, b] = {keys["trained"]: 1.0, keys["untrained"]: -1.0}
            found.append((f"{a}–{b}", "excess", excess[a, b]))
    across = [pair for pair in excess if pair[0] != pair[1]]
    for a, b in across:
        if (a, a) in excess and (b, b) in excess:
            found.append(
                (f"{a}–{b}", "seeds alike", _sum((0.5, excess[a, a]), (0.5, excess[b, b]), (-1, excess[a, b])))
            )
    for one, other in combinations(across, 2):
        contrast = _sum((1, excess[other]), (-1, excess[one]))
        found.append(("–".join(other), f"less {'–'.join(one)}", contrast))
    return found


def _sum(*parts: tuple[float, Contrast]) -> Contrast:
    total = {}
    for factor, contrast in parts:
        for key, value in contrast.items():
            total[key] = total.get(key, 0.0) + factor * value
    return total


def _of(contrast: Contrast, networks: Networks, values: np.ndarray, kept: np.ndarray | bool = True) -> np.ndarray:
    """The contrast of means over pairs of networks; values: [pairs, …]; NaN where a pair of models has none kept."""
    total = np.zeros(values.shape[1])
    one, other, kinds = networks["model_a"], networks["model_b"], networks["kind_a"]
    for (a, b, kind), factor in contrast.items():
        own = (((one == a) & (other == b)) | ((one == b) & (other == a))) & (kinds == kind) & kept
        total += factor * (values[own].mean(axis=0) if own.any() else np.nan)
    return total


def _jackknifed(contrast: Contrast, networks: Networks, values: np.ndarray) -> tuple[list[tuple[float, float]], int]:
    """What seeds add to the variance of a contrast, by leaving out each network (Efron & Stein 1981); fewest seeds."""
    added, counts = [], []
    for model, kind in dict.fromkeys((name, kind) for *two, kind in contrast for name in two):
        of_kind = networks["kind_a"] == kind
        sides = [((networks[f"model_{s}"] == model) & of_kind, networks[f"seed_{s}"]) for s in "ab"]
        seeds = sorted({number for own, numbers in sides for number in numbers[own]})
        counts.append(len(seeds))
        left = []
        for number in seeds:
            out = np.any([own & (numbers == number) for own, numbers in sides], axis=0)
            left.append(_of(contrast, networks, values, ~out)[0])
        k = len(left)
        if k > 1 and np.isfinite(left).all():
            variance = (k - 1) * np.var(left)
            added.append((variance, variance**2 / (k - 1)))
    return added, min(counts)
