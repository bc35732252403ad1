"""HSIC of all layers of many networks with each other, with the labels, and under shuffled images: one pass for all."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.cka.activations import POOLS, pieces_of
from src.cka.direct import KERNELS, Pieces, linear_kernel
from src.models.access import choose_layers
from src.seeding import Stream, uniform
from src.tables.cka import SETTINGS, cka_table

LABELS = "labels"  # the network whose one layer says the class


def hsic_table(
    networks: Mapping[tuple[str, int], nn.Module],
    loader: Iterable,
    *,
    layers: Mapping[str, object] | None = None,
    kernel: str = "linear",
    unbiased: bool | str = True,
    pool: str | None = None,
    n_permutations: int = 0,
    seed: int = 0,
    progress: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """HSIC of each minibatch between all layers of all networks, for `similarity.cka_table`; and its null.

    networks: (name, training seed) -> model.  loader: batches of at least 4 images; each model resizes as it needs.
    layers: name -> choice (see `choose_layers`).  The labels' kernel, 1 for images of one class, is one more network.
    kernel: "linear", "rbf" or "cosine".  unbiased: the estimator, or "both" for two rows each.
    pool: None, "spatial mean", "token mean" or "class token": another measure.
    Rows: model_a, seed_a, layer_a, index_a, the same for b, batch, n, cross, own_a, own_b, kernel, unbiased, pool, for
    each pair of networks once, in the order given, and each with itself.
    Null, for each pair of different networks: model_a, seed_a, model_b, seed_b, permutation, largest: the largest CKA
    of any pair of layers when the second network's images are shuffled within every minibatch, so that a CKA above its
    95 % point is significant for all layers together (Westfall & Young 1993); of the unbiased estimator for "both".
    Raises ValueError for a layer that gives no tensor or values that are not finite, by name, and for small batches.
    """
    if any(name == LABELS for name, _ in networks):
        raise ValueError(f"{LABELS!r} stands for the labels; call the network another name")
    estimators = _estimators(kernel, unbiased, pool)
    rows, shuffled, own = [], {}, {}
    batches = ((batch, dict.fromkeys(networks, batch.pixels)) for batch in loader)
    for number, batch, names, pieces in _looked_at(networks, batches, layers or {}, kernel, pool, progress):
        names = names | {(LABELS, 0): [LABELS]}
        pieces[LABELS, 0] = Pieces.of(linear_kernel(F.one_hot(batch.labels.long()).double()))
        pairs = list(combinations_with_replacement(pieces, 2))
        rows += _rows(pieces, names, pairs, estimators, number)
        if n_permutations:
            orders = _orders(batch.sample_ids, n_permutations, seed)
            for key, part in pieces.items():
                own[key] = own.get(key, 0) + part.own_hsic(unbiased=estimators[0]).cpu().numpy()
            for a, b in pairs:
                if a != b:
                    drawn = [
                        pieces[a].hsic(pieces[b].permuted(o), unbiased=estimators[0]).cpu().numpy() for o in orders
                    ]
                    shuffled[a, b] = shuffled.get((a, b), 0) + np.stack(drawn)
    null = [
        pd.DataFrame(dict(permutation=range(n_permutations), largest=_largest(cross, own[a], own[b]))).assign(
            model_a=a[0], seed_a=a[1], model_b=b[0], seed_b=b[1]
        )
        for (a, b), cross in shuffled.items()
    ]
    columns = ["model_a", "seed_a", "model_b", "seed_b", "permutation", "largest"]
    return _table(rows, kernel, pool), pd.concat(null)[columns] if null else pd.DataFrame(columns=columns)


def hsic_rows(
    model_a: nn.Module,
    model_b: nn.Module,
    loader: Iterable,
    *,
    layers_a=None,
    layers_b=None,
    kernel: str = "linear",
    unbiased: bool | str = True,
    pool: str | None = None,
    loader_b: Iterable | None = None,
    progress: str | None = None,
) -> pd.DataFrame:
    """HSIC of each minibatch between the layers of two networks, as `hsic_table` has it; arguments of `cka_matrix`."""
    estimators = _estimators(kernel, unbiased, pool)
    alike = model_a is model_b and loader_b is None and layers_b in (None, layers_a)
    networks = {("a", 0): model_a} if alike else {("a", 0): model_a, ("b", 0): model_b}
    pair = ("a", 0), ("a", 0) if alike else ("b", 0)
    paired = ((batch, batch) for batch in loader) if loader_b is None else zip(loader, loader_b, strict=True)
    choices = {"a": layers_a, "b": layers_a if model_a is model_b and layers_b is None else layers_b}
    rows = []
    looked_at = _looked_at(networks, _checked(paired), choices, kernel, pool, progress)
    for number, _, names, pieces in looked_at:
        rows += _rows(pieces, names, [pair], estimators, number)
    table = _table(rows, kernel, pool)
    return table.assign(**{f"model_{s}": _name(m) for s, m in (("a", model_a), ("b", model_b))})


def cka_matrix(
    model_a: nn.Module,
    model_b: nn.Module,
    loader: Iterable,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    **options,
) -> pd.DataFrame:
    """CKA of every chosen layer of a with every one of b, on the loader's images; one row per pair of layers.

    loader: batches of at least 4 images; both models see the same pixels, each resizing them as it needs.
    options: layers_a, layers_b, kernel, unbiased, pool, progress as in `hsic_table`; loader_b: the same images in
    another form.  A model that meets itself is passed through once.
    Columns: model_a, layer_a, index_a, depth_a (0 to 1), the same for b, cka, low, high (bootstrap over minibatches;
    NaN for fewer than 2), n (images), batches, kernel, unbiased, pool.  NaN where a layer does not vary.
    Raises ValueError as `hsic_table` does, and for loaders whose order differs.
    To divide the work, make `hsic_rows` of parts of the images; `cka_table(merge(parts))` is this table.
    """
    rows = hsic_rows(model_a, model_b, loader, **options)
    return cka_table(rows, n_resamples=n_resamples, level=level, seed=seed).drop(columns=["seed_a", "seed_b"])


def merge(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One table of HSIC from those of parts of the images, whose minibatches are numbered on.

    Raises ValueError for parts of other networks, layers or settings.
    """
    parts, first = list(parts), 0
    keys = [name for name in parts[0].columns if name not in ("batch", "n", "cross", "own_a", "own_b")]
    expected = set(parts[0][keys].itertuples(index=False, name=None))
    numbered = []
    for part in parts:
        if set(part[keys].itertuples(index=False, name=None)) != expected:
            raise ValueError("cannot merge HSIC of different networks, layers or settings")
        numbered.append(part.assign(batch=part["batch"] + first))
        first += part["batch"].max() + 1
    return pd.concat(numbered, ignore_index=True)


