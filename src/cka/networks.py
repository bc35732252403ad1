"""HSIC of all layers of many networks with each other, with the labels, and under shuffled images: one pass for all."""

from collections.abc import Iterable, Mapping
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.cka.direct import KERNELS, Pieces, linear_kernel
from src.cka.layers import choose_layers
from src.cka.matrix import POOLS, pieces_of
from src.seeding import uniform

LABELS = "labels"  # the network whose one layer says the class
_SHUFFLE = 51  # what a random number is for


def hsic_table(
    networks: Mapping[tuple[str, int], nn.Module],
    loader: Iterable,
    *,
    layers: Mapping[str, object] | None = None,
    kernel: str = "linear",
    unbiased: bool = True,
    pool: str | None = None,
    n_permutations: int = 0,
    seed: int = 0,
    progress: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """HSIC of each minibatch between all layers of all networks, for `similarity.cka_table`; and its null.

    networks: (name, training seed) -> model.  loader: batches of at least 4 images; each model resizes as it needs.
    layers: name -> choice (see `choose_layers`).  The labels' kernel, 1 for images of one class, is one more network.
    Rows: model_a, seed_a, layer_a, index_a, the same for b, batch, n, cross, own_a, own_b, for each pair of networks
    once, in the order given, and each with itself.
    Null, for each pair of different networks: model_a, seed_a, model_b, seed_b, permutation, largest: the largest CKA
    of any pair of layers when the second network's images are shuffled within every minibatch, so that a CKA above its
    95 % point is significant for all layers together (Westfall & Young 1993).
    Raises ValueError as `cka_matrix` does.
    """
    for value, known, what in ((kernel, KERNELS, "kernel"), (pool, {None: None} | POOLS, "pool")):
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}; choose from {', '.join(map(str, known))}")
    if any(name == LABELS for name, _ in networks):
        raise ValueError(f"{LABELS!r} stands for the labels; call the network another name")
    names: dict[tuple[str, int], list[str]] = {}
    rows, shuffled, own = [], {}, {}
    for number, batch in enumerate(tqdm(loader, desc=progress, disable=progress is None, leave=False)):
        pieces = {}
        for key, model in networks.items():
            if key not in names:
                names[key] = choose_layers(model, batch.pixels[:2], (layers or {}).get(key[0]))
            pieces[key] = pieces_of(model, batch.pixels, names[key], kernel, unbiased, pool)
        names[LABELS, 0] = [LABELS]
        pieces[LABELS, 0] = Pieces.of(linear_kernel(F.one_hot(batch.labels.long()).double()), unbiased=unbiased)
        alone = {key: part.own_hsic().cpu().numpy() for key, part in pieces.items()}
        for key, values in alone.items():
            own[key] = own.get(key, 0) + values
        orders = _orders(batch.sample_ids, n_permutations, seed)
        for a, b in combinations_with_replacement(pieces, 2):
            cross = pieces[a].hsic(pieces[b]).cpu().numpy()
            rows.append(
                _rows(a, names[a], b, names[b], cross, alone[a], alone[b]).assign(batch=number, n=len(batch.pixels))
            )
            if a != b and n_permutations:
                found = [pieces[a].hsic(pieces[b].permuted(order)).cpu().numpy() for order in orders]
                shuffled[a, b] = shuffled.get((a, b), 0) + np.stack(found)
    if not rows:
        raise ValueError("the loader gave no batch")
    null = [
        pd.DataFrame(dict(permutation=range(n_permutations), largest=_largest(cross, own[a], own[b]))).assign(
            model_a=a[0], seed_a=a[1], model_b=b[0], seed_b=b[1]
        )
        for (a, b), cross in shuffled.items()
    ]
    columns = ["model_a", "seed_a", "model_b", "seed_b", "permutation", "largest"]
    return pd.concat(rows, ignore_index=True), pd.concat(null)[columns] if null else pd.DataFrame(columns=columns)


def _rows(a: tuple, layers_a: list[str], b: tuple, layers_b: list[str], cross, own_a, own_b) -> pd.DataFrame:
    i, j = (grid.ravel() for grid in np.indices(cross.shape))
    sides = [
        {f"model_{side}": key[0], f"seed_{side}": key[1], f"layer_{side}": np.array(layers)[k], f"index_{side}": k}
        for side, key, layers, k in (("a", a, layers_a, i), ("b", b, layers_b, j))
    ]
    return pd.DataFrame(sides[0] | sides[1] | dict(cross=cross.ravel(), own_a=own_a[i], own_b=own_b[j]))


def _orders(sample_ids: Tensor, n: int, seed: int) -> list[Tensor]:
    """Orders of the images of a batch, drawn from (seed, sample id) like all that is random."""
    return list(uniform(sample_ids, seed, _SHUFFLE, draws=n).argsort(0).T) if n else []


def _largest(cross: np.ndarray, own_a: np.ndarray, own_b: np.ndarray) -> np.ndarray:
    """Of every permutation the largest CKA; layers that do not vary have none."""
    inside = (own_a[:, None] > 0) & (own_b > 0)
    cka = np.where(inside, cross / np.sqrt(np.where(inside, own_a[:, None] * own_b, 1)), np.nan)
    return np.nanmax(cka, axis=(1, 2))
