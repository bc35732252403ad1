"""What every manipulation asks of its input: square images in [0, 1], an index for each, a level that exists."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def check_images(pixels: Float[Tensor, "n c s s"], sample_ids: Int[Tensor, " n"] | None = None) -> None:
    """Raise ValueError unless pixels are square float images in [0, 1], with one sample id each where those are given.

    A single channel passes; what needs three says so itself.
    """
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


def check_range(level: float, high: float, *, what: str, low: float = 0.0) -> None:
    """Raise ValueError unless low <= level <= high."""
    if not low <= level <= high:
        raise ValueError(f"{what} must be from {low:g} to {high:g}, not {level:g}")


def check_colour(pixels: Float[Tensor, "n c s s"], what: str) -> None:
    if pixels.shape[1] != 3:
        raise ValueError(f"{what} needs 3 channels, red, green and blue, not {pixels.shape[1]}")


def patch_sizes(side: int) -> list[int]:
    """The patch sizes that divide an image side and leave more than one patch, largest first."""
    return [size for size in range(side // 2, 0, -1) if side % size == 0]


def check_patch(size: float, side: int, *, what: str) -> int:
    """The patch size as a whole number; ValueError with the choices unless it divides the side."""
    if size not in patch_sizes(side):
        choices = ", ".join(map(str, patch_sizes(side)))
        raise ValueError(f"{what} of {size:g} pixels does not divide images of {side} pixels; choose from {choices}")
    return int(size)


def is_grey(pixels: Float[Tensor, "n c s s"]) -> Bool[Tensor, "n 1 1 1"]:
    """Which images have the same value in all channels of every pixel: what is made of those should be grey too."""
    return (pixels == pixels[:, :1]).flatten(1).all(1).view(-1, 1, 1, 1)


def same_shape(shape: Float[Tensor, "n c s s"], texture: Float[Tensor, "n c s s"]) -> None:
    """Raise ValueError unless each image has one partner of its size."""
    if shape.shape != texture.shape:
        raise ValueError(
            f"each image needs one partner of its own size, not {tuple(shape.shape)} and {tuple(texture.shape)}"
        )


def in_float64(pixels: Tensor) -> Tensor:
    """The pixels in double precision, on the CPU where the device has none (Apple's MPS)."""
    return pixels.to("cpu" if pixels.device.type == "mps" else pixels.device, torch.float64)
