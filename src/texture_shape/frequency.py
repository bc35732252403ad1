"""Manipulations of an image's frequencies: filters, scrambled phases, and cue conflicts of two images.

Filters are Gaussian in frequency and see the image mirrored at its borders, which makes them one matrix product over
rows and one over columns.  A cut-off of f cycles per image is the frequency where the low-pass filter's gain has fallen
to exp(-1/2); it blurs by side / (2 pi f) pixels.  Phases are those of the discrete Fourier transform.

Filters and scrambling take (pixels, sample_ids, seed, level) as `manipulations` describes, and are called through it.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from src.runtime import sent
from src.seeding import Stream, uniform
from src.texture_shape.checks import check_pairs, check_range, in_float64
from src.texture_shape.cutouts import cutout

Pixels = Float[Tensor, "n c s s"]
Ids = Int[Tensor, " n"]


def low_pass(pixels: Pixels, sample_ids: Ids, seed: int, level: float) -> Pixels:
    """Details taken out: a Gaussian blur with a standard deviation of `level` pixels, up to the image's side."""
    return _blur(pixels, pixels.shape[-1] / (2 * math.pi * level)).clamp_(0, 1)


def high_pass(pixels: Pixels, sample_ids: Ids, seed: int, level: float) -> Pixels:
    """Coarse structure taken out: what lies below the cut-off of `level` cycles per image, except the mean colour.

    level: up to half the side, the highest frequency there is.  Values beyond [0, 1] are cut.
    """
    return (pixels - _blur(pixels, level) + pixels.mean((2, 3), keepdim=True)).clamp_(0, 1)


def phase_scramble(pixels: Pixels, sample_ids: Ids, seed: int, level: float) -> Pixels:
    """Each phase turned by a random angle, uniform in ± level degrees; at 180 nothing is left of them.

    All channels are turned alike, which keeps their relations; the amplitude spectrum is kept, up to the cutting of
    values beyond [0, 1].  Source: the phase noise of Geirhos et al. 2018 (NeurIPS), after Wichmann et al. 2006.
    """
    side = pixels.shape[-1]
    draws = uniform(sample_ids, seed, Stream.PHASES, draws=side * side).view(-1, side, side).to(pixels)
    angles = math.radians(level) * (2 * draws - 1)
    first, second = _conjugate_halves(side, pixels.device)
    # a real image has opposite phases at opposite frequencies; those that are their own opposite are not turned
    angles = angles * first - angles.flip(1, 2).roll((1, 1), (1, 2)) * second
    half = angles[:, None, :, : side // 2 + 1]
    spectrum = torch.fft.rfft2(pixels) * torch.polar(torch.ones_like(half), half)
    return torch.fft.irfft2(spectrum, s=(side, side)).clamp_(0, 1)


def phase_amplitude(shape: Pixels, texture: Pixels) -> Pixels:
    """The phases of one image with the amplitudes of another, in each channel; values beyond [0, 1] are cut.

    A frequency that the first image does not have gets phase 0.  Source: Oppenheim & Lim 1981.
    """
    check_pairs(shape, texture)
    # Double precision, so that a coefficient that is zero is told from rounding, whose phase would be chance.
    phases, amplitudes = torch.fft.rfft2(in_float64(shape)), torch.fft.rfft2(in_float64(texture)).abs()
    absent = phases.abs() < 1e-9 * shape.shape[-1] ** 2
    mixed = torch.polar(amplitudes, phases.angle().masked_fill(absent, 0.0))
    return torch.fft.irfft2(mixed, s=shape.shape[-2:]).clamp_(0, 1).to(shape)


def frequency_hybrid(shape: Pixels, texture: Pixels, cutoff: float) -> Pixels:
    """What lies below the cut-off in one image, added to what lies above it in another; beyond [0, 1] cut.

    cutoff: in cycles per image, above 0, up to half the side.  Source: hybrid images, Oliva, Torralba & Schyns 2006.
    """
    check_pairs(shape, texture)
    if cutoff <= 0:
        raise ValueError(f"the cut-off of a hybrid must be above 0 cycles per image, not {cutoff:g}")
    check_range(cutoff, shape.shape[-1] / 2, what="the cut-off of a hybrid, in cycles per image,")
    return (texture + _blur(shape - texture, cutoff)).clamp_(0, 1)


# kind of cue conflict -> (shape pixels, texture pixels[, cut-off]) -> pixels; style transfer is a module of its own
CONFLICTS: dict[str, Callable[..., Pixels]] = {"phase": phase_amplitude, "hybrid": frequency_hybrid, "cutout": cutout}


def cue_conflict(shape: Pixels, texture: Pixels, *, kind: str = "phase", cutoff: float | None = None) -> Pixels:
    """Each image of `shape` with the texture of the image at its place in `texture`; values in [0, 1].

    kind: "phase" (phases of the one, amplitudes of the other), "hybrid" (what lies below the cut-off in the one, above
    it in the other) or "cutout" (the silhouette of the one, filled with the texture of the other).
    cutoff: of a hybrid, in cycles per image.
    A hybrid sets coarse against fine: to call that shape and texture needs the whole curve over the cut-off, as the
    cut-off alone decides the answer.  Raises ValueError for other kinds, a cut-off that is missing or has no use, and
    images that do not match.
    """
    if kind not in CONFLICTS:
        raise ValueError(f"unknown kind of cue conflict {kind!r}; choose from {', '.join(CONFLICTS)}")
    if (kind == "hybrid") != (cutoff is not None):
        problem = "needs a cutoff, in cycles per image" if cutoff is None else "has no cutoff"
        raise ValueError(f"cue conflict {kind!r} {problem}")
    return CONFLICTS[kind](shape, texture, *(() if cutoff is None else (cutoff,)))


def _blur(values: Tensor, cutoff: float) -> Tensor:
    """Each channel through the low-pass filter, rows and columns; not cut to [0, 1]."""
    matrix = _low_pass_matrix(values.shape[-1], float(cutoff), values.dtype, values.device)
    return matrix @ values @ matrix


@lru_cache
def _low_pass_matrix(side: int, cutoff: float, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "s s"]:
    """The filter along one axis: cosine transform, gain exp(-f² / 2 cutoff²) at f = 0, 1/2, 1, … cycles, and back."""
    places = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    cycles = torch.arange(side, dtype=torch.float64) / 2
    cosines = torch.cos(2 * math.pi * cycles[:, None] * places) * math.sqrt(2 / side)
    cosines[0] /= math.sqrt(2)  # now orthonormal
    matrix = cosines.T @ (torch.exp(-0.5 * (cycles / cutoff) ** 2)[:, None] * cosines)
    return sent(matrix.to(dtype), device)


@lru_cache
def _conjugate_halves(side: int, device: torch.device) -> tuple[Bool[Tensor, "s s"], Bool[Tensor, "s s"]]:
    """Of each two opposite frequencies the one that comes first, and the other one; [side, side] each."""
    index = torch.arange(side * side, device=device).view(side, side)
    opposite = index.flip(0, 1).roll((1, 1), (0, 1))
    return index < opposite, index > opposite
