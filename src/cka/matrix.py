"""CKA of every layer of one network with every layer of another, in one pass whose memory does not grow."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.cka.direct import KERNELS, Pieces, check_activations
from src.cka.layers import choose_layers

# name -> activations -> what the kernel is made of: another measure, and named so in the table
POOLS = {
    "spatial mean": lambda x: x.flatten(2).mean(2) if x.ndim == 4 else x,
    "token mean": lambda x: x.mean(1) if x.ndim == 3 else x,
    "class token": lambda x: x[:, 0] if x.ndim == 3 else x,
}


@dataclass
class Accumulator:
    """HSIC of each minibatch: cross [b, layers a, layers b], own_a [b, layers a], own_b [b, layers b], n [b].

    The mean over minibatches of the unbiased estimate is unbiased itself (Nguyen et al. 2021); kept one by one, they
    give a bootstrap interval for nothing, and runs on parts of the images add up by `merge`.
    """

    layers_a: list[str]
    layers_b: list[str]
    settings: dict
    cross: list[np.ndarray] = field(default_factory=list)
    own_a: list[np.ndarray] = field(default_factory=list)
    own_b: list[np.ndarray] = field(default_factory=list)
    n: list[int] = field(default_factory=list)


def merge(parts: Iterable[Accumulator]) -> Accumulator:
    """One accumulator of all minibatches. Raises ValueError for parts of other layers or settings."""
    first, *rest = parts
    merged = Accumulator(first.layers_a, first.layers_b, first.settings)
    for part in (first, *rest):
        same = (part.layers_a, part.layers_b, part.settings) == (first.layers_a, first.layers_b, first.settings)
        if not same:
            raise ValueError(f"cannot merge accumulators of different layers or settings: {part.settings}")
        for name in ("cross", "own_a", "own_b", "n"):
            getattr(merged, name).extend(getattr(part, name))
    return merged


def accumulate(
    model_a: nn.Module,
    model_b: nn.Module,
    loader: Iterable,
    *,
    layers_a=None,
    layers_b=None,
    kernel: str = "linear",
    unbiased: bool = True,
    pool: str | None = None,
    loader_b: Iterable | None = None,
    progress: str | None = None,
) -> Accumulator:
    """Look at the loader's minibatches with both models; see `cka_matrix`."""
    if kernel not in KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}; choose from {', '.join(KERNELS)}")
    if pool is not None and pool not in POOLS:
        raise ValueError(f"unknown pool {pool!r}; choose from {', '.join(POOLS)}, or None")
    done, alike = None, model_a is model_b and loader_b is None
    pairs = ((batch, batch) for batch in loader) if loader_b is None else zip(loader, loader_b, strict=True)
    for batch_a, batch_b in tqdm(pairs, desc=progress, disable=progress is None, leave=False):
        if not torch.equal(batch_a.sample_ids.cpu(), batch_b.sample_ids.cpu()):
            raise ValueError("the two loaders give different images or another order; CKA pairs them row by row")
        if done is None:
            names_a = choose_layers(model_a, batch_a.pixels[:2], layers_a)
            asked_b = layers_a if alike and layers_b is None else layers_b
            names_b = choose_layers(model_b, batch_b.pixels[:2], asked_b)
            done = Accumulator(names_a, names_b, dict(kernel=kernel, unbiased=unbiased, pool=pool))
        shared = alike and done.layers_a == done.layers_b
        a = pieces_of(model_a, batch_a.pixels, done.layers_a, kernel, unbiased, pool)
        b = a if shared else pieces_of(model_b, batch_b.pixels, done.layers_b, kernel, unbiased, pool)
        done.cross.append(a.hsic(b).cpu().numpy())
        done.own_a.append(a.own_hsic().cpu().numpy())
        done.own_b.append(b.own_hsic().cpu().numpy())
        done.n.append(len(batch_a.pixels))
    if done is None:
        raise ValueError("the loader gave no batch")
    return done


