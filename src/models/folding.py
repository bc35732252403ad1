"""BatchNorm in eval mode is a scale and a shift: folded into the convolution before it, it costs nothing."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from src.models.access import INPUT, forward, hooked

SAME = 1e-4  # of the largest logit: float32 leaves a hundredth of that; TF32 more, so that under it nothing is folded


@contextmanager
def folded(model: nn.Module) -> Iterator[nn.Module]:
    """The model, in eval mode, which computes the same sooner: from its first call on, BatchNorm is folded away.

    Folded is each nn.BatchNorm2d that is given just what an nn.Conv2d made, where both run once in a pass.  Logits and
    gradients of the pixels are the same but for rounding: those of the first images are compared, and a model that
    then says something else, or fails, is left as it is.  Afterwards all weights are as before, to the bit.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).eval()
    >>> with folded(net):
    ...     _ = net(torch.rand(1, 3, 8, 8))
    ...     print(type(net[1]).__name__)
    Identity
    >>> type(net[1]).__name__
    'BatchNorm2d'
    """
    with ExitStack() as undo:

        def fold(_, args: tuple) -> None:
            first.remove()
            _fold(model, args[0].detach()[:8], undo)

        if all(_candidates(model)):
            first = model.register_forward_pre_hook(fold)
            undo.callback(first.remove)
        yield model


def _candidates(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names of plain convolutions, and of BatchNorms that have statistics."""
    convs, norms = [], []
    for name, module in model.named_modules():
        if type(module) is nn.Conv2d and "weight" in module._parameters:  # not computed anew in each pass
            convs.append(name)
        if type(module) is nn.BatchNorm2d and module.track_running_stats:
            norms.append(name)
    return convs, norms


@torch.inference_mode(False)  # what is made here may be part of a backward pass later
@torch.no_grad()
def _fold(model: nn.Module, pixels: Float[Tensor, "n 3 h w"], undo: ExitStack) -> None:
    with torch.autocast(pixels.device.type, enabled=False), ExitStack() as undo_now:
        before, pairs = _pairs(model, pixels)
        if not pairs:
            return
        for conv, norm in pairs:
            _fold_pair(model, conv, norm, undo_now)
        try:
            after = forward(model, pixels)
        except Exception:  # its code looks for a part that is gone: it stays as it is
            return
        if bool((after - before).abs().max() <= SAME * before.abs().max()):
            undo.push(undo_now.pop_all())


def _pairs(model: nn.Module, pixels: Tensor) -> tuple[Tensor, list[tuple[str, str]]]:
    """Logits, and names of convolutions and of the BatchNorms that take their output, each run once."""
    (convs, norms), passed = _candidates(model), []
    with hooked(model, [*convs, *(name + INPUT for name in norms)], lambda *what: passed.append(what)):
        logits = forward(model, pixels)
    times = Counter(name for name, _ in passed)
    found = [(a, b) for (a, made), (b, taken) in pairwise(passed) if made is taken and times[a] == times[b] == 1]
    return logits, [(conv, norm.removesuffix(INPUT)) for conv, norm in found]


def _fold_pair(model: nn.Module, conv_name: str, norm_name: str, undo: ExitStack) -> None:
    conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
    undo.callback(model.set_submodule, norm_name, norm)
    undo.callback(conv.__setattr__, "weight", conv.weight)
    undo.callback(conv.__setattr__, "bias", conv.bias)
    statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
    conv.weight, conv.bias = weight.requires_grad_(False), bias.requires_grad_(False)
    model.set_submodule(norm_name, nn.Identity())
