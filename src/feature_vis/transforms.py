"""Random views: small changes at every step that what a picture shows must survive, which static does not."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from src.seeding import Stream, uniform


def draw_views(sample_ids: Tensor, seed: int | Tensor, steps: int) -> Float[Tensor, "n steps 4"]:
    """Numbers in [-1, 1) for each picture and step: shift right, shift down, turn, growth."""
    return 2 * uniform(sample_ids, seed, Stream.VIEWS, draws=4 * steps).view(-1, steps, 4) - 1


def change_view(
    pixels: Float[Tensor, "n c h w"], view: Float[Tensor, "n 4"], *, jitter: float, rotate: float, scale: float
) -> Float[Tensor, "n c h w"]:
    """Each picture shifted by up to `jitter` whole pixels, turned by up to `rotate` degrees, scaled by up to `scale`.

    view: numbers in [-1, 1], as of `draw_views`.  scale: 0.1 for a size between 1 / 1.1 and 1.1 times.  Beyond the
    border the picture is mirrored.  Shifts alone copy pixels; otherwise they are interpolated bilinearly.
    """
    if jitter == rotate == scale == 0:
        return pixels
    h, w = pixels.shape[-2:]
    shift = (view[:, :2] * (jitter + 0.5)).round().clamp(-jitter, jitter)
    angle, size = view[:, 2] * math.radians(rotate), (1 + scale) ** view[:, 3]
    cos, sin = angle.cos() / size, angle.sin() / size
    # of a pixel in the view, where it stands in the picture; affine_grid counts half sides from the middle
    right = torch.stack([cos, -sin * h / w, -2 * shift[:, 0] / w], 1)
    down = torch.stack([sin * w / h, cos, -2 * shift[:, 1] / h], 1)
    grid = F.affine_grid(torch.stack([right, down], 1), list(pixels.shape), align_corners=False)
    mode = "nearest" if rotate == scale == 0 else "bilinear"
    return F.grid_sample(pixels, grid, mode=mode, padding_mode="reflection", align_corners=False)
