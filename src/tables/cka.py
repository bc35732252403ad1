"""What matrices of CKA between layers say, from tables of HSIC, one row per minibatch and pair of layers; no torch."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

SIDE_A, SIDE_B = ["model_a", "seed_a", "layer_a", "index_a"], ["model_b", "seed_b", "layer_b", "index_b"]
SETTINGS = ["kernel", "unbiased", "pool"]  # how CKA was measured: two ways in one table are never mixed


def cka_table(hsic: pd.DataFrame, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """CKA of every pair of layers, with a bootstrap interval over minibatches.

    hsic: columns model_a, seed_a, layer_a, index_a, the same for b, batch, n (images), cross, own_a, own_b; every pair
    in the same minibatches; kernel, unbiased and pool, where it has them, are kept apart.
    Columns: those, without batch, cross and own ones, depth_a and depth_b (0 to 1), cka, low, high (NaN for fewer
    than 2 minibatches), n, batches.  NaN where a layer does not vary.  Raises ValueError where minibatches are missing
    or come twice.  Source: Nguyen, Raghu & Kornblith 2021, eq. 4, the means over minibatches of all three terms.
    """
    pairs, terms, n = _terms(hsic)
    cka = _ratio(*terms.mean(1))
    low = high = np.full(len(cka), np.nan)
    n_batches = terms.shape[1]
    if n_batches > 1:
        drawn = _resampled(terms, n_resamples, seed)
        low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2), axis=0)
    for side in "ab":
        last = pairs.groupby([f"model_{side}", f"seed_{side}"])[f"index_{side}"].transform("max")
        pairs[f"depth_{side}"] = pairs[f"index_{side}"] / last.clip(lower=1)
    return pairs.assign(cka=cka, low=low, high=high, n=n, batches=n_batches)


def compare_networks(
    hsic: pd.DataFrame, pairs: Sequence[tuple[str, str]], *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Mean CKA over all layers of each pair of networks, and the differences between pairs of networks.

    The same minibatches are drawn for all, so that differences are paired.  Columns: pair, other ("" for the mean
    itself), mean or difference as `value`, low, high.
    """
    table, terms, _ = _terms(hsic)
    drawn, whole = _resampled(terms, n_resamples, seed), _ratio(*terms.mean(1))
    rows, means = [], {}
    for a, b in pairs:
        chosen = ((table["model_a"] == a) & (table["model_b"] == b)).to_numpy()
        if not chosen.any():
            there = ", ".join(sorted({f"{x}-{y}" for x, y in zip(table["model_a"], table["model_b"], strict=True)}))
            raise ValueError(f"there is no HSIC of {a} with {b}; there is {there}")
        means[f"{a}–{b}"] = np.nanmean(whole[chosen]), np.nanmean(drawn[:, chosen], axis=1)
    names = list(means)
    for i, name in enumerate(names):
        rows.append((name, "", means[name][0], means[name][1]))
        rows += [
            (name, other, means[name][0] - means[other][0], means[name][1] - means[other][1]) for other in names[:i]
        ]
    ends = ((1 - level) / 2, (1 + level) / 2)
    return pd.DataFrame(
        [
            dict(zip(("pair", "other", "value", "low", "high"), (a, b, v, *np.quantile(d, ends)), strict=True))
            for a, b, v, d in rows
        ]
    )


