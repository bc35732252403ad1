"""Layers of a network by name: the states of an image, leaves, patterns."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor, nn

from src.models.access import INPUT, hooked
from src.models.mlp import BottleneckMLP

# the stem and the residual blocks, by the names that the study's CNNs and transformers give them
BLOCKS = ("*blocks.[0-9]", "*blocks.[0-9][0-9]", "*layer[0-9].[0-9]", "conv1", "net.conv1", "*patch_embed")


def choose_layers(model: nn.Module, pixels: Tensor, layers: str | type | list[str] | None = None) -> list[str]:
    """Names of layers that give one tensor when `model` sees `pixels`, in the order in which they first end.

    layers: "blocks" (also None), the states an image goes through in one of the study's networks: what the stem gives
    and what every residual block leaves behind, skip included.  The blocks of the bottleneck MLP give only what they
    add, so its states are what goes into its LayerNorms and its last layer.  In a network that names its blocks in
    another way: what its parts give, sequences of them taken apart, but for the last.  Or "leaves" (modules without
    parts), a glob pattern or a list of them (with ":input" at its end, for what goes into a layer), or a module type
    such as nn.Conv2d.  Raises ValueError, with names there are, when a pattern matches nothing that runs.
    """
    order, modules, kind = _run_order(model, pixels), dict(model.named_modules()), type(model).__name__
    run = [name for name in order if not name.endswith(INPUT)]
    if layers == "leaves":
        return [name for name in run if not any(modules[name].children())]
    if isinstance(layers, type):
        chosen = {f"no {layers.__name__} runs in {kind}": [name for name in run if isinstance(modules[name], layers)]}
    elif layers in (None, "blocks"):
        known = _matching(order, _states_of_mlp(model) or BLOCKS)
        chosen = {f"{kind} has not two parts, one after the other": known or _matching(run, _parts(model))[:-1]}
    else:
        patterns = [layers] if isinstance(layers, str) else layers
        chosen = {f"no layer that runs matches {pattern!r}": _matching(order, [pattern]) for pattern in patterns}
    for problem, names in chosen.items():
        if not names:
            raise ValueError(f"{problem}; there are, among others, {', '.join(run[:8])}")
    return [name for name in order if any(name in names for names in chosen.values())]


layer_names = partial(choose_layers, layers="*")  # of all layers that run


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that match a pattern; inputs match only patterns that end in ":input"."""

    def fits(name: str, pattern: str) -> bool:
        return fnmatchcase(name, pattern) and name.endswith(INPUT) == pattern.endswith(INPUT)

    return [name for name in names if any(fits(name, pattern) for pattern in patterns)]


def _states_of_mlp(model: nn.Module) -> list[str]:
    for name, module in model.named_modules():
        if isinstance(module, BottleneckMLP):
            prefix = f"{name}." if name else ""
            return [f"{prefix}{part}{INPUT}" for part in ("layernorms.*", "linear_out")]
    return []


def _parts(model: nn.Module, prefix: str = "") -> list[str]:
    """Names of the parts of a model, where there is but one the parts of that, and of sequences their parts."""
    children, names = dict(model.named_children()), []
    for name, child in children.items():
        apart = any(child.children()) and (len(children) == 1 or isinstance(child, nn.Sequential | nn.ModuleList))
        names += _parts(child, f"{prefix}{name}.") if apart else [prefix + name]
    return names


@torch.no_grad()
def _run_order(model: nn.Module, pixels: Tensor) -> list[str]:
    """Inputs (name and ":input") and outputs of all modules, where they are one tensor, in the order they appear."""
    order: dict[str, None] = {}

    def note(name: str, value: object) -> None:
        if isinstance(value, Tensor) and value.ndim > 1 and len(value) == len(pixels):
            order.setdefault(name)

    names = [name for name, _ in model.named_modules() if name]
    with hooked(model, [place for name in names for place in (name + INPUT, name)], note):
        model(pixels)
    return list(order)
