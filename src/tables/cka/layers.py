"""Layers of networks: matched in order, by distance, beyond chance, and where they turn to the labels."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from src.tables.cka.hsic import EXAMPLE, NETWORK_A, between, same_network  # noqa: F401 -- EXAMPLE is of the docstrings


def by_distance(table: pd.DataFrame) -> pd.DataFrame:
    """Mean CKA of layers of one network that lie so many layers apart, from rows of `cka_table`.

    Columns: model, kind, model_seed, distance, cka, n (pairs).  A flat curve is a network that repeats itself (the
    block structure of Nguyen et al. 2021).

    >>> table = pd.DataFrame(EXAMPLE | dict(model_b="mlp", index_b=[1, 2], cka=[0.9, 0.7]))
    >>> by_distance(table)[["model", "distance", "cka"]].values.tolist()
    [['mlp', 1, 0.9], ['mlp', 2, 0.7]]
    """
    within = table[same_network(table) & (table["index_b"] > table["index_a"])]
    groups = within.assign(distance=within["index_b"] - within["index_a"]).groupby([*NETWORK_A, "distance"], sort=False)
    names = dict(zip(NETWORK_A, ("model", "kind", "model_seed"), strict=True))
    return groups["cka"].agg(cka="mean", n="size").reset_index().rename(columns=names)


def matched_layers(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """The rows of `cka_table`, of one seed, for the layers that `match_layers` pairs, of every two of the models.

    >>> table = pd.DataFrame(EXAMPLE | dict(index_b=[0, 1], cka=[0.3, 0.8]))
    >>> matched_layers(table, ["mlp", "cnn"])[["index_a", "index_b", "cka"]].values.tolist()
    [[0.0, 1.0, 0.8]]
    """
    parts = []
    for a, b in combinations(models, 2):
        part = between(table, a, b)
        matched, _ = match_layers(part.pivot(index="index_a", columns="index_b", values="cka"))
        parts.append(part.set_index(["index_a", "index_b"]).loc[matched].reset_index())
    return pd.concat(parts, ignore_index=True)[table.columns]


def beyond_shuffled(
    table: pd.DataFrame, null: pd.DataFrame, models: Sequence[str], *, level: float = 0.95
) -> pd.DataFrame:
    """Of every two of the models how their layers agree, one row each; all of one seed.

    table: of `cka_table`.  null: of `cka.hsic_table`.  Columns: model_a, model_b, matched (mean CKA of matched layers),
    layer_a, layer_b, cka, low, high (of the pair of layers that agree best), chance (the point that the largest CKA of
    shuffled images stays below in a share `level` of the permutations) and above, the share of pairs beyond it.

    >>> table = pd.DataFrame(EXAMPLE | dict(index_b=[0, 1], cka=[0.1, 0.8], low=0.0, high=1.0, largest=0.25))
    >>> beyond_shuffled(table, table, ["mlp", "cnn"])[["matched", "cka", "chance", "above"]].values.tolist()
    [[0.8, 0.8, 0.25, 0.5]]
    """
    rows = []
    for a, b in combinations(models, 2):
        part, chance = between(table, a, b), between(null, a, b)["largest"].quantile(level)
        best = part.loc[part["cka"].idxmax(), ["layer_a", "layer_b", "cka", "low", "high"]]
        matched = matched_layers(part, [a, b])["cka"].mean()
        rows.append(
            dict(model_a=a, model_b=b, matched=matched, **best, chance=chance, above=(part["cka"] > chance).mean())
        )
    return pd.DataFrame(rows)


def match_layers(similarity: np.ndarray) -> tuple[list[tuple[int, int]], float]:
    """The order-preserving matching of rows with columns of the highest total similarity, and its mean.

    similarity: [m, n], finite.  Every row or column of the shorter side is matched, each with another one, later ones
    with later ones, by dynamic programming in m · n steps.  Raises ValueError for values that are not finite.

    >>> match_layers(np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.7]]))
    ([(0, 0), (1, 2)], 0.8)
    """
    similarity = np.asarray(similarity, dtype=float)
    if similarity.ndim != 2 or not similarity.size or not np.isfinite(similarity).all():
        raise ValueError(f"expected a matrix of finite similarities, not {similarity.shape} with NaN or none")
    if similarity.shape[0] > similarity.shape[1]:
        matched, score = match_layers(similarity.T)
        return [(i, j) for j, i in matched], score
    m, n = similarity.shape
    best = np.full((m + 1, n + 1), -np.inf)  # of the first i rows within the first j columns
    best[0] = 0
    for i in range(m):
        best[i + 1, 1:] = np.maximum.accumulate(best[i, :-1] + similarity[i])
    matched, j = [], n
    for i in range(m, 0, -1):
        while j > i and best[i, j] == best[i, j - 1]:
            j -= 1
        matched.append((i - 1, j - 1))
        j -= 1
    return matched[::-1], float(best[m, n] / m)


def task_onset(depth: np.ndarray, similarity: np.ndarray, *, share: float = 0.5) -> float:
    """The depth at which similarity with the labels first reaches `share` of its last value, between layers linearly.

    NaN where the last value is not above 0.

    >>> round(task_onset([0, 0.5, 1], [0.0, 0.2, 0.8]), 3)
    0.667
    """
    depth, similarity = np.asarray(depth, dtype=float), np.asarray(similarity, dtype=float)
    goal = share * similarity[-1]
    if not goal > 0:
        return float("nan")
    first = int(np.argmax(similarity >= goal))
    around = slice(max(first - 1, 0), first + 1)
    return float(np.interp(goal, similarity[around], depth[around]))