def mean_with_others(
    hsic: pd.DataFrame, models: Sequence[str], *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """How alike a network is to those of other names: mean CKA over all pairs of layers with each, then over them.

    Columns: model, model_seed, value, low, high (bootstrap over minibatches), n (images).
    """
    table, terms, n = _terms(hsic)
    drawn, whole = _resampled(terms, n_resamples, seed), _ratio(*terms.mean(1))
    names, seeds = table[["model_a", "model_b"]].to_numpy(), table[["seed_a", "seed_b"]].to_numpy()
    among = np.isin(names, list(models)).all(1) & (names[:, 0] != names[:, 1])
    rows = []
    for model in models:
        for model_seed in sorted({int(s) for s in seeds[names == model]}):
            own = among & ((names == model) & (seeds == model_seed)).any(1)
            if not own.any():
                continue
            other = np.where(names[own, 0] == model, names[own, 1], names[own, 0])
            shares = np.array([1 / (other == name).sum() for name in other]) / len(set(other))
            low, high = np.quantile(drawn[:, own] @ shares, ((1 - level) / 2, (1 + level) / 2))
            rows.append((model, model_seed, whole[own] @ shares, low, high, n))
    return pd.DataFrame(rows, columns=["model", "model_seed", "value", "low", "high", "n"])


def by_distance(table: pd.DataFrame) -> pd.DataFrame:
    """Mean CKA of layers of one network that lie so many layers apart: columns model, distance, cka, n (pairs).

    A flat curve is a network that repeats itself (the block structure of Nguyen et al. 2021).
    """
    within = table[(table["model_a"] == table["model_b"]) & (table["index_b"] > table["index_a"])]
    distance = within["index_b"] - within["index_a"]
    groups = within.assign(distance=distance).groupby(["model_a", "distance"], sort=False)["cka"]
    return groups.agg(cka="mean", n="size").reset_index().rename(columns={"model_a": "model"})


def agreement_with_cka(measures: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Do other measures order pairs of layers as CKA does: rank correlations over pairs, within and across networks.

    measures: rows of `cka.measure_table`.  Columns: measure, pairs ("within" or "across"), spearman (the mean over
    batches), low, high (Student's t over batches, NaN for one), n (pairs of different layers), null (the mean value of
    the measure for shuffled images).
    """
    sides = [*SIDE_A, *SIDE_B]
    table = measures[(measures[SIDE_A].to_numpy() != measures[SIDE_B].to_numpy()).any(1)]
    own = (table["model_a"] == table["model_b"]) & (table["seed_a"] == table["seed_b"])
    rows = []
    for where, part in (("within", table[own]), ("across", table[~own])):
        if part.empty:
            continue
        wide = part.pivot(index=["batch", *sides], columns="measure", values="value")
        null = part.groupby("measure")["null"].mean()
        for name in wide.columns.drop("CKA"):
            found = np.array([stats.spearmanr(rows["CKA"], rows[name]).statistic for _, rows in wide.groupby("batch")])
            low, high = _t_interval(found, level)
            rows.append((name, where, found.mean(), low, high, len(wide) // len(found), null[name]))
    return pd.DataFrame(rows, columns=["measure", "pairs", "spearman", "low", "high", "n", "null"])


def beyond_chance(measures: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """How alike two different networks are by each measure: the mean over pairs of layers of (value - null)/(1 - null).

    0 is what shuffled images give, 1 is the same up to what the measure does not see; pairs whose shuffled images are
    the same already are left out.  Columns: measure, model_a,
    model_b, value (mean over batches), low, high (Student's t over batches, NaN for one).
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
    with later ones.  Found by dynamic programming in m · n steps.  Raises ValueError for values that are not finite.
    """
    similarity = np.asarray(similarity, dtype=float)
    if similarity.ndim != 2 or not similarity.size or not np.isfinite(similarity).all():
        raise ValueError(
            f"expected a matrix of finite similarities, not one of shape {similarity.shape} with NaN or none"
        )
    if similarity.shape[0] > similarity.shape[1]:
        matched, score = match_layers(similarity.T)
        return [(i, j) for j, i in matched], score
    m, n = similarity.shape
    best = np.full((m + 1, n + 1), -np.inf)  # of the first i rows within the first j columns
    best[0] = 0
    for i in range(1, m + 1):
        for j in range(i, n + 1):
            best[i, j] = max(best[i, j - 1], best[i - 1, j - 1] + similarity[i - 1, j - 1])
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
    """
    depth, similarity = np.asarray(depth, dtype=float), np.asarray(similarity, dtype=float)
    goal = share * similarity[-1]
    if not goal > 0:
        return float("nan")
    first = int(np.argmax(similarity >= goal))
    if first == 0:
        return float(depth[0])
    part = (goal - similarity[first - 1]) / (similarity[first] - similarity[first - 1])
    return float(depth[first - 1] + part * (depth[first] - depth[first - 1]))


def _terms(hsic: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, int]:
    """Pairs of layers, their terms [3 (cross, own a, own b), batches, pairs], and the number of images."""
    keys = [*SIDE_A, *SIDE_B, *(name for name in SETTINGS if name in hsic)]
    batches = np.sort(hsic["batch"].unique())
    pairs = hsic.drop_duplicates(keys)[keys].reset_index(
        drop=True
    )  # in the order given: networks as asked, layers as run
    number = hsic.groupby(keys, sort=False).ngroup()
    ordered = hsic.assign(pair=number).sort_values(["pair", "batch"], kind="stable")
    expected = np.tile(batches, len(pairs))
    if len(expected) != len(ordered) or (ordered["batch"].to_numpy() != expected).any():
        raise ValueError("every pair of layers needs every minibatch once; some are missing or come twice")
    terms = ordered[["cross", "own_a", "own_b"]].to_numpy().reshape(len(pairs), len(batches), 3)
    n = int(ordered["n"].to_numpy()[: len(batches)].sum())
    return pairs, terms.transpose(2, 1, 0), n


def _resampled(terms: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """CKA [resamples, pairs] of minibatches drawn with replacement."""
    n = terms.shape[1]
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
    return _ratio(*(weights @ part for part in terms))


def _ratio(cross: np.ndarray, own_a: np.ndarray, own_b: np.ndarray) -> np.ndarray:
    """HSIC over the root of the product of both own ones; NaN where one of them is not above 0."""
    inside = (own_a > 0) & (own_b > 0)
    return np.where(inside, cross / np.sqrt(np.where(inside, own_a * own_b, 1)), np.nan)
