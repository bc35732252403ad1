"""Responses by name: of a layer, in a pass that ends where the layer does, and of one unit, channel or token in it."""

import difflib

import torch
from torch import Tensor, nn

from src.models.access import INPUT, forward, hooked
from src.models.layers import choose_layers

LOGITS = "logits"  # stands for the model's own output


class _Reached(Exception):
    """Leaves a forward pass at the layer that was asked for; carries its response."""


def respond(model: nn.Module, pixels: Tensor, layer: str) -> Tensor:
    """The response of a layer to the pixels, [n, …], differentiable; modules that come later do not run.

    layer: a module's name, with ":input" behind it for the tensor that goes into it, or "logits".  A module that runs
    several times counts when it first runs.  Raises ValueError for a name that is not there (near ones are listed), a
    module that does not run, and one that gives no tensor with a row for each image.
    """
    if layer == LOGITS:
        return forward(model, pixels)
    names = [name for name, _ in model.named_modules() if name]
    if layer.removesuffix(INPUT) not in names:
        near = ", ".join(difflib.get_close_matches(layer.removesuffix(INPUT), names, n=5, cutoff=0.5) or names[:5])
        kind = type(model).__name__
        raise ValueError(f"unknown layer {layer!r} of {kind}; near it are {near}; {LOGITS!r} is its output")
    try:
        with hooked(model, [layer], _leave):
            model(pixels)
    except _Reached as reached:
        (response,) = reached.args
    else:
        raise ValueError(f"layer {layer!r} does not run when {type(model).__name__} sees an image")
    if not isinstance(response, Tensor) or response.ndim < 2 or len(response) != len(pixels):
        given = tuple(response.shape) if isinstance(response, Tensor) else type(response).__name__
        raise ValueError(f"layer {layer!r} gives {given} for {len(pixels)} images, not a row for each")
    return response


def _leave(_layer: str, response: object) -> None:
    raise _Reached(response)


def stages(model: nn.Module, pixels: Tensor) -> list[str]:
    """The states an image goes through in one of the study's networks, from the stem to the logits, for `respond`.

    Each state is all that later stages see; see "states" in `models.layers.choose_layers`.
    """
    return [*choose_layers(model, pixels, "states"), LOGITS]


def pick_response(features: Tensor, target: int | tuple[int | None, ...]) -> Tensor:
    """The response of one unit, channel or token in each row of a layer's response, [n].

    features: [n, k] of a linear layer or logits, [n, c, h, w] of a convolution, or [n, tokens, c] of a transformer.
    target: an index for each axis after the first, None for all of it; missing ones at the end count as None, and an
    int alone is a channel wherever the channels stand: 7 is (7, None, None) of a map and (None, 7) of tokens.
    Over places and tokens the mean is taken, over channels the mean square: (3, None) is the energy of token 3.
    Raises ValueError for an index that is out of range, or too many of them.

    >>> pick_response(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), 1)  # two tokens of two channels
    tensor([3.])
    """
    axes = features.shape[1:]
    channel_axis = 1 if len(axes) == 2 else 0
    given = (None,) * channel_axis + (target,) if isinstance(target, int) else tuple(target)
    index = given + (None,) * (len(axes) - len(given))
    if len(index) > len(axes) or any(i is not None and not 0 <= i < n for i, n in zip(index, axes, strict=True)):
        raise ValueError(f"target {target!r} is not in a response of shape {tuple(axes)} an image")
    if index[channel_axis] is None:
        features = features.square()
    chosen = features[(slice(None), *(slice(None) if i is None else i for i in index))]
    return chosen.flatten(1).mean(1) if chosen.ndim > 1 else chosen


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """log p / (1 - p) of each row's class, [n]; unlike p it never saturates."""
    own = logits.gather(1, classes[:, None])[:, 0]
    return own - logits.scatter(1, classes[:, None], -torch.inf).logsumexp(1)
