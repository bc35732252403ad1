"""HSIC of all layers of many networks with each other, the labels and the inputs, and under shuffled images, in one
pass."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations, combinations_with_replacement

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor, nn

from src.cka.activations import POOLS, looked_at
from src.cka.direct import KERNELS, Pieces, as_matrix, check_finite
from src.data.batches import Batch
from src.data.inputs import Batches, as_batches, count_images
from src.models.access import as_zoo, device_of
from src.seeding import Stream, uniform
from src.tables.cka.hsic import NETWORK_A, NETWORK_B, SIDE_A, SIDE_B, cka_table, ratio

LABELS, INPUTS = ("labels", "labels", 0), ("inputs", "inputs", 0)  # model, kind, seed
VALUES_AT_ONCE = 2**22  # of shuffled kernels


def hsic_table(
    networks: Mapping,
    loader: Iterable,
    *,
    untrained: Mapping | None = None,
    layers: Mapping[str, object] | None = None,
    kernel: str = "linear",
    unbiased: bool | str = True,
    pool: str | None = None,
    n_permutations: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """HSIC of each minibatch between all layers of all networks, for `tables.cka.cka_table`; and its null.

    networks: name -> model, or (name, training seed) -> model; untrained: the same, of networks with random weights.
    loader: images with labels, as `as_batches` takes them, in batches of at least 4 (a smaller last one is passed
    over); a pair of tensors comes in batches of 128.  Each model resizes as it needs.  layers: name -> choice (see
    `choose_layers`).  kernel: "linear", "rbf" or "cosine".  unbiased: the estimator, or "both" for two rows each.
    pool: None, "spatial mean" of [n, c, h, w], "token mean" or "class token" of [n, tokens, c]: another measure.
    Images should come in no order of their classes: minibatches of one class say nothing of what parts the classes.
    Rows: model_a, kind_a ("trained", "untrained", "labels": a kernel that is 1 for images of one class, or "inputs":
    that of the pixels, of the first network where networks see different ones), seed_a, layer_a, index_a, the same
    for b, cross, own_a, own_b, batch, n, kernel, unbiased, pool and those of `with_keys`, for each pair of networks
    once, in the order given, and each with itself; of a trained and an untrained one where they have one name.
    Null, for each pair of different trained networks, and of one with the labels: model_a, kind_a, seed_a, the same
    for b, permutation, largest: the largest CKA of any pair of layers when the second network's images are shuffled
    within every minibatch, so that a CKA above its 95 % point is significant for all layers together (Westfall &
    Young 1993); of the unbiased estimator for "both".
    Raises ValueError for a layer that gives no tensor or values that are not finite, by name, and for small batches.
    """
    estimators = _estimators(kernel, unbiased, pool)
    models = {(name, "trained", number): model for (name, number), model in as_zoo(networks).items()}
    untrained = as_zoo(untrained) if untrained else {}
    models |= {(name, "untrained", number): model for (name, number), model in untrained.items()}
    batches = as_batches(loader, device=device_of(*models.values()))
    rows, shuffled, own = [], defaultdict(int), defaultdict(int)
    kernels = lambda x: Pieces.of(KERNELS[kernel](x))  # noqa: E731
    for number, (batch, seen) in enumerate(looked_at(models, batches, layers, kernels, pool=pool, progress=progress)):
        names = {key: list(of_layers) for key, of_layers in seen.items()}
        pieces = {key: Pieces.stack(list(seen.pop(key).values())) for key in models} | _references(batch, kernels)
        names |= {LABELS: ["labels"], INPUTS: ["inputs"]}
        each = [f"layer {layer}" for of_layers in names.values() for layer in of_layers]
        check_finite(each, [total for part in pieces.values() for total in part.rows + part.diagonal])
        settings = dict(batch=number, n=len(batch.labels), kernel=kernel, unbiased=None, pool=pool or "none")
        for unbiased in estimators:
            found = _on_host(_hsic(pieces, unbiased))
            rows.append(_rows(found, names, settings | dict(unbiased=unbiased)))
            if n_permutations and unbiased == estimators[0]:
                orders = uniform(batch.sample_ids, seed, Stream.PERMUTATION, draws=n_permutations).argsort(0).T
                for pair, values in _on_host(_shuffled_hsic(pieces, orders, unbiased)).items():
                    shuffled[pair] += values
                for key in pieces:
                    own[key] += found[key]
    return with_keys(pd.concat(rows, ignore_index=True)), with_keys(_null_table(shuffled, own, n_permutations))


def _references(batch: Batch, kernels: Callable) -> dict[tuple[str, str, int], Pieces]:
    """What networks are compared with besides each other: a kernel that is 1 within a class, and that of the pixels."""
    pixels = batch.pixels if isinstance(batch.pixels, torch.Tensor) else next(iter(batch.pixels.values()))
    same_class = (batch.labels[:, None] == batch.labels).double()
    return {LABELS: Pieces.of(same_class), INPUTS: kernels(as_matrix(pixels))}


def _hsic(pieces: Mapping[tuple, Pieces], unbiased: bool) -> dict[tuple, Tensor]:
    """HSIC of all layers of two networks, (a, b) -> [l, m], and of those of each with themselves, a -> [l]."""
    found = {key: part.own_hsic(unbiased=unbiased) for key, part in pieces.items()}
    return found | {(a, b): pieces[a].hsic(pieces[b], unbiased=unbiased) for a, b in _pairs(pieces)}


def _pairs(networks: Iterable[tuple[str, str, int]]) -> list[tuple[tuple, tuple]]:
    """All two that say something together: what training changed is told within one kind, or from a network itself."""
    apart = {"trained", "untrained"}
    pairs = combinations_with_replacement(networks, 2)
    return [(a, b) for a, b in pairs if a[0] == b[0] or {a[1], b[1]} != apart]


def _shuffled_hsic(
    pieces: Mapping[tuple, Pieces], orders: Int[Tensor, "p n"], unbiased: bool
) -> dict[tuple[tuple, tuple], Tensor]:
    """HSIC of two trained networks, or of one and the labels, b's images in each order: (a, b) -> [p, l, m]."""
    pairs = [
        pair for pair in combinations(pieces, 2) if pair[0][1] == "trained" and pair[1][1] in ("trained", "labels")
    ]
    found = {}
    for b in dict.fromkeys(b for _, b in pairs):
        others = [a for a, other in pairs if other == b]
        stacked, counts = Pieces.stack([pieces[a] for a in others]), [len(pieces[a].rows) for a in others]
        n_layers, at_once = len(pieces[b].rows), max(1, VALUES_AT_ONCE // pieces[b].triangle.numel())
        parts = [
            stacked.hsic(pieces[b].permuted(some), unbiased=unbiased).view(-1, n_layers, len(some))
            for some in orders.split(at_once)
        ]
        of_each = torch.cat(parts, 2).permute(2, 0, 1).split(counts, 1)
        found |= {(a, b): values for a, values in zip(others, of_each, strict=True)}
    return found


def _on_host(found: Mapping[tuple, Tensor]) -> dict[tuple, np.ndarray]:
    """The same arrays, for which the device is waited for once."""
    flat = torch.cat([values.flatten() for values in found.values()]).cpu().numpy()
    ends = np.cumsum([values.numel() for values in found.values()])
    parts = np.split(flat, ends[:-1])
    return {key: part.reshape(values.shape) for (key, values), part in zip(found.items(), parts, strict=True)}


def _null_table(shuffled: Mapping, own: Mapping, n_permutations: int) -> pd.DataFrame:
    """The largest CKA of any pair of layers for each shuffle, from HSIC summed over minibatches."""
    sides = [*NETWORK_A, *NETWORK_B]
    parts = [pd.DataFrame(columns=[*sides, "permutation", "largest"])] * (not shuffled)
    for (a, b), cross in shuffled.items():
        largest = np.fmax.reduce(ratio(cross, own[a][:, None], own[b]), axis=(1, 2))  # NaN where all are
        part = dict(zip(sides, (*a, *b), strict=True)) | dict(permutation=range(n_permutations), largest=largest)
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def cka_matrix(
    model_a: nn.Module,
    model_b: nn.Module,
    loader: Iterable,
    *,
    layers_a: object = None,
    layers_b: object = None,
    loader_b: Iterable | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    **options,
) -> pd.DataFrame:
    """CKA of every chosen layer of a with every one of b, on the loader's images; one row per pair of layers.

    loader, and the options kernel, unbiased, pool and progress: as of `hsic_table`.  layers_a, layers_b: as
    `choose_layers` has them.  loader_b: the same images in another form.  A model that meets itself is passed through
    once.
    Columns: model_a, layer_a, index_a, depth_a (0 to 1), the same for b, cka, low, high (bootstrap over minibatches;
    NaN for fewer than 2), n (images), batches, kernel, unbiased, pool.  NaN where a layer does not vary.
    Raises ValueError as `hsic_table` does, and for loaders whose order differs.
    """
    layers_b = layers_a if model_a is model_b and layers_b is None else layers_b
    loader = as_batches(loader, device=device_of(model_a))
    other = "a" if model_a is model_b and layers_b == layers_a and loader_b is None else "b"
    networks, layers = {("a", 0): model_a, (other, 0): model_b}, {"a": layers_a, other: layers_b}
    if loader_b is not None:
        both = _side_by_side(loader, as_batches(loader_b, device=device_of(model_b)))
        loader = Batches(both, n_images=count_images(loader))
    hsic, _ = hsic_table(networks, loader, layers=layers, **options)
    hsic = hsic[(hsic["model_a"] == "a") & (hsic["model_b"] == other)]
    names = [getattr(model, "name", "") or type(model).__name__ for model in (model_a, model_b)]
    hsic = hsic.assign(model_a=names[0], model_b=names[1])
    table = cka_table(hsic, n_resamples=n_resamples, level=level, seed=seed)
    return table.drop(columns=["kind_a", "seed_a", "kind_b", "seed_b"])


def merge(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One table of HSIC from those of parts of the images, whose minibatches are numbered on.

    Raises ValueError for parts of other networks, layers or settings.
    """
    numbered, expected, first = [], None, 0
    for part in parts:
        keys = set(part.drop(columns=["batch", "n", "cross", "own_a", "own_b"]).itertuples(index=False, name=None))
        if keys != (expected or keys):
            raise ValueError("cannot merge HSIC of different networks, layers or settings")
        numbered.append(part.assign(batch=part["batch"] + first))
        expected, first = keys, first + part["batch"].max() + 1
    return pd.concat(numbered, ignore_index=True)


def with_keys(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns that results are put together by: condition, "untrained" where one of the two networks
    is and else "trained"; model and model_seed, those of side a."""
    random = (table[["kind_a", "kind_b"]] == "untrained").any(axis=1)
    condition = np.where(random, "untrained", "trained")
    return table.assign(condition=condition, model=table["model_a"], model_seed=table["seed_a"])


def _side_by_side(loader: Iterable[Batch], loader_b: Iterable[Batch]) -> Iterator[Batch]:
    for one, other in zip(loader, loader_b, strict=True):
        if not torch.equal(one.sample_ids.cpu(), other.sample_ids.cpu()):
            raise ValueError("the two loaders give different images or another order; CKA pairs them row by row")
        yield one._replace(pixels={"a": one.pixels, "b": other.pixels})


def _estimators(kernel: str, unbiased: bool | str, pool: str | None) -> list[bool]:
    for value, known, what in ((kernel, KERNELS, "kernel"), (pool, {None: None} | POOLS, "pool")):
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}; choose from {', '.join(map(str, known))}")
    if unbiased not in (True, False, "both"):
        raise ValueError(f"unbiased must be True, False or 'both', not {unbiased!r}")
    return [True, False] if unbiased == "both" else [bool(unbiased)]


def _rows(found: Mapping[tuple, np.ndarray], names: Mapping[tuple, list[str]], settings: dict) -> pd.DataFrame:
    """The rows of all pairs of networks; found: of `_hsic`."""
    parts = []
    for a, b in _pairs(names):
        i, j = (grid.ravel() for grid in np.indices(found[a, b].shape))
        sides = [np.full(len(i), value, object) for value in (*a, *b)]
        values = (*sides[:3], np.array(names[a], object)[i], i, *sides[3:], np.array(names[b], object)[j], j)
        parts.append((*values, found[a, b].ravel(), found[a][i], found[b][j]))
    names = [*SIDE_A, *SIDE_B, "cross", "own_a", "own_b"]
    columns = {name: np.concatenate(values) for name, *values in zip(names, *parts, strict=True)}
    return pd.DataFrame(columns | settings).astype({"seed_a": int, "seed_b": int})