@torch.no_grad()
def pieces_of(
    model: nn.Module, pixels: Tensor, layers: list[str], kernel: str, unbiased: bool, pool: str | None
) -> Pieces:
    """Of every layer. Kernels are made in the hooks: activations die at once and no later operation can spoil them."""
    found: dict[str, Pieces] = {}
    last: tuple[Tensor, int, Pieces] | None = None

    def look(name: str, out: Tensor) -> None:
        nonlocal last
        if name in found:  # a layer that runs again: its first output counts
            return
        # what an Identity, or the block around a layer, passes on as it is was looked at a moment ago; an operation in
        # place gives the same tensor back too, with another version
        if last is None or last[0] is not out or last[1] != out._version:
            x = check_activations(POOLS[pool](out) if pool else out, f"layer {name}")
            last = out, out._version, Pieces.of(KERNELS[kernel](x), unbiased=unbiased)
        found[name] = last[2]

    with _hooked(model, layers, look):
        model(pixels)
    missing = [name for name in layers if name not in found]
    if missing:
        raise ValueError(f"layer {missing[0]} gave no tensor in this pass")
    return Pieces.stack([found[name] for name in layers])


@contextmanager
def _hooked(model: nn.Module, layers: list[str], look) -> Iterator[None]:
    """Eval mode and hooks for the time of a pass; modes and hooks are as before, also when it fails."""
    modes, handles = [(module, module.training) for module in model.modules()], []
    modules = dict(model.named_modules())
    try:
        model.eval()
        for name in layers:
            handles.append(modules[name].register_forward_hook(lambda _, __, out, name=name: look(name, out)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode


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
    options: layers_a, layers_b (see `choose_layers`), kernel ("linear", "rbf", "cosine"), unbiased, pool ("spatial
    mean", "token mean", "class token": another measure), loader_b (the same images in another form), progress.
    Columns: layer_a, index_a, depth_a (0 to 1), layer_b, index_b, depth_b, cka, low, high (bootstrap over minibatches;
    NaN for fewer than 2), n (images), batches, kernel, unbiased, pool.
    Raises ValueError for a layer that gives no tensor or one that is not finite, by name, and for loaders whose order
    differs. NaN where a layer does not vary.
    """
    return table_of(accumulate(model_a, model_b, loader, **options), n_resamples=n_resamples, level=level, seed=seed)


def table_of(done: Accumulator, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """The table of `cka_matrix` from what was accumulated."""
    cross, own_a, own_b = (np.stack(values) for values in (done.cross, done.own_a, done.own_b))
    n_batches = len(cross)
    weights = np.random.default_rng(seed).multinomial(n_batches, np.full(n_batches, 1 / n_batches), size=n_resamples)
    cka = _ratio(cross.mean(0), own_a.mean(0), own_b.mean(0))
    low = high = np.full_like(cka, np.nan)
    if n_batches > 1:
        drawn = [_ratio(np.tensordot(row, cross, 1), row @ own_a, row @ own_b) for row in weights / n_batches]
        low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2), axis=0)
    index_a, index_b = (grid.ravel() for grid in np.indices(cka.shape))
    names_a, names_b = np.array(done.layers_a), np.array(done.layers_b)
    return pd.DataFrame(
        {
            "layer_a": names_a[index_a],
            "index_a": index_a,
            "depth_a": index_a / max(len(names_a) - 1, 1),
            "layer_b": names_b[index_b],
            "index_b": index_b,
            "depth_b": index_b / max(len(names_b) - 1, 1),
            "cka": cka.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
            "n": sum(done.n),
            "batches": n_batches,
        }
    ).assign(**done.settings)


def _ratio(cross: np.ndarray, own_a: np.ndarray, own_b: np.ndarray) -> np.ndarray:
    """HSIC over the root of the product of both own ones; NaN where one of them is not above 0."""
    product = own_a[:, None] * own_b
    inside = (own_a[:, None] > 0) & (own_b > 0)
    return np.where(inside, cross / np.sqrt(np.where(inside, product, 1)), np.nan)
