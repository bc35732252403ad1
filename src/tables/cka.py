"""CKA between layers and what it says, from tables of HSIC, one row per minibatch and pair of layers; no torch.

A network is a model of a kind, "trained", "untrained" (random weights) or "labels" (a kernel of the classes in place of
a network), and a seed, of its training or of its random weights.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from src.tables.statistics import bootstrap_counts, percentile_interval

NETWORK_A, NETWORK_B = ["model_a", "kind_a", "seed_a"], ["model_b", "kind_b", "seed_b"]
SIDE_A, SIDE_B = [*NETWORK_A, "layer_a", "index_a"], [*NETWORK_B, "layer_b", "index_b"]
SETTINGS = ["kernel", "unbiased", "pool"]  # how CKA was measured: two ways in one table are never mixed
# HSIC of two networks of one layer, of which the docstrings make examples
EXAMPLE = dict(zip(SIDE_A, ("mlp", "trained", 0, "stem", 0), strict=True))
EXAMPLE |= dict(zip(SIDE_B, ("cnn", "trained", 0, "stem", 0), strict=True))
EXAMPLE |= dict(batch=[0, 1], n=64, cross=[0.3, 0.5], own_a=1.0, own_b=1.0)


def cka_table(hsic: pd.DataFrame, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """CKA of every pair of layers, with a bootstrap interval over minibatches.

    hsic: columns of SIDE_A and SIDE_B, batch, n (images), cross, own_a, own_b; every pair in the same minibatches;
    kernel, unbiased, pool and dataset, where it has them, are kept apart.
    Columns: those, without batch, cross and own ones, depth_a and depth_b (0 to 1), cka, low, high (NaN for fewer
    than 2 minibatches), n, batches.  NaN where a layer does not vary.  Raises ValueError where minibatches are missing
    or come twice.  Source: Nguyen, Raghu & Kornblith 2021, eq. 4, the means over minibatches of all three terms.

    >>> cka_table(pd.DataFrame(EXAMPLE))[["model_a", "model_b", "cka", "n"]].round(3).values.tolist()
    [['mlp', 'cnn', 0.4, 128]]
    """
    pairs, cka, drawn, n = _estimates(hsic, n_resamples, seed)
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2), axis=0)
    batches = hsic["batch"].nunique()
    if batches < 2:
        low = high = np.nan
    for side in "ab":
        last = pairs.groupby([f"model_{side}", f"kind_{side}", f"seed_{side}"])[f"index_{side}"].transform("max")
        pairs[f"depth_{side}"] = pairs[f"index_{side}"] / last.clip(lower=1)
    return pairs.assign(cka=cka, low=low, high=high, n=n, batches=batches)


def one_seed(table: pd.DataFrame, model_seed: int | None = None) -> pd.DataFrame:
    """The rows between networks of one seed: of trained ones `model_seed`, or the first that the table has of a model.

    table: any with the columns NETWORK_A and NETWORK_B.  Of untrained networks, too, the first seed is kept.
    Raises ValueError, with the training seeds there are, when no network has `model_seed`.

    >>> one_seed(pd.DataFrame(EXAMPLE | dict(model_b="mlp", seed_b=[0, 1])))["seed_b"].tolist()
    [0]
    """
    sides = [table[side].set_axis(["model", "kind", "seed"], axis=1) for side in (NETWORK_A, NETWORK_B)]
    networks = pd.concat(sides)
    kept = networks.drop_duplicates(["model", "kind"])
    if model_seed is not None:
        seeds = sorted(set(networks.loc[networks["kind"] == "trained", "seed"]))
        if model_seed not in seeds:
            raise ValueError(f"no network has the training seed {model_seed}; there are {', '.join(map(str, seeds))}")
        kept = kept.assign(seed=kept["seed"].where(kept["kind"] != "trained", model_seed))
    index = pd.MultiIndex.from_frame(kept)
    return table[np.all([pd.MultiIndex.from_frame(side).isin(index) for side in sides], axis=0)]


def between(table: pd.DataFrame, a: str, b: str, *, kinds: tuple[str, str] = ("trained", "trained")) -> pd.DataFrame:
    """The rows of one model with another, a as side a, whichever way round the table has them.

    Raises ValueError, with the pairs there are, when there is none.

    >>> between(pd.DataFrame(EXAMPLE), "cnn", "mlp")["model_a"].tolist()
    ['cnn', 'cnn']
    """
    turned = {name: f"{name[:-1]}{'ba'['ab'.index(name[-1])]}" for name in table if name.endswith(("_a", "_b"))}
    for named in (table, table.rename(columns=turned)[table.columns]):
        rows = (named[["model_a", "kind_a", "model_b", "kind_b"]] == [a, kinds[0], b, kinds[1]]).all(axis=1)
        if rows.any():
            return named[rows]
    there = ", ".join(sorted(set(table["model_a"] + "-" + table["model_b"])))
    raise ValueError(f"there is nothing of {a} ({kinds[0]}) with {b} ({kinds[1]}); there is {there}")


def compare_networks(
    hsic: pd.DataFrame, pairs: Sequence[tuple[str, str]], *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Mean CKA over all layers of each pair of trained networks, and differences between pairs of networks.

    The same minibatches are drawn for all, so that differences are paired.  Columns: pair; other: "" for the mean
    itself, or what is subtracted from it, an earlier pair or "untrained", the same two networks with random weights
    where the table has them; value, low, high.

    >>> compare_networks(pd.DataFrame(EXAMPLE), [("mlp", "cnn")]).round(2).values.tolist()
    [['mlp–cnn', '', 0.4, 0.3, 0.5]]
    """
    table, cka, drawn, _ = _estimates(hsic, n_resamples, seed)

    def mean(a: str, b: str, kind: str) -> np.ndarray:
        chosen = between(table, a, b, kinds=(kind, kind)).index
        return np.append(np.nanmean(drawn[:, chosen], axis=1), np.nanmean(cka[chosen]))

    untrained = set(table.loc[table["kind_a"] == "untrained", "model_a"])
    rows, means = [], {}
    for a, b in pairs:
        name, own = f"{a}–{b}", mean(a, b, "trained")
        others = {"": 0 * own} | means
        if {a, b} <= untrained:
            others["untrained"] = mean(a, b, "untrained")
        for other, subtracted in others.items():
            *draws, value = own - subtracted
            rows.append((name, other, value, *percentile_interval(np.array(draws), level=level)))
        means[name] = own
    return pd.DataFrame(rows, columns=["pair", "other", "value", "low", "high"])


