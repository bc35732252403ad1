"""Checks of images, pairs, levels and patch sizes, all raising ValueError; facts about pixels and packages."""

from importlib import import_module

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Pixels = Float[Tensor, "n c s s"]


def check_images(pixels: Pixels, sample_ids: Int[Tensor, " n"] | None = None) -> None:
    """Raise unless pixels are square float images in [0, 1] of any channels, with one sample id each where given."""
    if pixels.ndim != 4 or not pixels.is_floating_point():
        raise ValueError(f"expected float pixels [n, c, side, side], not {pixels.dtype} {tuple(pixels.shape)}")
    height, width = pixels.shape[2:]
    if height != width:
        raise ValueError(f"images of {width}x{height} pixels are not square; cut or resize them to one side")
    if sample_ids is not None and (sample_ids.shape != pixels.shape[:1] or sample_ids.is_floating_point()):
        raise ValueError(
            f"{len(pixels)} images need as many whole numbers as sample_ids, not "
            f"{sample_ids.dtype} {tuple(sample_ids.shape)}"
        )
    if len(pixels) and not (0 <= pixels.min() and pixels.max() <= 1):  # also catches NaN
        raise ValueError(
            f"pixels must lie in [0, 1], not [{pixels.min():.3g}, {pixels.max():.3g}]; "
            "manipulations work on pixels, normalisation belongs into the model"
        )


def check_pairs(shape: Pixels, texture: Pixels) -> None:
    """Raise unless both are square images in [0, 1], each with one partner of its size."""
    check_images(shape)
    check_images(texture)
    if shape.shape != texture.shape:
        raise ValueError(
            f"each image needs one partner of its own size, not {tuple(shape.shape)} and {tuple(texture.shape)}"
        )


def check_range(level: float, high: float, *, what: str) -> None:
    """Raise unless 0 <= level <= high."""
    if not 0 <= level <= high:
        raise ValueError(f"{what} must be from 0 to {high:g}, not {level:g}")


def check_colour(pixels: Pixels, what: str) -> None:
    """Raise unless there are three channels."""
    if pixels.shape[1] != 3:
        raise ValueError(f"{what} needs 3 channels, red, green and blue, not {pixels.shape[1]}")


def check_patch(size: float, side: int, *, what: str) -> int:
    """The patch size as a whole number; raise, with the choices, unless it divides the side into several."""
    sizes = [each for each in range(side // 2, 0, -1) if side % each == 0]
    if size not in sizes:
        choices = ", ".join(map(str, sizes))
        raise ValueError(f"{what} of {size:g} pixels does not divide images of {side} pixels; choose from {choices}")
    return int(size)


def is_grey(pixels: Pixels) -> Bool[Tensor, "n 1 1 1"]:
    """Whether an image has the same value in all channels of every pixel, so that what is made of it stays grey."""
    return (pixels == pixels[:, :1]).flatten(1).all(1).view(-1, 1, 1, 1)


def in_float64(pixels: Tensor) -> Tensor:
    """The pixels in double precision, on the CPU where the device has none (Apple's MPS)."""
    return pixels.to("cpu" if pixels.device.type == "mps" else pixels.device, torch.float64)


def installed(package: str) -> bool:
    """Whether an optional package can be imported."""
    try:
        import_module(package)
    except ImportError:
        return False
    return True
