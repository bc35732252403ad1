"""Checks of images, pairs, levels and patch sizes, all raising ValueError; levels there are; facts about packages."""

from importlib import import_module

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from src.models.checks import check_images
from src.tables.texture_shape import CUTOFFS, LEVELS

Pixels = Float[Tensor, "n c s s"]


def check_pairs(shape: Pixels, texture: Pixels) -> None:
    """Raise unless both are square images in [0, 1], each with one partner of its size."""
    check_images(shape, square=True)
    check_images(texture, square=True)
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


def levels_for(side: int) -> dict[str, tuple[float, ...]]:
    """The LEVELS that images of this side have: it must be a multiple of patches, and of the cells that are hidden.

    >>> levels_for(24)["patch_shuffle"], "occlusion_black" in levels_for(24), "occlusion_black" in levels_for(25)
    ((8, 4, 2), True, False)
    """
    patches = tuple(size for size in LEVELS["patch_shuffle"] if side % size == 0 and size < side)
    levels = LEVELS | {"patch_shuffle": patches}
    cells = side % 4 == 0 and side > 4
    return {name: some for name, some in levels.items() if some and (cells or not name.startswith("occlusion"))}


def cutoffs_for(side: int) -> tuple[float, ...]:
    """The CUTOFFS of hybrids that images of this side have: up to half of it."""
    return tuple(cutoff for cutoff in CUTOFFS if cutoff <= side / 2)


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
