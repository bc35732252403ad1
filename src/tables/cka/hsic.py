"""CKA with intervals, of tables of HSIC, one row per minibatch and pair of layers; and rows chosen from them."""

import numpy as np
import pandas as pd

from src.tables.statistics import bootstrap_counts

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
    pairs, cka, drawn, n = estimates(hsic, n_resamples, seed)
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2), axis=0)
    batches = hsic["batch"].nunique()
    if batches < 2:
        low = high = np.nan
    for side in "ab":
        last = pairs.groupby([f"model_{side}", f"kind_{side}", f"seed_{side}"])[f"index_{side}"].transform("max")
        pairs[f"depth_{side}"] = pairs[f"index_{side}"] / last.clip(lower=1)
    return pairs.assign(cka=cka, low=low, high=high, n=n, batches=batches)


def deconfounded(hsic: pd.DataFrame) -> pd.DataFrame:
    """HSIC of what the similarity of the inputs leaves of each kernel: the rows of `hsic` but for those of the inputs.

    In each minibatch the inputs' kernel is regressed out of both kernels, all of them centred as the estimator centres
    (unbiased: with diagonals of 0), so that cross less cross_a0 · cross_b0 / own_0 is the HSIC of the residuals.  The
    column kernel, where there is one, says so.  Raises ValueError for tables that have no rows of the inputs.
    Source: Cui et al. 2022, section 4; as partial distance covariance, Székely & Rizzo 2014, eq. 3.4.

    >>> inputs = EXAMPLE | dict(model_b="inputs", kind_b="inputs", cross=0.5, own_b=1.0)
    >>> also = inputs | dict(model_a="cnn", cross=0.4)
    >>> deconfounded(pd.concat(map(pd.DataFrame, (EXAMPLE, inputs, also))))["cross"].round(3).tolist()
    [0.1, 0.3]
    """
    is_input = (hsic[["kind_a", "kind_b"]] == "inputs").any(axis=1)
    inputs, rows = hsic[is_input & (hsic["kind_a"] != "inputs")], hsic[~is_input].reset_index(drop=True)
    if inputs.empty:
        raise ValueError("the table has no rows of the inputs, as tables of older code; measure it again")
    on = ["batch", *(name for name in SETTINGS if name in hsic)]
    own, with_inputs = None, {}
    for side, names in (("a", SIDE_A), ("b", SIDE_B)):
        found = inputs[[*SIDE_A, *on, "cross", "own_b"]].set_axis([*names, *on, "with", "inputs"], axis=1)
        found = rows[[*names, *on]].merge(found, on=[*names, *on], how="left", validate="m:1")
        own, with_inputs[side] = found["inputs"], found["with"]
    of_residuals = {"cross": rows["cross"] - with_inputs["a"] * with_inputs["b"] / own}
    of_residuals |= {f"own_{side}": rows[f"own_{side}"] - part**2 / own for side, part in with_inputs.items()}
    if "kernel" in rows:
        of_residuals["kernel"] = rows["kernel"] + ", deconfounded"
    return rows.assign(**of_residuals)


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


def same_network(table: pd.DataFrame) -> np.ndarray:
    return np.all([table[a] == table[b] for a, b in zip(NETWORK_A, NETWORK_B, strict=True)], axis=0)


def estimates(hsic: pd.DataFrame, n_resamples: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, int]:
    """Pairs of layers in the order given, their CKA, that of minibatches drawn anew [resamples, pairs], and images."""
    keys = [*SIDE_A, *SIDE_B, *(name for name in [*SETTINGS, "dataset"] if name in hsic)]
    batches = np.sort(hsic["batch"].unique())
    pair = hsic.groupby(keys, sort=False).ngroup()
    pairs = hsic.loc[~pair.duplicated(), keys].reset_index(drop=True)
    order = np.lexsort((hsic["batch"], pair))
    expected = np.tile(batches, len(pairs))
    if len(expected) != len(order) or (hsic["batch"].to_numpy()[order] != expected).any():
        raise ValueError("every pair of layers needs every minibatch once; some are missing or come twice")
    terms = hsic[["cross", "own_a", "own_b"]].to_numpy()[order]
    terms = terms.reshape(len(pairs), len(batches), 3).transpose(2, 1, 0)
    weights = bootstrap_counts(len(batches), n_resamples, seed).astype(float) / max(len(batches), 1)
    n = int(hsic["n"].to_numpy()[order[: len(batches)]].sum())
    return pairs, ratio(*terms.mean(1)), ratio(*(weights @ part for part in terms)), n


def ratio(cross: np.ndarray, own_a: np.ndarray, own_b: np.ndarray) -> np.ndarray:
    """CKA: HSIC over the root of the product of both own ones; NaN where one of them is not above 0.

    >>> ratio(np.array([0.5, 0.1]), np.array([1.0, 0.0]), np.array([4.0, 1.0])).tolist()
    [0.25, nan]
    """
    inside = (own_a > 0) & (own_b > 0)
    return np.where(inside, cross / np.sqrt(np.where(inside, own_a * own_b, 1)), np.nan)
