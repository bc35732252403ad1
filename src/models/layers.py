"""Layers of a network by name: the states of an image, leaves, patterns."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor, nn

from src.models.access import ADDED, INPUT, hooked
from src.models.mlp import BottleneckMLP

# the stem and the residual blocks, by the names that the study's CNNs and transformers give them
STEMS = ("conv1", "net.conv1", "*patch_embed")
BLOCKS = ("*blocks.[0-9]", "*blocks.[0-9][0-9]", "*layer[0-9].[0-9]", "*layer[0-9].[0-9][0-9]", *STEMS)
CHOICES = ("states", "outputs", "added")  # what may be called the layers of a residual network


def choose_layers(model: nn.Module, pixels: Tensor, layers: str | type | list[str] | None = None) -> list[str]:
    """Names of layers that give one tensor when `model` sees `pixels`, in the order in which they first end.

    layers: a choice of CHOICES, "states" for None; "leaves" (modules without parts); a glob pattern or a list of them
    (with ":input" at its end, for what goes into a layer, or ":added", for what comes out less what goes in); or a
    module type such as nn.Conv2d.
    Each choice begins with what the stem gives, and has one layer for each residual block:
    "states", what the block leaves behind, skip included: all that later blocks see;
    "outputs", what its module gives, as a hook finds it.  A block of the bottleneck MLP gives what it adds, so that its
    states are what goes into its LayerNorms and its last layer; one of a transformer, or of a ResNet, gives its state,
    so that the two choices are the same layers there;
    "added", what it adds to the stream: of a block of a ResNet, whose sum goes through a ReLU, what its last BatchNorm
    gives; of others output less input, where the two have one shape.
    A network that names its blocks in another way has the same layers by all three: what its parts give, sequences of
    them taken apart, but for the last.
    Raises ValueError, with names there are, when a pattern matches nothing that runs.
    """
    order, modules, kind = _run_order(model, pixels), dict(model.named_modules()), type(model).__name__
    run = [name for name in order if ":" not in name]
    if layers == "leaves":
        return [name for name in run if not any(modules[name].children())]
    if isinstance(layers, type):
        chosen = {f"no {layers.__name__} runs in {kind}": [name for name in run if isinstance(modules[name], layers)]}
    elif layers is None or layers in CHOICES:
        known = _matching(order, _of_mlp(model, layers) or BLOCKS)
        if layers == "added" and known and not _of_mlp(model, layers):
            known = [name for name in _branches(model, known) if name in order]
        few = f"{kind} has not two parts, one after the other: leave it out of 04a and 04b, or name layers"
        chosen = {few: known or _matching(run, _parts(model))[:-1]}
    else:
        patterns = [layers] if isinstance(layers, str) else layers
        chosen = {f"no layer that runs matches {pattern!r}": _matching(order, [pattern]) for pattern in patterns}
    for problem, names in chosen.items():
        if not names:
            raise ValueError(f"{problem}; there are, among others, {', '.join(run[:8])}")
    return [name for name in order if any(name in names for names in chosen.values())]


layer_names = partial(choose_layers, layers="*")  # of all layers that run


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that match a pattern; what has ":input" or ":added" behind it only patterns that have it too."""

    def fits(name: str, pattern: str) -> bool:
        return fnmatchcase(name, pattern) and name.partition(":")[2] == pattern.partition(":")[2]

    return [name for name in names if any(fits(name, pattern) for pattern in patterns)]


def _of_mlp(model: nn.Module, choice: str | None) -> list[str]:
    """Patterns of the layers of a bottleneck MLP; none for another network."""
    own = ["linear_in", "blocks.[0-9]", "blocks.[0-9][0-9]"]
    if choice in (None, "states"):
        own = [f"layernorms.*{INPUT}", f"linear_out{INPUT}"]
    for name, module in model.named_modules():
        if isinstance(module, BottleneckMLP):
            return [f"{name}.{part}" if name else part for part in own]
    return []


def _branches(model: nn.Module, states: list[str]) -> list[str]:
    """The stem, and for each of the residual blocks the name of what it adds."""
    names = []
    for name in states:
        block = model.get_submodule(name)
        norms = [f"{name}.{part}" for part, _ in block.named_children() if part in ("bn2", "bn3")]
        post_activation = norms and type(block).__name__ in ("BasicBlock", "Bottleneck")  # timm's and torchvision's
        names.append(name if _matching([name], STEMS) else norms[-1] if post_activation else name + ADDED)
    return names


def _parts(model: nn.Module, prefix: str = "") -> list[str]:
    """Names of the parts of a model, where there is but one the parts of that, and of sequences their parts."""
    children, names = dict(model.named_children()), []
    for name, child in children.items():
        apart = any(child.children()) and (len(children) == 1 or isinstance(child, nn.Sequential | nn.ModuleList))
        names += _parts(child, f"{prefix}{name}.") if apart else [prefix + name]
    return names


@torch.no_grad()
def _run_order(model: nn.Module, pixels: Tensor) -> list[str]:
    """Inputs and outputs of all modules and their differences, where they are one tensor, in the order they appear."""
    order: dict[str, None] = {}

    def note(name: str, value: object) -> None:
        if isinstance(value, Tensor) and value.ndim > 1 and len(value) == len(pixels):
            order.setdefault(name)

    names = [name for name, _ in model.named_modules() if name]
    with hooked(model, [place for name in names for place in (name + INPUT, name + ADDED, name)], note):
        model(pixels)
    return list(order)
