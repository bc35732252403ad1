"""Manipulations that take an image's colour, shape or texture away, by name: `manipulate`.

Each is a function (pixels, sample_ids, seed, level) -> pixels; images and levels are checked by `manipulate`, once.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from src.models.checks import check_images
from src.seeding import Stream, orders, uniform
from src.tables.texture_shape import UNITS
from src.texture_shape.checks import check_colour, check_patch, check_range, is_grey
from src.texture_shape.frequency import high_pass, low_pass, phase_scramble

Pixels = Float[Tensor, "n c s s"]
Ids = Int[Tensor, " n"]

FILLS = ("black", "mean", "noise")
MOST_COVERED = 0.9  # at most this share of an image is hidden


def luma(pixels: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 1 s s"]:
    """Brightness, 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601); of grey pixels their own value, exactly."""
    red, green, blue = pixels.split(1, dim=1)
    return torch.lerp(green, red, 0.299).add_(blue - green, alpha=0.114)


def grayscale(pixels: Pixels, sample_ids: Ids, seed: int, level: float) -> Pixels:
    """Colour taken out: towards the luma of each pixel, all the way at level 1."""
    return _towards(luma(pixels), pixels, level)


def edges(pixels: Pixels, sample_ids: Ids, seed: int, level: float) -> Pixels:
    """Length of the luma's gradient (Sobel & Feldman 1968) in all channels; blended in below level 1.

    A straight step from black to white has length 1; the little that is longer, at corners, is cut to 1.  Images go on
    beyond their border as they end.  No other scaling: the model normalises edges as it does any image.
    """
    grey = F.pad(luma(pixels), (1, 1, 1, 1), mode="replicate")
    columns = grey[..., :-2, :] + 2 * grey[..., 1:-1, :] + grey[..., 2:, :]
    rows = grey[..., :-2] + 2 * grey[..., 1:-1] + grey[..., 2:]
    across, down = columns[..., 2:] - columns[..., :-2], rows[..., 2:, :] - rows[..., :-2, :]
    length = (across.square() + down.square()).sqrt().div(4).clamp(max=1)
    return _towards(length, pixels, level)


def _towards(other: Float[Tensor, "n 1 s s"], pixels: Pixels, level: float) -> Pixels:
    other = other.expand_as(pixels)
    return other if level == 1 else torch.lerp(pixels, other, level)


def occlude(pixels: Pixels, sample_ids: Ids, seed: int, level: float, *, fill: str = "black", patch: int = 4) -> Pixels:
    """Random cells of patch × patch pixels hidden, after PatchDrop (Naseer et al. 2021, section 3.1).

    level: share of the area, from 0 to 0.9; round(level · area) pixels are hidden, neither more nor fewer: whole cells
    without overlap, and of one more its first rows.  What is hidden at one level is hidden at all higher ones, and is
    the same for every fill: "black", "mean" (the image's own mean colour) or "noise" (uniform in each value, but grey
    in a grey image).  The cells lie on the grid of a ViT with patches of that size, which then loses whole tokens.
    """
    if fill not in FILLS:
        raise ValueError(f"unknown fill {fill!r}; choose from {', '.join(FILLS)}")
    hidden = cover(sample_ids, seed, level, side=pixels.shape[-1], patch=patch)[:, None]
    if fill == "black":
        return pixels * (~hidden).to(pixels)
    if fill == "mean":
        return torch.where(hidden, pixels.mean((2, 3), keepdim=True).clamp(0, 1), pixels)
    noise = uniform(sample_ids, seed, Stream.FILL, draws=pixels[:1].numel()).to(pixels).view_as(pixels)
    noise = torch.where(is_grey(pixels), noise[:, :1], noise)
    return torch.where(hidden, noise, pixels)


def cover(sample_ids: Ids, seed: int, share: float, *, side: int, patch: int) -> Bool[Tensor, "n s s"]:
    """Whether a pixel is hidden, of each image round(share · side²), cell after cell in a random order."""
    patch = check_patch(patch, side, what="a cell") if patch != side else side
    n, grid, area = len(sample_ids), side // patch, patch * patch
    order = orders(sample_ids, seed, Stream.OCCLUSION, patch, n=grid * grid)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(grid * grid, device=order.device).expand_as(order))
    of_cell = (round(share * side * side) - area * rank).clamp(0, area).int()  # hidden pixels of each cell
    of_cell = of_cell.repeat_interleave(patch, dim=1).view(n, grid, 1, side)
    place = torch.arange(area, device=order.device, dtype=torch.int).view(patch, patch).repeat(1, grid)  # within a cell
    return (place < of_cell).view(n, side, side)


def patch_shuffle(pixels: Pixels, sample_ids: Ids, seed: int, level: float) -> Pixels:
    """The image cut into patches of level × level pixels, each moved elsewhere: none stays in its place.

    The patches go round one random cycle through all of them, so that every cyclic permutation is equally likely
    (Sattolo 1986).  level: a size that divides the side, or 0.
    """
    n, c, side, _ = pixels.shape
    patch = int(level)
    grid = side // patch
    cycle = orders(sample_ids, seed, Stream.SHUFFLE, patch, n=grid * grid)
    source = torch.empty_like(cycle).scatter_(1, cycle, cycle.roll(1, dims=1))  # place -> the patch that comes there
    patches = pixels.reshape(n, c, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
    first = grid * grid * torch.arange(n, device=source.device)[:, None]
    moved = patches.reshape(n * grid * grid, c * patch * patch).index_select(0, (source + first).flatten())
    return moved.view(n, grid, grid, c, patch, patch).permute(0, 3, 1, 4, 2, 5).reshape(n, c, side, side)


# name -> (pixels, sample_ids, seed, level) -> pixels; tables.texture_shape has their levels and units
MANIPULATIONS: dict[str, Callable[[Pixels, Ids, int, float], Pixels]] = {
    "grayscale": grayscale,
    "occlusion_black": occlude,
    "occlusion_mean": partial(occlude, fill="mean"),
    "occlusion_noise": partial(occlude, fill="noise"),
    "blacken": partial(occlude, patch=1),  # single pixels
    "patch_shuffle": patch_shuffle,
    "edges": edges,
    "low_pass": low_pass,
    "high_pass": high_pass,
    "phase_scramble": phase_scramble,
}


def manipulate(name: str, pixels: Pixels, sample_ids: Ids, *, seed: int = 0, level: float) -> Pixels:
    """The images after the manipulation called `name`, float [n, c, side, side] in [0, 1] as they came.

    Where channels come out all alike, they may lie at one place in memory: clone the images before you write into them.
    sample_ids: indices in the official split.  All that is random is drawn from (seed, sample id), so that batch size,
    order and shard change nothing.  level: 0 gives the pixels back bit for bit; higher ones change more, but for patch
    sizes, where smaller ones do.
    Raises ValueError for other names, images that are not square or leave [0, 1], and levels that do not exist.
    """
    if name not in MANIPULATIONS:
        raise ValueError(f"unknown manipulation {name!r}; choose from {', '.join(MANIPULATIONS)}")
    check_images(pixels, sample_ids, what="sample_ids", square=True)
    if name in ("grayscale", "edges"):
        check_colour(pixels, name)
    if name == "patch_shuffle":
        level = level and check_patch(level, pixels.shape[-1], what="a patch")
    else:
        highest = {"low_pass": pixels.shape[-1], "high_pass": pixels.shape[-1] / 2, "phase_scramble": 180}
        most = 1 if name in ("grayscale", "edges") else highest.get(name, MOST_COVERED)
        check_range(level, most, what=f"the level of {name}, in {UNITS[name]},")
    return MANIPULATIONS[name](pixels, sample_ids, seed, level) if level and len(pixels) else pixels.clone()
