"""Cue conflicts cut out: the silhouette of one image filled with the texture of another, no network involved."""

from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from src.texture_shape.checks import check_pairs, in_float64

Pixels = Float[Tensor, "n c s s"]

_AT_ONCE = 64  # images of 32 pixels a side, each of which takes about 1 MB
PATCH, OVERLAP = 6, 2  # pixels, of the windows that a texture is put together from


def cutout(shape: Pixels, texture: Pixels) -> Pixels:
    """The ground of one image, and on it its silhouette, filled with the texture that is inside the other's.

    The ground is the median colour of the image's border, channel by channel; see `silhouette` and `quilt`.
    """
    check_pairs(shape, texture)
    filled = quilt(texture, silhouette(texture))
    return torch.where(silhouette(shape)[:, None], filled, _ground(shape))


def silhouette(pixels: Pixels) -> Bool[Tensor, "n s s"]:
    """Which pixels stand out from the ground: their distance from its colour is above Otsu's threshold.

    Of an image all of one colour everything.  Source: Otsu 1979, on 256 bins up to the largest distance.
    """
    distance = (pixels - _ground(pixels)).square().sum(1).sqrt()
    bins = (distance / distance.amax((1, 2), keepdim=True).clamp(min=1e-6) * 255).round().long().flatten(1)
    counts = torch.zeros(len(pixels), 256, dtype=torch.float64, device=pixels.device)
    counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=torch.float64))
    below = counts.cumsum(1)
    above = below[:, -1:] - below
    sums = (counts * torch.arange(256, device=pixels.device)).cumsum(1)
    means = sums / below.clamp(min=1), (sums[:, -1:] - sums) / above.clamp(min=1)
    between = (below * above * (means[0] - means[1]).square()).round()
    inside = (bins > between.argmax(1, keepdim=True)).view_as(distance)
    return inside | (bins.view_as(distance).amax((1, 2), keepdim=True) == 0)


def quilt(pixels: Pixels, inside: Bool[Tensor, "n s s"]) -> Pixels:
    """The texture within a mask, laid out over the whole image from windows of it that fit each other.

    Row by row: of all windows that lie within the mask, or as far in as any does, the one that differs least from what
    is already there, where they overlap; the first is the one nearest to the middle of them.  Nothing is random.
    Source: image quilting, Efros & Freeman 2001, section 2.1, without the minimum cut.
    """
    n, c, side = pixels.shape[:3]
    at_once = max(_AT_ONCE * 32**2 // side**2, 1)
    if n > at_once:
        return torch.cat([quilt(*some) for some in zip(pixels.split(at_once), inside.split(at_once), strict=True)])
    windows = F.unfold(in_float64(pixels), PATCH).mT.unflatten(2, (c, PATCH, PATCH))  # [n, windows, c, p, p]
    covered = F.unfold(inside[:, None].to(windows), PATCH).sum(1).round()
    barred = covered < covered.amax(1, keepdim=True)
    step, rows = PATCH - OVERLAP, torch.arange(n, device=windows.device)
    cells = -(-(side - OVERLAP) // step)
    canvas = windows.new_zeros(n, c, cells * step + OVERLAP, cells * step + OVERLAP)
    overlaps = {place: _overlap(windows, *place) for place in ((False, True), (True, False), (True, True))}
    for y, x in product(range(cells), range(cells)):
        there = canvas[:, :, y * step : y * step + PATCH, x * step : x * step + PATCH]
        if y or x:
            known, parts, lengths = overlaps[y > 0, x > 0]
            cost = lengths - 2 * (parts @ there[..., known].flatten(1)[:, :, None])[:, :, 0]
            cost = cost - cost.masked_fill(barred, torch.inf).amin(1, keepdim=True)
        else:
            known, cost = torch.zeros_like(inside[0, :PATCH, :PATCH]), _from_the_middle(barred, side - PATCH + 1)
        best = (cost * 1e6).round().masked_fill(barred, torch.inf).argmin(1)  # rounded: ties go to the first anywhere
        there.copy_(torch.where(known, there, windows[rows, best]))
    return canvas[:, :, :side, :side].to(pixels)


def _overlap(windows: Float[Tensor, "n w c p p"], above: bool, left: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Where a window meets what is there, bool [p, p]; that part of each window [n, w, k]; its squared length."""
    known = torch.zeros(PATCH, PATCH, dtype=torch.bool, device=windows.device)
    known[: OVERLAP * above], known[:, : OVERLAP * left] = True, True
    parts = windows[..., known].flatten(2)
    return known, parts, parts.square().sum(2)


def _from_the_middle(barred: Bool[Tensor, "n w"], across: int) -> Float[Tensor, "n w"]:
    """Squared distance of each window from the middle of those that are not barred."""
    place = torch.arange(across * across, device=barred.device)
    places = torch.stack([place // across, place % across]).double()
    open_ = (~barred).double()
    middle = open_ @ places.T / open_.sum(1, keepdim=True)
    return (places.T[None] - middle[:, None]).square().sum(2)


def _ground(pixels: Pixels) -> Float[Tensor, "n c 1 1"]:
    border = torch.cat([pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, 1:-1, 0], pixels[:, :, 1:-1, -1]], dim=2)
    return border.median(2).values[:, :, None, None]
