"""Ways to run the same network, by name."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Runner = Callable[[], Tensor]


def _in_format(memory_format: torch.memory_format) -> Callable[[nn.Module, Tensor], Runner]:
    def make(model: nn.Module, pixels: Tensor) -> Runner:
        model, pixels = (value.to(memory_format=memory_format) for value in (model, pixels))
        return lambda: model(pixels)

    return make


def _bfloat16(model: nn.Module, pixels: Tensor) -> Runner:
    def run() -> Tensor:
        with torch.autocast(pixels.device.type, torch.bfloat16):
            return model(pixels)

    return run


def _compiled(model: nn.Module, pixels: Tensor) -> Runner:
    compiled = torch.compile(model)
    return lambda: compiled(pixels)


# name -> (model, pixels) -> what is timed. "eager" runs the model as it is built.
VARIANTS: dict[str, Callable[[nn.Module, Tensor], Runner]] = {
    "eager": lambda model, pixels: lambda: model(pixels),
    "contiguous": _in_format(torch.contiguous_format),
    "channels_last": _in_format(torch.channels_last),
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
