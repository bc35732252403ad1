"""Times of predictions: warmed up, synchronised, every repeat kept, contenders in turns of random order."""

import copy
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import contextmanager
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.data.inputs import bar
from src.efficiency.variants import prepare
from src.models.access import INPUT, as_zoo, hooked

LEAST = 3  # repeats in any case, however slow
# name, or (name, training seed) -> module, or a builder of it; each variant gets a model of its own
Builders = Mapping[str | tuple[str, int], nn.Module | Callable[[], nn.Module]]


def interleaved(
    contenders: dict[Hashable, Callable[[], object]],
    *,
    n_repeats: int = 30,
    n_warmup: int = 10,
    seconds: float = np.inf,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: bool | tqdm = True,
) -> pd.DataFrame:
    """Time calls in turns: every repeat runs each contender once, in an order drawn anew, so that drift hits all alike.

    seconds: once a contender has had LEAST repeats and this much time for them, none has more.
    Returns one row per contender and repeat: name (its key), repeat, position (in that repeat's order), ms.  The device
    is waited for before and after each call; on a GPU the time is that between two events on its stream.  Warm-up calls
    are not in the table.  progress: whether to show a bar of calls, or a caller's; it is moved between repeats.
    Raises ValueError for fewer than 2 repeats or no warm-up.
    """
    if n_repeats < 2 or n_warmup < 1:
        raise ValueError(f"take at least 2 repeats and 1 warm-up, not {n_repeats} and {n_warmup}")
    device, rng, rows, names = torch.device(device), np.random.default_rng(seed), [], list(contenders)
    spent = dict.fromkeys(names, 0.0)
    total = len(names) * (n_warmup + n_repeats)
    with torch.inference_mode(), bar("timings", total, progress, unit="call") as shown:
        for name in names:
            for _ in range(n_warmup):
                contenders[name]()
            shown.update(n_warmup)
        for repeat in range(n_repeats):
            shown.update(len(names))
            if repeat >= LEAST and max(spent.values()) >= 1e3 * seconds:
                continue
            for position, place in enumerate(rng.permutation(len(names))):
                ms = _milliseconds(contenders[names[place]], device)
                rows.append(dict(name=names[place], repeat=repeat, position=position, ms=ms))
                spent[names[place]] += ms
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
    models: Builders,
    pixels: Float[Tensor, "n c h w"],
    *,
    variants: Iterable[str] = ("eager",),
    threads: Iterable[int] | None = None,
    n_repeats: int = 30,
    n_warmup: int = 10,
    seconds: float = np.inf,
    seed: int = 0,
    progress: bool | tqdm = True,
) -> pd.DataFrame:
    """Time one batch through every model in every variant and thread count, interleaved within a thread count.

    models: name, or (name, training seed) -> module, or a function without arguments that builds it.
    pixels: the batch, on the device already: neither loading nor copying is timed.  threads: of the CPU; None for what
    is set.  n_repeats, n_warmup, seconds, seed, progress: as of `interleaved`.
    Columns: model, model_seed, condition (the variant), threads, batch_size, repeat, position, ms.
    """
    contenders = {
        (*key, variant): prepare(build().to(pixels.device), pixels, variant)
        for key, build in _builders(models).items()
        for variant in variants
    }
    parts, threads = [], tuple(threads or (torch.get_num_threads(),))
    options, total = dict(n_repeats=n_repeats, n_warmup=n_warmup, seed=seed), len(contenders) * (n_repeats + n_warmup)
    options |= dict(seconds=seconds)
    with bar("timings", total, progress, times=len(threads), unit="call") as shown:
        for n_threads in threads:
            with _threads(n_threads):
                part = interleaved(contenders, device=pixels.device, progress=shown, **options)
            parts.append(part.assign(threads=n_threads))
    table = pd.concat(parts, ignore_index=True)
    table[["model", "model_seed", "condition"]] = table.pop("name").tolist()
    return table.assign(batch_size=len(pixels))


def _builders(models: Builders) -> dict[tuple[str, int], Callable[[], nn.Module]]:
    zoo = as_zoo(models, kind=Callable)
    return {key: partial(copy.deepcopy, of) if isinstance(of, nn.Module) else of for key, of in zoo.items()}


def throughput(
    models: Builders,
    pixels: Float[Tensor, "n c h w"],
    *,
    batch_sizes: Iterable[int] = (1, 4, 16, 64, 256),
    gain: float = 0.05,
    longest: float = 1.0,
    n_repeats: int = 30,
    n_warmup: int = 10,
    seconds: float = np.inf,
    seed: int = 0,
    progress: bool | tqdm = True,
) -> pd.DataFrame:
    """`time_inference` over growing batches, a model leaving once a batch brings it less than `gain` more images/s.

    It leaves, too, before a batch that by the time of the last one would take longer than `longest` seconds.
    pixels: as many images as the largest batch.  Other arguments and columns as of `time_inference`, and images_per_s.
    """
    left, sizes, parts = _builders(models), sorted(batch_sizes), []
    best, n_calls = dict.fromkeys(left, 0.0), n_repeats + n_warmup
    if sizes[-1] > len(pixels):
        raise ValueError(f"a batch of {sizes[-1]} was asked for, and only {len(pixels)} images given")
    with bar("throughput", len(left) * n_calls, progress, times=len(sizes), unit="call") as shown:
        options = dict(n_repeats=n_repeats, n_warmup=n_warmup, seconds=seconds, seed=seed, progress=shown)
        for size, larger in zip(sizes, [*sizes[1:], np.inf], strict=True):
            shown.update((len(best) - len(left)) * n_calls)
            if left:
                part = time_inference(left, pixels[:size].clone(), **options)
                parts.append(part.assign(images_per_s=1e3 * size / part["ms"]))
                rates = parts[-1].groupby(["model", "model_seed"])["images_per_s"].median()
                worth = (rates > (1 + gain) * pd.Series(best)[rates.index]) & (larger / rates <= longest)
                left = {key: build for key, build in left.items() if worth[key]}
                best = {key: max(best[key], rates.get(key, 0.0)) for key in best}
    return pd.concat(parts, ignore_index=True)