def _estimators(kernel: str, unbiased: bool | str, pool: str | None) -> list[bool]:
    for value, known, what in ((kernel, KERNELS, "kernel"), (pool, {None: None} | POOLS, "pool")):
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}; choose from {', '.join(map(str, known))}")
    if unbiased not in (True, False, "both"):
        raise ValueError(f"unbiased must be True, False or 'both', not {unbiased!r}")
    return [True, False] if unbiased == "both" else [bool(unbiased)]


def _checked(pairs: Iterable) -> Iterator:
    for batch_a, batch_b in pairs:
        if not torch.equal(batch_a.sample_ids.cpu(), batch_b.sample_ids.cpu()):
            raise ValueError("the two loaders give different images or another order; CKA pairs them row by row")
        yield batch_a, {("a", 0): batch_a.pixels, ("b", 0): batch_b.pixels}


def _looked_at(
    networks: Mapping, batches: Iterable, layers: Mapping, kernel: str, pool: str | None, progress
) -> Iterator:
    """Of each minibatch its number, itself, the names of layers and the pieces of each network."""
    names, number = {}, -1
    for number, (batch, pixels) in enumerate(tqdm(batches, desc=progress, disable=progress is None, leave=False)):
        for key, model in networks.items():
            if key not in names:
                names[key] = choose_layers(model, pixels[key][:2], layers.get(key[0]))
        pieces = {
            key: pieces_of(model, pixels[key], names[key], kernel=kernel, pool=pool) for key, model in networks.items()
        }
        yield number, batch, names, pieces
    if number < 0:
        raise ValueError("the loader gave no batch")


def _rows(pieces: Mapping, names: Mapping, pairs: list, estimators: list[bool], batch: int) -> list[pd.DataFrame]:
    """One table for each pair of networks and estimator."""
    rows = []
    for unbiased in estimators:
        own = {key: part.own_hsic(unbiased=unbiased).cpu().numpy() for key, part in pieces.items()}
        for a, b in pairs:
            cross = pieces[a].hsic(pieces[b], unbiased=unbiased).cpu().numpy()
            i, j = (grid.ravel() for grid in np.indices(cross.shape))
            sides = {}
            for side, key, k in (("a", a, i), ("b", b, j)):
                sides |= {f"model_{side}": key[0], f"seed_{side}": key[1]}
                sides |= {f"layer_{side}": np.array(names[key])[k], f"index_{side}": k}
            found = dict(cross=cross.ravel(), own_a=own[a][i], own_b=own[b][j], unbiased=unbiased)
            rows.append(pd.DataFrame(sides | found | dict(batch=batch, n=pieces[a].rows.shape[1])))
    return rows


def _table(rows: list[pd.DataFrame], kernel: str, pool: str | None) -> pd.DataFrame:
    table = pd.concat(rows, ignore_index=True).assign(kernel=kernel, pool=pool or "none")
    return table[[name for name in table.columns if name not in SETTINGS] + SETTINGS]


def _name(model: nn.Module) -> str:
    return getattr(model, "name", "") or type(model).__name__


def _orders(sample_ids: Tensor, n: int, seed: int) -> list[Tensor]:
    """Orders of the images of a batch, drawn from (seed, sample id) like all that is random."""
    return list(uniform(sample_ids, seed, Stream.PERMUTATION, draws=n).argsort(0).T) if n else []


def _largest(cross: np.ndarray, own_a: np.ndarray, own_b: np.ndarray) -> np.ndarray:
    """Of every permutation the largest CKA; layers that do not vary have none."""
    inside = (own_a[:, None] > 0) & (own_b > 0)
    cka = np.where(inside, cross / np.sqrt(np.where(inside, own_a[:, None] * own_b, 1)), np.nan)
    return np.nanmax(cka, axis=(1, 2))
