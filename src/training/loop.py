"""Training that can be killed at any moment and goes on to bit-identical weights.

Everything random is a function of (seed, epoch, sample id) or lies in torch's generator, which the checkpoint holds, so
a resumed run repeats the uninterrupted one exactly on the CPU with the same number of threads.

Under `torchrun` every process takes its share of each batch; the loss curve is that of one process, but for rounding
and for draws from torch's generator, of which each process has its own: dropout, the starts of `fast_adversary`.
"""

import copy
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from src.data.augment import augment_pixels
from src.data.batches import Batch, MemoryLoader
from src.data.image_set import ImageSet
from src.data.loaders import make_loader
from src.files import fingerprint
from src.models.access import INPUT, hooked, memory_for
from src.models.checks import check_classifiers
from src.models.predict import logits_of, predict
from src.runs import hash_of
from src.runtime import tf32
from src.tables.statistics import hits
from src.training import checkpoints, distributed
from src.training.compiled import compiled
from src.training.optimisers import learning_rate, make_optimisers
from src.training.recipe import Recipe

CHECKPOINT_SECONDS = 60  # between checkpoints within an epoch; each epoch ends with one as well
NARROW = 16  # channels that oneDNN takes at once, at most; see `_strides_before_narrow_convolutions`


def train(
    model: nn.Module,
    train_set: ImageSet,
    recipe: Recipe,
    *,
    val_set: ImageSet | None = None,
    checkpoint_folder: Path | str | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Train all of `model` in place by `recipe`; return its history, one row per epoch.

    val_set: a held-out part of the training data, measured after each epoch; never the test split.
    checkpoint_folder: where the state is kept, after each epoch and every minute, and gone on from; see `checkpoints`.
    History columns: epoch, loss and accuracy (as trained: augmented, mixed), val_loss and val_accuracy, lr, seconds.
    Raises ValueError when several processes cannot share the batches, or on CPUs a network with BatchNorm.
    """
    device = distributed.join(device)
    model.to(device)
    options = dict(batch_size=recipe.batch_size, augment=recipe.augmentation() or False, seed=recipe.seed)
    loader = make_loader(train_set, shuffle=True, device=device, **options)
    loader.share_with(distributed.rank(), distributed.world_size())
    val_loader = make_loader(val_set, batch_size=500, device=device) if val_set else None
    return fit(model, loader, val_loader, recipe, checkpoint_folder=checkpoint_folder, progress=progress)


def fit(
    model: nn.Module,
    loader: MemoryLoader,
    val_loader: MemoryLoader | None,
    recipe: Recipe,
    *,
    checkpoint_folder,
    progress,
) -> pd.DataFrame:
    """The loop behind `train` and `fine_tune`: steps, checkpoints, validation, and the averaged weights at the end."""
    recipe = recipe.on(next(model.parameters()).device)
    _check_first(model, loader, recipe)
    replica = distributed.replicate(model)
    if recipe.compile:
        replica = compiled(replica)
    torch.manual_seed(recipe.seed + 1_000_003 * distributed.rank())  # dropout and the like
    n_steps = recipe.epochs * len(loader)
    optimisers = make_optimisers(model, recipe)
    parts = {"model": model} | {f"optimiser_{i}": optimiser for i, optimiser in enumerate(optimisers)}
    if recipe.ema:
        parts["average"] = copy.deepcopy(model).requires_grad_(False)
    identity = checkpoints.network_identity(model) | {"data": fingerprint(*loader.identity())}
    identity |= {"code": hash_of(Path(sys.modules[of.__module__].__file__) for of in CODE)}
    identity |= {"held_out": fingerprint(*val_loader.identity())} if val_loader else {}
    checkpoint = checkpoints.file_of(checkpoint_folder, asdict(recipe) | identity)
    state = checkpoints.restore(checkpoint, **parts)
    last_save = time.monotonic()

    hidden = not progress or distributed.rank() > 0
    bar = tqdm(total=n_steps, initial=state.epoch * len(loader) + state.step, disable=hidden)
    with bar, _strides_before_narrow_convolutions(model):
        while state.epoch < recipe.epochs:
            loader.epoch = state.epoch
            model.train()
            tick = time.monotonic()
            for batch in loader.batches(skip=state.step):
                step = state.epoch * len(loader) + state.step
                lr = learning_rate(recipe, step, n_steps)
                for group in (group for optimiser in optimisers for group in optimiser.param_groups):
                    group["lr"] = lr
                with memory_for(len(batch.labels)), tf32(recipe.dtype):
                    state.count(*_training_step(replica, optimisers, batch, recipe))
                if recipe.ema:
                    _update_average(parts["average"], model, recipe.ema, step)
                tick, spent = time.monotonic(), time.monotonic() - tick
                state.seconds += spent
                bar.update()
                bar.set_postfix(epoch=state.epoch + 1, **state.means(), refresh=False)
                due = torch.full((), float(tick - last_save > CHECKPOINT_SECONDS), device=batch.pixels.device)
                if distributed.total(due) > 0:  # in any process
                    checkpoints.save(checkpoint, state, **parts)
                    last_save = time.monotonic()
            lr = optimisers[0].param_groups[0]["lr"]  # of the last step, which a resumed run may not have taken itself
            state.finish_epoch(**_validate(parts.get("average", model), val_loader, progress=not hidden), lr=lr)
            checkpoints.save(checkpoint, state, **parts)
    if recipe.ema:
        model.load_state_dict(parts["average"].state_dict())
    model.eval()
    return pd.DataFrame(state.history)


def _check_first(model: nn.Module, loader: MemoryLoader, recipe: Recipe) -> None:
    """ValueError before the first step for what would end the training, or all that comes after it."""
    first = next(iter(loader))
    pixels, ids = first.pixels[:2], first.sample_ids[:2].cpu()
    check_classifiers({"": model}, pixels, torch.zeros_like(ids), ids, loader.n_classes)
    norms, narrow = [name for name, part in model.named_modules() if isinstance(part, _BatchNorm)], []
    if 1 in (recipe.batch_size, len(loader.labels) % recipe.batch_size):
        note = lambda name, x: narrow.append(name) if x[:1, 0].numel() == 1 else None  # noqa: E731
        with torch.no_grad(), hooked(model, [name + INPUT for name in norms], note):
            model(pixels)
    if narrow:
        raise ValueError(
            f"{len(loader.labels)} images in batches of {recipe.batch_size} leave one image alone, which BatchNorm "
            f"({narrow[0].removesuffix(INPUT)}) cannot take; take another batch_size"
        )


@contextmanager
def _strides_before_narrow_convolutions(model: nn.Module) -> Iterator[None]:
    """Within, a 1×1 convolution of few channels leaves pixels out before it, in place of its strides: the same result.

    For the gradient of its weights oneDNN 3.12, that of torch 2.14, writes beyond its memory where a CPU has AVX2 but
    not AVX-512 and images are channels-last: numbers that are wrong, or a crash (oneDNN's issue 6035).
    """
    strides, hooks = {}, []
    for layer in model.modules():
        bare = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.padding in ((0, 0), "valid")
        if bare and layer.stride != (1, 1) and layer.in_channels // layer.groups < NARROW:
            strides[layer], layer.stride = layer.stride, (1, 1)
            left = tuple(slice(None, None, step) for step in strides[layer])
            hooks.append(layer.register_forward_pre_hook(lambda _, given, left=left: (given[0][..., *left],)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, stride in strides.items():
            layer.stride = stride


def _training_step(
    model: nn.Module, optimisers: list[torch.optim.Optimizer], batch: Batch, recipe: Recipe
) -> tuple[float, int, int]:
    """One step; returns the loss, how many images were right (against the larger share of a mixed label), of how many.

    Of several processes each has part of the batch; loss and counts are of the whole.
    """
    pixels, n = batch.pixels, torch.full((), float(len(batch.labels)), device=batch.pixels.device)
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=recipe.dtype == "bfloat16"):
        if recipe.eps_255:
            bare = model.module if isinstance(model, DistributedDataParallel) else model
            pixels = fast_adversary(bare, pixels, batch.labels, eps=recipe.eps_255 / 255)
        logits = model(pixels).float()
    loss = F.cross_entropy(logits, batch.labels, label_smoothing=recipe.label_smoothing)
    labels = batch.labels if batch.labels.ndim == 1 else batch.labels.argmax(1)
    share = n / distributed.total(n.clone())  # of the batch, as the last may not divide
    model.zero_grad(set_to_none=True)
    (loss * share * distributed.world_size()).backward()  # the mean over processes is then that over images
    if recipe.gradient_clip:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
    for optimiser in optimisers:
        optimiser.step()
    measured = torch.stack([loss.detach() * share, (logits.argmax(1) == labels).sum(), n])
    loss, n_right, n = distributed.total(measured).tolist()  # one wait for the device a step
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss became {loss}; lower the learning rate ({recipe.lr})")
    return loss, int(n_right), int(n)


def fast_adversary(model: nn.Module, pixels: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    """One signed gradient step of 1.25 eps from a uniform start in the Linf ball, clipped to the ball and to [0, 1].

    Adversarial examples to train on, cheap and just strong enough; `src.attacks` has those to measure with.
    Source: Wong, Rice & Kolter 2020, "Fast is better than free", algorithm 3.
    """
    low, high = (pixels - eps).clamp(min=0), (pixels + eps).clamp(max=1)
    start = torch.lerp(low, high, torch.rand_like(pixels)).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(start).float(), labels), start)
    return (start.detach() + 1.25 * eps * gradient.sign()).clamp(low, high)


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of weights and buffers, with a shorter memory in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _validate(model: nn.Module, val_loader: MemoryLoader | None, *, progress: bool) -> dict[str, float]:
    if val_loader is None:
        return {}
    table = predict(model, val_loader, progress=progress)
    logits, labels = torch.tensor(logits_of(table)), torch.tensor(table["label"].to_numpy())
    return {"val_loss": F.cross_entropy(logits, labels).item(), "val_accuracy": float(hits(table).mean())}


# whose files a run must find as it left them, to go on: comments apart
CODE = (fit, make_optimisers, compiled, MemoryLoader, augment_pixels)
