"""Which layers of a network are looked at, by pattern or by kind, in the order in which they run."""

from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

# for each kind of block what stands for a stage of the computation: the report's choice by name
CHOICES = {
    "blocks": (
        "*blocks.[0-9]",
        "*blocks.[0-9][0-9]",
        "*layer[0-9].[0-9]",
        "*linear_in",
        "conv1",
        "net.conv1",
        "*patch_embed",
    ),
    "leaves": ("*",),
}


@torch.no_grad()
def layer_names(model: nn.Module, pixels: Tensor) -> list[str]:
    """Names of all modules that give one tensor when `model` sees `pixels`, in the order in which they end.

    A module that runs several times stands where it first ended. Modules that never run are left out.
    """
    order: dict[str, None] = {}

    def note(name: str, out: object) -> None:
        if _is_batch(out, pixels):
            order.setdefault(name)

    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: note(name, out))
        for name, module in model.named_modules()
        if name
    ]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        model(pixels)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return list(order)


def choose_layers(model: nn.Module, pixels: Tensor, layers: str | type | list[str] | None = None) -> list[str]:
    """Layers by name, in execution order.

    layers: "blocks" (also None: the stem and every block of the study's networks), "leaves" (modules without parts), a
    glob pattern or a list of them, or a module type such as nn.Conv2d.  Raises ValueError, with names there are, when
    a pattern matches nothing that runs.
    """
    run = layer_names(model, pixels)
    modules = dict(model.named_modules())
    if isinstance(layers, type):
        found = [name for name in run if isinstance(modules[name], layers)]
        if not found:
            raise ValueError(f"no {layers.__name__} runs in {type(model).__name__}")
        return found
    if layers == "leaves":
        return [name for name in run if not any(modules[name].children())]
    named = layers in (None, "blocks")
    patterns = CHOICES["blocks"] if named else [layers] if isinstance(layers, str) else list(layers)
    found = [name for name in run if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for pattern in patterns:
        if not named and not any(fnmatchcase(name, pattern) for name in run):
            raise ValueError(f"no layer that runs matches {pattern!r}; there are, among others, {', '.join(run[:8])}")
    if not found:
        raise ValueError(f"{type(model).__name__} has no blocks of a known name; choose among {', '.join(run[:8])}")
    return found


def _is_batch(out: object, pixels: Tensor) -> bool:
    return isinstance(out, Tensor) and out.ndim > 1 and len(out) == len(pixels)
