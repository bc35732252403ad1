"""What a layer says of pixels: its response by name, in a pass that ends where the layer does."""

import difflib

import torch
from torch import Tensor, nn

from src.models.access import INPUT, choose_layers

LOGITS = "logits"  # stands for the model's own output


class _Reached(Exception):
    """Leaves a forward pass at the layer that was asked for; carries its response."""


def respond(model: nn.Module, pixels: Tensor, layer: str) -> Tensor:
    """What `layer` gives for the pixels, [n, …], differentiable; modules that come later do not run.

    layer: a module's name, with ":input" behind it for the tensor that goes into it, or "logits".  A module that runs
    several times counts when it first runs.  Raises ValueError for a name that is not there (near ones are listed), a
    module that does not run, and one that gives no tensor with a row for each image.
    """
    if layer == LOGITS:
        return model(pixels)
    module = find_layer(model, layer)

    def stop_after(_module, _inputs, output):
        raise _Reached(output)

    def stop_before(_module, inputs):
        raise _Reached(inputs[0] if inputs else None)

    before = layer.endswith(INPUT)
    handle = module.register_forward_pre_hook(stop_before) if before else module.register_forward_hook(stop_after)
    try:
        model(pixels)
    except _Reached as reached:
        (response,) = reached.args
    else:
        raise ValueError(f"layer {layer!r} does not run when {type(model).__name__} sees an image")
    finally:
        handle.remove()
    if not isinstance(response, Tensor) or response.ndim < 2 or len(response) != len(pixels):
        found = tuple(response.shape) if isinstance(response, Tensor) else type(response).__name__
        raise ValueError(f"layer {layer!r} gives {found} for {len(pixels)} images, not a row for each")
    return response


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The module called `layer` (":input" is left off); ValueError with near names when there is none."""
    modules, name = dict(model.named_modules()), layer.removesuffix(INPUT)
    if name and name in modules:
        return modules[name]
    names = [known for known in modules if known]
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5) or names[:5]
    raise ValueError(
        f"unknown layer {layer!r} of {type(model).__name__}; near it are {', '.join(near)}; {LOGITS!r} is its output"
    )


def stages(model: nn.Module, pixels: Tensor) -> list[str]:
    """The states an image goes through in one of the study's networks, from the stem to the logits, for `respond`.

    Each state is all that later stages see; see "blocks" in `models.access.choose_layers`.
    """
    return [*choose_layers(model, pixels, "blocks"), LOGITS]


def pick_response(features: Tensor, target: int | tuple[int | None, ...]) -> Tensor:
    """How strongly one unit, channel or token responds in each row of a layer's response, [n].

    features: [n, k] of a linear layer or logits, [n, c, h, w] of a convolution, or [n, tokens, c] of a transformer.
    target: an index for each axis after the first, None for all of it; missing ones at the end count as None, and an
    int alone is a channel wherever the channels stand: 7 is (7, None, None) of a map and (None, 7) of tokens.
    Over places and tokens the mean is taken, over channels the mean square: (3, None) is the energy of token 3.
    Raises ValueError for an index that is out of range, or too many of them.
    """
    axes = features.shape[1:]
    channel_axis = 1 if len(axes) == 2 else 0
    if isinstance(target, int):
        index = [None] * len(axes)
        index[channel_axis] = target
    else:
        index = [*target, *[None] * (len(axes) - len(target))]
    fits = len(index) == len(axes) and all(i is None or 0 <= i < size for i, size in zip(index, axes, strict=True))
    if not fits:
        raise ValueError(f"target {target!r} is not in a response of shape {tuple(axes)} an image")
    if index[channel_axis] is None:
        features = features.square()
    chosen = features[(slice(None), *(slice(None) if i is None else i for i in index))]
    return chosen.flatten(1).mean(1) if chosen.ndim > 1 else chosen


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """log p / (1 - p) of each row's class, [n]; unlike p it never saturates."""
    own = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return own - others.logsumexp(1)