def time_all(
    models: Builders,
    pixels: Float[Tensor, "n c h w"],
    *,
    others: Builders,
    variants: Iterable[str],
    threads: Iterable[int],
    batch_sizes: Iterable[int],
    n_repeats: int,
    n_warmup: int,
    seed: int,
    seconds: float = np.inf,
    progress: bool = True,
) -> pd.DataFrame:
    """Four sweeps in one table, by the column `sweep`; models, others and progress as of `time_inference`.

    Networks are built once, and copied.  seconds: of the repeats of each, as of `interleaved`, and the longest batch.

    latency: one image through models and others, on each number of threads where the device is the CPU.  alone: the
    same, one network after the other, which find in the caches what they left there.  variants: 16 images through the
    models in each variant.  batches: `throughput` of models and others, with a sixth of the repeats.
    """
    models, others = (
        {key: partial(copy.deepcopy, build()) for key, build in _builders(of).items()} if of else {}
        for of in (models, others)
    )
    variants, sizes, everyone = tuple(variants), tuple(batch_sizes), models | others
    threads = tuple(threads) if pixels.device.type == "cpu" else (torch.get_num_threads(),)
    options = dict(n_repeats=n_repeats, n_warmup=n_warmup, seconds=seconds, seed=seed)
    few = options | dict(n_repeats=max(n_repeats // 6, 3), n_warmup=1)
    n_calls = (2 * len(everyone) * len(threads) + len(models) * len(variants)) * (n_repeats + n_warmup)
    n_calls += len(everyone) * len(sizes) * (few["n_repeats"] + few["n_warmup"])
    with bar("timings", n_calls, progress, unit="call") as shown:
        sweeps = {
            "latency": time_inference(everyone, pixels[:1], threads=threads, progress=shown, **options),
            "alone": pd.concat(
                time_inference({key: build}, pixels[:1], threads=threads, progress=shown, **options)
                for key, build in everyone.items()
            ),
            "variants": time_inference(models, pixels[:16], variants=variants, progress=shown, **options),
            "batches": throughput(everyone, pixels, batch_sizes=sizes, longest=seconds, progress=shown, **few),
        }
    return pd.concat([part.assign(sweep=name) for name, part in sweeps.items()], ignore_index=True)


def time_blocks(
    model: nn.Module, pixels: Float[Tensor, "n c h w"], *, n_repeats: int = 20, n_warmup: int = 5
) -> pd.DataFrame:
    """Where the time of a forward pass goes: one row per block and repeat, columns block, order, repeat, ms.

    Blocks are the parts of `model.net` (or of the model) that run one after the other, long sequences of them (the
    stages of a ResNet, the blocks of a ViT) taken apart.  The device is waited for around each, which costs a little.
    A block that runs twice counts with both.
    """
    prefix, device = "net." if hasattr(model, "net") else "", pixels.device
    order = {name: place for place, name in enumerate(_blocks(getattr(model, "net", model)))}
    if not order:
        raise ValueError(f"{type(model).__name__} has no parts to time")
    started, rows, parts = {}, [], []

    def note(place: str, _: object) -> None:
        synchronise(device)
        now, name = time.perf_counter_ns(), place.removeprefix(prefix).removesuffix(INPUT)
        if place.endswith(INPUT):
            started[name] = now
        else:
            rows.append(dict(block=name, ms=(now - started[name]) / 1e6))

    places = [prefix + name + side for name in order for side in (INPUT, "")]
    with torch.inference_mode(), hooked(model, places, note):
        for repeat in range(-n_warmup, n_repeats):
            rows.clear()
            model(pixels)
            parts.append(pd.DataFrame(rows).assign(repeat=repeat))
    table = pd.concat(parts[n_warmup:]).groupby(["block", "repeat"], as_index=False)["ms"].sum()
    return table.assign(order=table["block"].map(order)).sort_values(["repeat", "order"], ignore_index=True)


def _blocks(net: nn.Module) -> list[str]:
    names = []
    for name, child in net.named_children():
        taken_apart = isinstance(child, nn.Sequential | nn.ModuleList) and len(child)
        names += [f"{name}.{part}" for part, _ in child.named_children()] if taken_apart else [name]
    return [name for name in names if not isinstance(net.get_submodule(name), nn.Identity)]


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
