"""Which layers of a network are looked at, by pattern or by kind, in the order in which they run."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from src.mlp import BottleneckMLP

INPUT = ":input"  # after a layer's name: what goes into it
# the stem and the residual blocks, by the names that the study's CNNs and transformers give them
BLOCKS = ("*blocks.[0-9]", "*blocks.[0-9][0-9]", "*layer[0-9].[0-9]", "conv1", "net.conv1", "*patch_embed")


def layer_names(model: nn.Module, pixels: Tensor) -> list[str]:
    """Names of all modules that give one tensor when `model` sees `pixels`, in the order in which they end.

    A module that runs several times stands where it first ended. Modules that never run are left out.
    """
    return [name for name in _run_order(model, pixels) if not name.endswith(INPUT)]


def choose_layers(model: nn.Module, pixels: Tensor, layers: str | type | list[str] | None = None) -> list[str]:
    """Layers by name, in execution order.

    layers: "blocks" (also None), the states an image goes through in one of the study's networks: what the stem gives
    and what every residual block leaves behind, skip included.  The blocks of the bottleneck MLP give only what they
    add, so its states are what goes into its LayerNorms and its last layer.  Or "leaves" (modules without parts), a
    glob pattern or a list of them (with ":input" at its end, for what goes into a layer), or a module type such as
    nn.Conv2d.  Raises ValueError, with names there are, when a pattern matches nothing that runs.
    """
    order = _run_order(model, pixels)
    run = [name for name in order if not name.endswith(INPUT)]
    modules = dict(model.named_modules())
    if isinstance(layers, type):
        found = [name for name in run if isinstance(modules[name], layers)]
        if not found:
            raise ValueError(f"no {layers.__name__} runs in {type(model).__name__}")
        return found
    if layers == "leaves":
        return [name for name in run if not any(modules[name].children())]
    if layers in (None, "blocks"):
        patterns = _states_of_mlp(model) or BLOCKS
        found = [name for name in order if _matches(name, patterns)]
        if not found:
            raise ValueError(f"{type(model).__name__} has no blocks of a known name; choose among {', '.join(run[:8])}")
        return found
    patterns = [layers] if isinstance(layers, str) else list(layers)
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in order):
            raise ValueError(f"no layer that runs matches {pattern!r}; there are, among others, {', '.join(run[:8])}")
    return [name for name in order if _matches(name, patterns)]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Inputs are meant only by patterns that say so."""
    return any(fnmatchcase(name, pattern) for pattern in patterns if name.endswith(INPUT) == pattern.endswith(INPUT))


def _states_of_mlp(model: nn.Module) -> list[str]:
    for name, module in model.named_modules():
        if isinstance(module, BottleneckMLP):
            prefix = f"{name}." if name else ""
            return [f"{prefix}{part}{INPUT}" for part in ("layernorms.*", "linear_out")]
    return []


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


@contextmanager
def hooked(model: nn.Module, layers: Iterable[str], note: Callable[[str, object], None]) -> Iterator[None]:
    """Eval mode for the time of a pass, and `note(layer, value)` of what each layer gives, or, with ":input", is given.

    Modes and hooks are as before afterwards, also when the pass fails.
    """
    modes, handles = [(module, module.training) for module in model.modules()], []
    modules = dict(model.named_modules())
    try:
        model.eval()
        for name in layers:
            module = modules[name.removesuffix(INPUT)]
            if name.endswith(INPUT):
                before = lambda _, given, name=name: note(name, given[0] if given else None)  # noqa: E731
                handles.append(module.register_forward_pre_hook(before))
            else:
                handles.append(module.register_forward_hook(lambda _, __, out, name=name: note(name, out)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
