"""Parameterisations: coordinates of a picture in which gradient steps give natural pictures rather than static."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from src.models.checks import check_images
from src.seeding import Stream, uniform

Pixels = Float[Tensor, "n 3 h w"]


@dataclass(frozen=True)
class ImageStatistics:
    """Colours and spectrum of a data set, from a sample of it.

    mix: colours of uncorrelated unit variance to colours about the mean.  unmix: its pseudo-inverse, as grey images
    have only one direction.  amplitude: mean over images at each frequency, in uncorrelated colours.  log_power: mean
    over images in dB at 1, 2, … cycles per image.
    """

    mean: Float[Tensor, " 3"]
    mix: Float[Tensor, "3 3"]
    unmix: Float[Tensor, "3 3"]
    amplitude: Float[Tensor, "3 h v"]
    log_power: Float[Tensor, " f"]
    size: tuple[int, int]


def image_statistics(pixels: Pixels) -> ImageStatistics:
    """The statistics of pixels in [0, 1]; some hundred images will do.  ValueError for fewer than 2 or a blank set."""
    check_images(pixels, colour=True)
    if len(pixels) < 2:
        raise ValueError(f"statistics of a data set need at least 2 images, not {len(pixels)}")
    pixels = pixels.double()
    mean = pixels.mean((0, 2, 3))
    colours = (pixels - mean[:, None, None]).permute(1, 0, 2, 3).flatten(1)
    variances, axes = torch.linalg.eigh(colours @ colours.T / colours.shape[1])
    variances, axes = variances.flip(0).clamp(min=0), axes.flip(1)
    if variances[0] <= 1e-12:
        raise ValueError("all pixels of these images are alike; they have no colours and no spectrum")
    alive = variances > 1e-6 * variances[0]
    deviations = variances.sqrt() * alive
    inverse = torch.where(alive, 1 / deviations.clamp(min=1e-30), 0.0)
    mix, unmix = axes * deviations, inverse[:, None] * axes.T
    amplitude = torch.fft.rfft2(_whitened(pixels, mean, unmix), norm="ortho").abs().mean(0)
    parts = (mean, mix, unmix, amplitude, log_power(pixels).mean(0))
    return ImageStatistics(*(part.float() for part in parts), size=tuple(pixels.shape[-2:]))


def log_power(pixels: Pixels) -> Float[Tensor, "n f"]:
    """Power of each picture at 1, 2, … min(h, w) // 2 cycles per image, mean over colours and directions, in dB.

    The mean colour is left out. Power below 1e-10, that of a blank picture, counts as 1e-10.
    """
    h, w = pixels.shape[-2:]
    power = torch.fft.fft2(pixels, norm="ortho").abs().square().mean(1)  # n, h, w
    radius = torch.hypot(_cycles(h, pixels)[:, None], _cycles(w, pixels)).round().long()
    rings = torch.stack([power[:, radius == r].mean(1) for r in range(1, min(h, w) // 2 + 1)], 1)
    return 10 * rings.clamp(min=1e-10).log10()


@dataclass(frozen=True)
class Parameterisation:
    """A way to write n pictures down.

    start: [n, …], what the optimiser moves.  draw: any rows of it as pixels in [0, 1].  lr: of Adam.
    project: of any rows, what is allowed nearest to them; applied after each step.
    """

    start: Tensor
    draw: Callable[[Tensor], Pixels]
    lr: float
    project: Callable[[Tensor], Tensor] = lambda values: values


def pixels(start: Pixels | None, draws: Tensor, statistics: ImageStatistics | None, size) -> Parameterisation:
    """The pixels themselves, cut to [0, 1] after each step; from uniform noise."""
    if start is None:
        start = draws[:, : 3 * size[0] * size[1]].view(-1, 3, *size)
    return Parameterisation(start, lambda x: x, lr=0.05, project=lambda x: x.clamp(0, 1))


def fourier(start: Pixels | None, draws: Tensor, statistics: ImageStatistics | None, size) -> Parameterisation:
    """Fourier coefficients scaled by 1 / frequency, of decorrelated colours; from near the mean colour.

    Without statistics, colours are red, green and blue about grey.  Pixels are cut to [0, 1] after each step: a
    squashing function in its place stalls where pixels are black or white.
    Source: Olah, Mordvintsev & Schubert 2017, "Feature visualization", preconditioning; the cut is this study's.
    """
    h, w = size
    frequency = torch.hypot(_cycles(h, draws)[:, None] / h, _cycles(w, draws)[: w // 2 + 1] / w)
    scale = 1 / frequency.clamp(min=1 / max(h, w))
    scale = scale / scale.square().mean().sqrt()
    colours = torch.full((3,), 0.5), torch.eye(3), torch.eye(3)
    if statistics is not None:
        length = statistics.mix.norm(dim=0).max()
        colours = statistics.mean, statistics.mix / length, statistics.unmix * length
    mean, mix, unmix = (part.to(draws) for part in colours)

    def to_pixels(coefficients: Tensor) -> Pixels:
        values = torch.fft.irfft2(torch.view_as_complex(coefficients) * scale, s=(h, w), norm="ortho")
        return _coloured(values, mean, mix)

    def to_coefficients(images: Pixels) -> Tensor:
        values = torch.fft.rfft2(_whitened(images, mean, unmix), norm="ortho")
        return torch.view_as_real(values / scale).contiguous()

    def draw(coefficients: Tensor) -> Pixels:
        images = to_pixels(coefficients)
        return images + (images.clamp(0, 1) - images).detach()  # rounding at the border must not stop a gradient

    coefficients = 0.01 * _normal(draws).view(-1, 3, h, w // 2 + 1, 2) if start is None else to_coefficients(start)
    return Parameterisation(coefficients, draw, lr=0.1, project=lambda x: to_coefficients(to_pixels(x).clamp(0, 1)))


def maco(start: Pixels | None, draws: Tensor, statistics: ImageStatistics | None, size) -> Parameterisation:
    """Phases alone, from random ones: amplitudes and mean colour stay the data set's; values beyond [0, 1] are cut.

    Source: Fel et al. 2023, "Unlocking feature visualization for deeper networks with magnitude constrained
    optimization"; there the spectrum is ImageNet's.
    """
    if statistics is None:
        raise ValueError("'maco' needs the statistics of a data set, whose spectrum it keeps: image_statistics(pixels)")
    h, w = size
    amplitude = statistics.amplitude.to(draws).clone()
    amplitude[:, 0, 0] = 0  # the mean is that of the data set
    mean, mix, unmix = (part.to(draws) for part in (statistics.mean, statistics.mix, statistics.unmix))
    phases = (2 * math.pi * draws[:, : 3 * h * (w // 2 + 1)] - math.pi).view(-1, 3, h, w // 2 + 1)
    if start is not None:
        phases = torch.fft.rfft2(_whitened(start, mean, unmix)).angle()

    def draw(phases: Tensor) -> Pixels:
        spectrum = torch.polar(amplitude.expand_as(phases), _odd(phases, w))
        values = torch.fft.irfft2(spectrum, s=(h, w), norm="ortho")
        return _coloured(values, mean, mix).clamp(0, 1)

    return Parameterisation(phases, draw, lr=0.2)


# name -> (start or None, random numbers [n, 6 h (w // 2 + 1)], statistics or None, (h, w)) -> Parameterisation
PARAMETERISATIONS: dict[str, Callable[..., Parameterisation]] = {"pixels": pixels, "fourier": fourier, "maco": maco}


def parameterise(
    name: str,
    sample_ids: Int[Tensor, " n"],
    *,
    seed: int | Int[Tensor, " n"],
    start: Pixels | None,
    statistics: ImageStatistics | None,
    size: tuple[int, int],
) -> Parameterisation:
    """The parameterisation of that name of n pictures, from `start` or from noise of each (seed, sample id).

    Raises ValueError for an unknown name, a start of another size, and statistics of another size where they matter.
    """
    if name not in PARAMETERISATIONS:
        raise ValueError(f"unknown parameterisation {name!r}; choose from {', '.join(PARAMETERISATIONS)}")
    if start is not None:
        check_images(start, colour=True)
        if len(start) != len(sample_ids) or tuple(start.shape[-2:]) != tuple(size):
            expected = (len(sample_ids), 3, *size)
            raise ValueError(f"the start is {tuple(start.shape)}, expected an image for each picture, {expected}")
        start = start.to(sample_ids.device).float()
    if name == "maco" and statistics is not None and statistics.size != tuple(size):
        raise ValueError(f"the statistics are of images of {statistics.size}, the pictures are {tuple(size)}")
    draws = uniform(sample_ids, seed, Stream.FREQUENCIES, draws=6 * size[0] * (size[1] // 2 + 1))
    return PARAMETERISATIONS[name](start, draws, statistics, tuple(size))


def _cycles(n: int, like: Tensor) -> Float[Tensor, " n"]:
    """Frequencies of a transform of n values in cycles, the later half negative."""
    return torch.fft.fftfreq(n, 1 / n, device=like.device, dtype=torch.float32)


def _whitened(images: Pixels, mean: Tensor, unmix: Tensor) -> Tensor:
    return torch.einsum("ij,njhw->nihw", unmix, images - mean[:, None, None])


def _coloured(values: Tensor, mean: Tensor, mix: Tensor) -> Pixels:
    return mean[:, None, None] + torch.einsum("ij,njhw->nihw", mix, values)


def _normal(draws: Tensor) -> Tensor:
    """Standard normal numbers of uniform ones; the steps of 2**-24 of those keep them below 5.3."""
    return torch.special.ndtri(draws.clamp(min=2**-25, max=1 - 2**-24))


def _odd(phases: Tensor, w: int) -> Tensor:
    """Phases of a real image: in the columns that hold both a frequency and its opposite, one is minus the other."""
    step = (w + 1) // 2  # columns 0 and, of an even width, w / 2
    both = phases[..., ::step]
    opposite = both.flip(-2).roll(1, -2)
    return phases.slice_scatter((both - opposite) / 2, dim=-1, step=step)