def drawn_mean(hsic: pd.DataFrame, *, n_resamples: int = 1000, seed: int = 0) -> tuple[float, np.ndarray]:
    """Mean CKA over all pairs of layers in the table, and that of minibatches drawn anew, [n_resamples].

    One seed draws the same minibatches for tables that have the same, so that differences of two are paired.

    >>> value, drawn = drawn_mean(pd.DataFrame(EXAMPLE), n_resamples=2)
    >>> round(value, 2), drawn.shape
    (0.4, (2,))
    """
    _, cka, drawn, _ = _estimates(hsic, n_resamples, seed)
    return float(np.nanmean(cka)), np.nanmean(drawn, axis=1)


def mean_with_others(
    hsic: pd.DataFrame, models: Sequence[str], *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """How alike a trained network is to those of other names: mean CKA over all pairs of layers with each, then over
    them.  Columns: model, model_seed, value, low, high (bootstrap over minibatches), n (images).

    >>> mean_with_others(pd.DataFrame(EXAMPLE), ["mlp", "cnn"])[["model", "value", "n"]].round(3).values.tolist()
    [['mlp', 0.4, 128], ['cnn', 0.4, 128]]
    """
    table, cka, drawn, n = _estimates(hsic, n_resamples, seed)
    names, kinds, seeds = (table[[f"{what}_a", f"{what}_b"]].to_numpy() for what in ("model", "kind", "seed"))
    among = np.isin(names, list(models)).all(1) & (kinds == "trained").all(1) & (names[:, 0] != names[:, 1])
    rows = []
    for model in models:
        for model_seed in sorted({int(s) for s in seeds[among][names[among] == model]}):
            own = among & ((names == model) & (seeds == model_seed)).any(1)
            other = np.where(names[own, 0] == model, names[own, 1], names[own, 0])
            shares = np.array([1 / (other == name).sum() for name in other]) / len(set(other))
            low, high = percentile_interval(drawn[:, own] @ shares, level=level)
            rows.append((model, model_seed, cka[own] @ shares, low, high, n))
    return pd.DataFrame(rows, columns=["model", "model_seed", "value", "low", "high", "n"])


def by_distance(table: pd.DataFrame) -> pd.DataFrame:
    """Mean CKA of layers of one network that lie so many layers apart, from rows of `cka_table`.

    Columns: model, kind, model_seed, distance, cka, n (pairs).  A flat curve is a network that repeats itself (the
    block structure of Nguyen et al. 2021).

    >>> table = pd.DataFrame(EXAMPLE | dict(model_b="mlp", index_b=[1, 2], cka=[0.9, 0.7]))
    >>> by_distance(table)[["model", "distance", "cka"]].values.tolist()
    [['mlp', 1, 0.9], ['mlp', 2, 0.7]]
    """
    within = table[_same_network(table) & (table["index_b"] > table["index_a"])]
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


def agreement_with_cka(measures: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Do other measures order pairs of layers as CKA does: rank correlations over pairs, within and across networks.

    measures: rows of `cka.measure_table`.  Columns: measure, pairs ("within" or "across"), spearman (the mean over
    batches), low, high (Student's t over batches, NaN for one), n (pairs of different layers), null (the mean value of
    the measure for shuffled images).

    >>> table = pd.DataFrame(EXAMPLE | dict(batch=0, index_b=[0, 1], value=[0.2, 0.9], null=0.1))
    >>> table = pd.concat([table.assign(measure="CKA"), table.assign(measure="SVCCA", value=table["value"] ** 2)])
    >>> agreement_with_cka(table)[["measure", "pairs", "spearman", "n"]].round(3).values.tolist()
    [['SVCCA', 'across', 1.0, 2]]
    """
    own, rows = _same_network(measures), []
    for where, chosen in (("within", own & (measures["index_a"] != measures["index_b"])), ("across", ~own)):
        part = measures[chosen]
        if part.empty:
            continue
        wide = part.pivot(index=["batch", *SIDE_A, *SIDE_B], columns="measure", values="value")
        null = part.groupby("measure")["null"].mean()
        for name in wide.columns.drop("CKA"):
            values = np.array([stats.spearmanr(b["CKA"], b[name]).statistic for _, b in wide.groupby("batch")])
            low, high = _t_interval(values, level)
            rows.append((name, where, values.mean(), low, high, len(wide) // len(values), null[name]))
    return pd.DataFrame(rows, columns=["measure", "pairs", "spearman", "low", "high", "n", "null"])


def beyond_chance(measures: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """How alike two different networks are by each measure: the mean over pairs of layers of (value - null)/(1 - null).

    0 is what shuffled images give, 1 is the same up to what the measure does not see; pairs whose shuffled images are
    the same already are left out.  Columns: measure, model_a, model_b, value (mean over batches), low, high (t interval
    over batches, NaN for one).

    >>> beyond_chance(pd.DataFrame(EXAMPLE | dict(measure="CKA", value=0.6, null=0.2)))["value"].round(3).tolist()
    [0.5]
    """
    across = measures[measures["model_a"] != measures["model_b"]]
    room = (1 - across["null"]).where(across["null"] < 1 - 1e-9)  # so few images that shuffled ones are the same too
    excess = (across["value"] - across["null"]) / room
    keys = ["measure", "model_a", "model_b"]
    by_batch = across.assign(excess=excess).groupby([*keys, "batch"], sort=False)["excess"].mean()
    rows = []
    for key, values in by_batch.groupby(keys, sort=False):
        rows.append((*key, values.mean(), *_t_interval(values.to_numpy(), level)))
    return pd.DataFrame(rows, columns=[*keys, "value", "low", "high"])


def _t_interval(values: np.ndarray, level: float) -> tuple[float, float]:
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


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


def _same_network(table: pd.DataFrame) -> np.ndarray:
    return (table[NETWORK_A].to_numpy() == table[NETWORK_B].to_numpy()).all(axis=1)


def _estimates(hsic: pd.DataFrame, n_resamples: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, int]:
    """Pairs of layers in the order given, their CKA, that of minibatches drawn anew [resamples, pairs], and images."""
    keys = [*SIDE_A, *SIDE_B, *(name for name in [*SETTINGS, "dataset"] if name in hsic)]
    batches = np.sort(hsic["batch"].unique())
    pairs = hsic[keys].drop_duplicates(ignore_index=True)
    ordered = hsic.assign(pair=hsic.groupby(keys, sort=False).ngroup()).sort_values(["pair", "batch"], kind="stable")
    expected = np.tile(batches, len(pairs))
    if len(expected) != len(ordered) or (ordered["batch"].to_numpy() != expected).any():
        raise ValueError("every pair of layers needs every minibatch once; some are missing or come twice")
    terms = ordered[["cross", "own_a", "own_b"]].to_numpy().reshape(len(pairs), len(batches), 3).transpose(2, 1, 0)
    weights = bootstrap_counts(len(batches), n_resamples, seed).astype(float) / max(len(batches), 1)
    n = int(ordered["n"].to_numpy()[: len(batches)].sum())
    return pairs, ratio(*terms.mean(1)), ratio(*(weights @ part for part in terms)), n


def ratio(cross: np.ndarray, own_a: np.ndarray, own_b: np.ndarray) -> np.ndarray:
    """CKA: HSIC over the root of the product of both own ones; NaN where one of them is not above 0.

    >>> ratio(np.array([0.5, 0.1]), np.array([1.0, 0.0]), np.array([4.0, 1.0])).tolist()
    [0.25, nan]
    """
    inside = (own_a > 0) & (own_b > 0)
    return np.where(inside, cross / np.sqrt(np.where(inside, own_a * own_b, 1)), np.nan)
