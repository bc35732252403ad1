"""Ways to run the same network, by name."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Runner = Callable[[], Tensor]


def _plain(model: nn.Module, pixels: Tensor) -> Runner:
    return lambda: model(pixels)


def _channels_last(model: nn.Module, pixels: Tensor) -> Runner:
    model, pixels = (value.to(memory_format=torch.channels_last) for value in (model, pixels))
    return lambda: model(pixels)


def _contiguous(model: nn.Module, pixels: Tensor) -> Runner:
    model, pixels = (value.to(memory_format=torch.contiguous_format) for value in (model, pixels))
    return lambda: model(pixels)


def _bfloat16(model: nn.Module, pixels: Tensor) -> Runner:
    kind = pixels.device.type

    def run() -> Tensor:
        with torch.autocast(kind, torch.bfloat16):
            return model(pixels)

    return run


def _compiled(model: nn.Module, pixels: Tensor) -> Runner:
    compiled = torch.compile(model)
    return lambda: compiled(pixels)


# name -> (model, pixels) -> what is timed. "eager" runs the model as it is built.
VARIANTS: dict[str, Callable[[nn.Module, Tensor], Runner]] = {
    "eager": _plain,
    "contiguous": _contiguous,
    "channels_last": _channels_last,
    "bfloat16": _bfloat16,
    "compile": _compiled,
}


def prepare(model: nn.Module, pixels: Tensor, variant: str = "eager") -> Runner:
    """A call without arguments that runs `model` on `pixels`, both on their device already.

    Memory formats are set in place on the model: give each variant a model of its own. Raises ValueError for an
    unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; choose from {', '.join(VARIANTS)}")
    return VARIANTS[variant](model.eval(), pixels)
