"""Small random changes of view at every step: what a picture shows must survive them, which static does not."""

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
    if rotate == scale == 0:
        return _shifted(pixels, shift.long())
    angle, size = view[:, 2] * math.radians(rotate), (1 + scale) ** view[:, 3]
    cos, sin = angle.cos() / size, angle.sin() / size
    # of a pixel in the view, where it stands in the picture; affine_grid counts half sides from the middle
    right = torch.stack([cos, -sin * h / w, -2 * shift[:, 0] / w], 1)
    down = torch.stack([sin * w / h, cos, -2 * shift[:, 1] / h], 1)
    grid = F.affine_grid(torch.stack([right, down], 1), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _shifted(pixels: Tensor, shift: Tensor) -> Tensor:
    """Whole-pixel shifts as one gather: mirrored at the border, whose own row of pixels comes twice."""
    n, c, h, w = pixels.shape
    columns = _mirrored(torch.arange(w, device=pixels.device) - shift[:, :1], w)  # n, w
    rows = _mirrored(torch.arange(h, device=pixels.device) - shift[:, 1:], h)  # n, h
    places = (rows[:, :, None] * w + columns[:, None]).view(n, 1, h * w)
    return pixels.flatten(2).gather(2, places.expand(n, c, h * w)).view(n, c, h, w)


def _mirrored(index: Tensor, size: int) -> Tensor:
    index = index.remainder(2 * size)
    return torch.minimum(index, 2 * size - 1 - index)
