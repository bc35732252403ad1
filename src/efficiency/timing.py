"""How long a prediction takes: warmed up, synchronised, every repeat kept, contenders in turns of random order."""

import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.efficiency.variants import Runner, prepare
from src.models.access import frozen


def interleaved(
    contenders: dict[str, Callable[[], object]],
    *,
    n_repeats: int = 30,
    n_warmup: int = 10,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> pd.DataFrame:
    """Time calls in turns: every repeat runs each contender once, in an order drawn anew, so that drift hits all alike.

    Returns one row per contender and repeat: name, repeat, position (in that repeat's order), ms.  The device is
    waited for before and after each call; on a GPU the time is that between two events on its stream.  Warm-up calls
    are not in the table. Raises ValueError for fewer than 2 repeats or no warm-up.
    """
    if n_repeats < 2 or n_warmup < 1:
        raise ValueError(f"take at least 2 repeats and 1 warm-up, not {n_repeats} and {n_warmup}")
    device, rng, rows = torch.device(device), np.random.default_rng(seed), []
    names = list(contenders)
    with torch.inference_mode():
        for name in names:
            for _ in range(n_warmup):
                contenders[name]()
        for repeat in range(n_repeats):
            for position, name in enumerate(rng.permutation(names)):
                rows.append(
                    dict(name=name, repeat=repeat, position=position, ms=_milliseconds(contenders[name], device))
                )
    return pd.DataFrame(rows)


def _milliseconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    synchronise(device)
    begin = time.perf_counter_ns()
    call()
    synchronise(device)
    return (time.perf_counter_ns() - begin) / 1e6


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def _threads(n: int):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_inference(
    models: dict[str, Callable[[], nn.Module]],
    pixels: Float[Tensor, "n c h w"],
    *,
    variants: Iterable[str] = ("eager",),
    threads: Iterable[int] | None = None,
    n_repeats: int = 30,
    n_warmup: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Time one batch through every model in every variant and thread count, interleaved within a thread count.

    models: name -> builder, as each variant gets a model of its own.  pixels: the batch, on the device already: neither
    loading nor copying is timed.  threads: of the CPU; None for what is set.
    Columns: model, condition (the variant), threads, batch_size, repeat, position, ms.
    """
    contenders: dict[str, Runner] = {}
    keys = [(name, variant) for name in models for variant in variants]
    for name, variant in keys:
        contenders[f"{name}\n{variant}"] = prepare(models[name]().to(pixels.device), pixels, variant)
    parts = []
    for n_threads in threads or (torch.get_num_threads(),):
        options = dict(n_repeats=n_repeats, n_warmup=n_warmup, device=pixels.device, seed=seed)
        with _threads(n_threads):
            parts.append(interleaved(contenders, **options).assign(threads=n_threads))
    table = pd.concat(parts, ignore_index=True)
    table[["model", "condition"]] = table.pop("name").str.split("\n", expand=True).to_numpy()
    return table.assign(batch_size=len(pixels))


def throughput(
    models: dict[str, Callable[[], nn.Module]],
    pixels: Float[Tensor, "n c h w"],
    *,
    batch_sizes: Iterable[int] = (1, 4, 16, 64, 256),
    gain: float = 0.05,
    **options,
) -> pd.DataFrame:
    """`time_inference` over growing batches, a model leaving once a batch brings it less than `gain` more images/s.

    pixels: as many images as the largest batch.  Columns as of `time_inference`, and images_per_s.
    """
    left, best, parts = dict(models), dict.fromkeys(models, 0.0), []
    for size in sorted(batch_sizes):
        if size > len(pixels):
            raise ValueError(f"a batch of {size} was asked for, and only {len(pixels)} images given")
        part = time_inference(left, pixels[:size].clone(), **options)
        parts.append(part.assign(images_per_s=1e3 * size / part["ms"]))
        rates = parts[-1].groupby("model")["images_per_s"].median()
        left = {name: build for name, build in left.items() if rates[name] > (1 + gain) * best[name]}
        best = {name: max(best[name], rates.get(name, 0.0)) for name in best}
        if not left:
            break
    return pd.concat(parts, ignore_index=True)


def time_blocks(
    model: nn.Module, pixels: Float[Tensor, "n c h w"], *, n_repeats: int = 20, n_warmup: int = 5
) -> pd.DataFrame:
    """Where the time of a forward pass goes: one row per block and repeat, columns block, order, repeat, ms.

    Blocks are the parts of `model.net` (or of the model) that run one after the other, long sequences of them (the
    stages of a ResNet, the blocks of a ViT) taken apart.  The device is waited for around each, which costs a little.
    """
    net, device = getattr(model, "net", model), pixels.device
    blocks = {
        name: part
        for name, child in net.named_children()
        for name, part in (
            [(f"{name}.{i}", part) for i, part in enumerate(child)]
            if isinstance(child, nn.Sequential | nn.ModuleList) and len(child)
            else [(name, child)]
        )
        if not isinstance(part, nn.Identity)
    }
    started, rows, handles = {}, [], []

    def before(name: str):
        def hook(*_):
            synchronise(device)
            started[name] = time.perf_counter_ns()

        return hook

    def after(name: str):
        def hook(*_):
            synchronise(device)
            rows.append(dict(block=name, ms=(time.perf_counter_ns() - started[name]) / 1e6))

        return hook

    order, parts = {name: place for place, name in enumerate(blocks)}, []
    try:
        for name, part in blocks.items():
            handles += [part.register_forward_pre_hook(before(name)), part.register_forward_hook(after(name))]
        with frozen(model), torch.inference_mode():
            for repeat in range(n_warmup + n_repeats):
                rows.clear()
                model(pixels)
                if repeat >= n_warmup:  # a block that runs twice counts with both
                    parts.append(pd.DataFrame(rows).assign(repeat=repeat - n_warmup))
    finally:
        for handle in handles:
            handle.remove()
    table = pd.concat(parts).groupby(["block", "repeat"], as_index=False)["ms"].sum()
    return table.assign(order=table["block"].map(order)).sort_values(["repeat", "order"], ignore_index=True)


def time_loading(loader: Iterable, *, n_batches: int = 5, device: torch.device | str = "cpu") -> pd.DataFrame:
    """What comes before the model: one row per batch, columns batch, n, ms, the first batch with what it sets up."""
    device, rows = torch.device(device), []
    batches = iter(loader)
    for number in range(n_batches):
        synchronise(device)
        begin = time.perf_counter_ns()
        batch = next(batches, None)
        synchronise(device)
        if batch is None:
            break
        rows.append(dict(batch=number, n=len(batch[0]), ms=(time.perf_counter_ns() - begin) / 1e6))
    return pd.DataFrame(rows)
