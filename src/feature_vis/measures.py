"""Measures that tell a picture from static, and an inversion from a guess: one number an image.

A target probability proves nothing: static reaches 0.99 in a few steps. What separates methods is whether the picture
holds when it is shifted, whether another architecture sees the same in it, and whether its spectrum is natural.
"""

from collections.abc import Mapping

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from src.feature_vis.layers import respond
from src.feature_vis.parameterisations import ImageStatistics, log_power
from src.models.access import forward

Pixels = Float[Tensor, "n 3 h w"]
Classes = Int[Tensor, " n"]
Values = Float[Tensor, " n"]
Judges = Mapping[str, nn.Module]  # networks of another architecture, which took no part in making the pictures

SHIFT = 3  # pixels
WINDOW = 11  # pixels a side, of SSIM


@torch.no_grad()
def class_probability(model: nn.Module, pixels: Pixels, classes: Classes) -> Values:
    """Softmax probability of each picture's class."""
    return forward(model, pixels).softmax(1).gather(1, classes[:, None])[:, 0]


def shifted_probability(model: nn.Module, pixels: Pixels, classes: Classes, *, reach: int = SHIFT) -> Values:
    """Mean of the class probability over the eight shifts by `reach` pixels; the border is repeated."""
    padded = F.pad(pixels, (reach,) * 4, mode="replicate")
    h, w = pixels.shape[-2:]
    places = [(y, x) for y in (0, reach, 2 * reach) for x in (0, reach, 2 * reach) if (y, x) != (reach, reach)]
    seen = [class_probability(model, padded[:, :, y : y + h, x : x + w], classes) for y, x in places]
    return torch.stack(seen).mean(0)


def judged(judges: Judges, pixels: Pixels, classes: Classes) -> dict[str, Values]:
    """The class probabilities that other networks give: p_by_<judge> for each, and p_transfer, their mean.

    Without any judge p_transfer is NaN.
    """
    given = {f"p_by_{name}": class_probability(model, pixels, classes) for name, model in judges.items()}
    mean = torch.stack([*given.values()]).mean(0) if given else torch.full((len(classes),), torch.nan)
    return dict(p_transfer=mean) | given


def total_variation(pixels: Pixels) -> Values:
    """Mean absolute difference of neighbours, across plus down, over colours; 0 for a blank picture, at most 2."""
    across = (pixels[..., 1:] - pixels[..., :-1]).abs().flatten(1).mean(1)
    down = (pixels[..., 1:, :] - pixels[..., :-1, :]).abs().flatten(1).mean(1)
    return across + down


def spectrum_distance(pixels: Pixels, statistics: ImageStatistics) -> Values:
    """Root mean square difference in dB between a picture's power spectrum and the mean one of the data set.

    Over 1, 2, … cycles per image up to half the side, see `log_power`. Natural images have some dB themselves.
    """
    return (log_power(pixels) - statistics.log_power.to(pixels)).square().mean(1).sqrt()


def feature_distance(features: Tensor, wanted: Tensor) -> Values:
    """Squared distance of each row over the squared length of what is wanted (Mahendran & Vedaldi 2015, eq. 2).

    >>> feature_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
    tensor([0.2500])
    """
    return (features - wanted).flatten(1).square().sum(1) / wanted.flatten(1).square().sum(1)


def psnr(pixels: Pixels, originals: Pixels) -> Values:
    """Peak signal-to-noise ratio in dB, of a peak of 1; inf for equal images."""
    return peak_signal_noise_ratio(pixels, originals, data_range=1.0, reduction="none", dim=(1, 2, 3))


def ssim(pixels: Pixels, originals: Pixels) -> Values:
    """Structural similarity, mean over colours and over the places where the window fits; 1 for equal images.

    Gaussian window of 11 pixels and standard deviation 1.5, K = 0.01 and 0.03.  Source: Wang et al. 2004, eq. 13.
    """
    if min(pixels.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW} pixels a side, not {tuple(pixels.shape[-2:])}")
    pair = pixels.cpu().double(), originals.cpu().double()  # float32 errs by 1e-4 where an image is flat
    options = dict(kernel_size=WINDOW, sigma=1.5, data_range=1.0, return_full_image=True)
    _, places = structural_similarity_index_measure(*pair, **options)
    border = WINDOW // 2  # where torchmetrics mirrors the image to fill the window
    return places[..., border:-border, border:-border].flatten(1).mean(1).to(pixels)


@torch.no_grad()
def measure_classes(
    pixels: Pixels, classes: Classes, *, model: nn.Module, others: Judges, statistics: ImageStatistics
) -> pd.DataFrame:
    """One row per picture: target, p, p_shift, tv, spectrum_db, and those of `judged`."""
    device = next(model.parameters()).device
    pixels, classes = pixels.to(device), classes.to(device)
    return _table(
        target=classes,
        p=class_probability(model, pixels, classes),
        p_shift=shifted_probability(model, pixels, classes),
        tv=total_variation(pixels),
        spectrum_db=spectrum_distance(pixels, statistics),
        **judged(others, pixels, classes),
    )


@torch.no_grad()
def measure_inversions(
    pixels: Pixels, originals: Pixels, classes: Classes, *, model: nn.Module, layer: str, others: Judges
) -> pd.DataFrame:
    """One row per picture: label (of the original), distance (of the features), psnr, ssim, tv, those of `judged`."""
    device = next(model.parameters()).device
    pixels, originals, classes = pixels.to(device), originals.to(device), classes.to(device)
    return _table(
        label=classes,
        distance=feature_distance(respond(model, pixels, layer).float(), respond(model, originals, layer).float()),
        psnr=psnr(pixels, originals),
        ssim=ssim(pixels, originals),
        tv=total_variation(pixels),
        **judged(others, pixels, classes),
    )


def _table(**columns: Tensor) -> pd.DataFrame:
    return pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})
