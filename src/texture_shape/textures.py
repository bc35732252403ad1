"""Texture alone: noise shaped until it has the texture statistics of an image (Portilla & Simoncelli 2000)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from src.models.checks import check_images
from src.seeding import Stream, uniform
from src.texture_shape.checks import check_range, in_float64, installed

Pixels = Float[Tensor, "n c s s"]

N_SCALES, CORRELATION_WIDTH = 2, 7  # the most that 32 pixels have room for
_RANGE_WEIGHT = 10.0  # of squared excess beyond the component's range, beside statistics in units of their own size


def available() -> bool:
    """Whether the optional package is installed."""
    return installed("plenoptic")


def missing(side: int) -> str:
    """Why textures of images of this side cannot be made; nothing where they can."""
    if not available():
        return "plenoptic is not installed: make texture"
    fits = side >= 32 and side % 2**N_SCALES == 0
    return "" if fits else f"they need a side of at least 32 pixels that 4 divides, not {side}"


def synthesise_texture(
    pixels: Pixels,
    sample_ids: Int[Tensor, " n"],
    seed: int,
    level: float = 1.0,
    *,
    steps: int = 300,
    step_size: float = 0.15,
) -> Pixels:
    """Images with the texture of each image and nothing else of it, from noise drawn for (seed, sample id).

    The statistics are those of a steerable pyramid of 2 scales and 4 orientations (marginals, correlations in place,
    between scales and between orientations), matched by Adam, whose steps shrink along half a cosine.  Of a colour
    image its three principal colours are matched one by one, which keeps their covariance; of a grey one its
    brightness.
    level: 0 gives the pixels back bit for bit, 1 the texture; there is nothing between.  Works in double precision: the
    batch that an image comes in changes it by 1e-6 at most.
    Raises ImportError where plenoptic is not installed, ValueError for wrong images or levels.
    """
    check_images(pixels, sample_ids, what="sample_ids", square=True)
    if level not in (0, 1):
        check_range(level, 1, what="the level of a texture")
        raise ValueError(f"the level of a texture is 0 or 1, not {level:g}")
    if level == 0 or not len(pixels):
        return pixels.clone()
    statistics = _statistics(pixels.shape[-1]).to(in_float64(pixels).device)
    centre, axes, components = principal_colours(in_float64(pixels))
    made = torch.zeros_like(components)
    used = components.abs().amax((2, 3)) > 1e-9  # a grey image has one principal colour, an even one none
    for i in range(components.shape[1]):
        rows = used[:, i].nonzero()[:, 0]
        if len(rows):
            ids = sample_ids.to(rows.device)[rows]
            made[rows, i] = _match(components[rows, i], ids, seed, i, statistics, steps, step_size)
    return (centre + torch.einsum("nkc,nkhw->nchw", axes, made)).clamp(0, 1).to(pixels)


def principal_colours(pixels: Pixels) -> tuple[Tensor, Tensor, Tensor]:
    """Mean colour [n, c, 1, 1], principal axes of the colours [n, k, c], and the image along them [n, k, s, s]."""
    centre = pixels.mean((2, 3), keepdim=True)
    flat = (pixels - centre).flatten(2)
    _, vectors = torch.linalg.eigh(flat @ flat.mT)
    axes = vectors.flip(2).mT  # rows, largest variance first
    largest = axes.gather(2, axes.abs().argmax(2, keepdim=True))
    axes = axes * largest.sign()  # an axis has no direction of its own: the larger part points up
    return centre, axes, (axes @ flat).view_as(pixels)


def _match(targets: Tensor, ids: Tensor, seed: int, part: int, statistics, steps: int, step_size: float) -> Tensor:
    """Noise [n, s, s] with the statistics of the targets, each scaled to mean 0 and variance 1 meanwhile."""
    spread = targets.std((1, 2), keepdim=True)
    targets = (targets / spread)[:, None]
    wanted = statistics(targets)
    kinds = statistics.convert_to_dict(torch.zeros(1, 1, wanted.shape[2])).values()
    sizes = [int(kind.isfinite().sum()) for kind in kinds]  # entries that are left out, being repetitions, are NaN
    wanted = _groups(wanted, sizes)
    low, high = targets.amin((1, 2, 3), keepdim=True), targets.amax((1, 2, 3), keepdim=True)
    draws = uniform(ids, seed, Stream.TEXTURE_START, part, draws=targets[0].numel()).to(targets).view_as(targets)
    x = ((draws - 0.5) * 12**0.5).requires_grad_()
    optimiser = torch.optim.Adam([x], eps=1e-12)
    for step in range(1, steps + 1):
        # by groups, each relative to its own length: else the few large statistics are all that counts
        losses = sum(
            (a - b).square().sum(1) / b.square().sum(1).clamp(min=1e-6)
            for a, b in zip(_groups(statistics(x), sizes), wanted, strict=True)
        )
        beyond = (x - x.clamp(low, high)).square().mean((1, 2, 3))
        (x.grad,) = torch.autograd.grad((losses + _RANGE_WEIGHT * beyond).sum(), x)
        slower = 0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * step / steps)).item()  # float32, as stored images had it
        optimiser.param_groups[0]["lr"] = step_size * slower * 12**0.5
        optimiser.step()
    return (x.detach() * spread[:, None])[:, 0]


def _groups(statistics: Float[Tensor, "n c k"], sizes: list[int]) -> list[Float[Tensor, "n k"]]:
    """The statistics, kind by kind, which follow each other; the model's own `convert_to_dict` waits for a GPU."""
    return [kind.flatten(1).nan_to_num(nan=0.0) for kind in statistics.split(sizes, 2)]


def _statistics(side: int) -> torch.nn.Module:
    if not available():
        how = "make texture, or pip install -r requirements-texture.txt"
        raise ImportError(f"texture-only images need the package plenoptic: {how}")
    if reason := missing(side):
        raise ValueError(f"texture-only images cannot be made: {reason}")
    from plenoptic.models import PortillaSimoncelli

    model = PortillaSimoncelli((side, side), n_scales=N_SCALES, spatial_corr_width=CORRELATION_WIDTH)
    return model.double().eval().requires_grad_(False)
