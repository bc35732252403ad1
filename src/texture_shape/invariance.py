"""Transformations that leave the object what it is: `transform` by name; a prediction should survive them.

Images go on beyond their border as mirrored about the outermost pixels, which are not repeated.  Shifts are by whole
pixels and resample nothing; rotation and scale interpolate bilinearly, about the centre, without smoothing first.
Which way an image is shifted (left, right, up or down) or turned is drawn from (seed, sample id), the same at all
levels, so that strength is all that a level changes.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from src.models.checks import check_images
from src.seeding import Stream, uniform
from src.tables.texture_shape import TRANSFORMATIONS, UNITS

Pixels = Float[Tensor, "n c s s"]
Ids = Int[Tensor, " n"]

IDENTITY = {name: 0 for name in TRANSFORMATIONS} | {"scale": 1}  # the level that changes nothing


def transform(name: str, pixels: Pixels, sample_ids: Ids, *, seed: int = 0, level: float) -> Pixels:
    """The images shifted, turned, scaled or flipped, as large as they came; the level of IDENTITY gives them back.

    name, level: "shift" by whole pixels below the side, "rotation" by 0 to 180 degrees, "scale" by a factor from 0.5
    (smaller) to 2 (larger), "flip" left to right at 1.  sample_ids: indices in the official split.
    Raises ValueError for other names, levels, and images that are not square or leave [0, 1].
    """
    if name not in TRANSFORMATIONS:
        raise ValueError(f"unknown transformation {name!r}; choose from {', '.join(TRANSFORMATIONS)}")
    check_images(pixels, sample_ids, what="sample_ids", square=True)
    low, high = {"shift": (0, pixels.shape[-1] - 1), "rotation": (0, 180), "scale": (0.5, 2), "flip": (0, 1)}[name]
    whole = name in ("shift", "flip")
    if not low <= level <= high or (whole and level != int(level)):
        fits = f"a whole number from {low} to {high}" if whole else f"from {low:g} to {high:g}"
        raise ValueError(f"the level of {name}, in {UNITS[name]}, must be {fits}, not {level:g}")
    if level == IDENTITY[name] or not len(pixels):
        return pixels.clone()
    if name == "flip":
        return pixels.flip(3)
    ways = uniform(sample_ids, seed, Stream.POSES, list(TRANSFORMATIONS).index(name), draws=1)[:, 0]
    if name == "shift":
        return _shift(pixels, (4 * ways).long(), int(level))
    angles = torch.where(ways < 0.5, -1.0, 1.0) * math.radians(level if name == "rotation" else 0)
    return _resample(pixels, angles, level if name == "scale" else 1)


def levels_of_transformations(side: int) -> dict[str, tuple[float, ...]]:
    """The TRANSFORMATIONS that images of this side have: shifts are by a quarter of it at most.

    >>> levels_of_transformations(16)["shift"]
    (1, 2, 4)
    """
    shifts = tuple(level for level in TRANSFORMATIONS["shift"] if level <= side / 4)
    return {name: some for name, some in (TRANSFORMATIONS | {"shift": shifts}).items() if some}


def _shift(pixels: Pixels, ways: Ids, distance: int) -> Pixels:
    """Each image moved by whole pixels, right, left, down or up as `ways` says (0 to 3)."""
    side = pixels.shape[-1]
    wide = F.pad(pixels, (distance,) * 4, mode="reflect")
    corners = ((0, 1), (2, 1), (1, 0), (1, 2))  # where the window begins, (x, y) in distances
    moved = [wide[..., y * distance :, x * distance :][..., :side, :side] for x, y in corners]
    return torch.stack(moved)[ways.to(pixels.device), torch.arange(len(pixels), device=pixels.device)]


def _resample(pixels: Pixels, angles: Float[Tensor, " n"], factor: float) -> Pixels:
    """Each image turned and scaled about its centre, bilinearly, mirrored beyond its border."""
    angles = angles.to(pixels)
    cos, sin, zero = angles.cos() / factor, angles.sin() / factor, torch.zeros_like(angles)
    inverse = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = F.affine_grid(inverse, list(pixels.shape), align_corners=True)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=True).clamp(0, 1)
