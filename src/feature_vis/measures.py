"""What tells a picture from static, and an inversion from a guess. Every measure gives one number an image.

A target probability proves nothing: static reaches 0.99 in a few steps. What separates methods is whether the picture
holds when it is shifted, whether another architecture sees the same in it, and whether its spectrum is natural.
"""

from collections.abc import Mapping

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.feature_vis.layers import respond
from src.feature_vis.parameterisations import ImageStatistics, log_power

Pixels = Float[Tensor, "n 3 h w"]

SHIFT = 3  # pixels


@torch.no_grad()
def class_probability(model: nn.Module, pixels: Pixels, classes: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Softmax probability of each picture's class."""
    return model(pixels).float().softmax(1).gather(1, classes[:, None])[:, 0]


def shifted_probability(
    model: nn.Module, pixels: Pixels, classes: Int[Tensor, " n"], *, reach: int = SHIFT
) -> Float[Tensor, " n"]:
    """Mean of the class probability over the eight shifts by `reach` pixels; the border is repeated."""
    padded = F.pad(pixels, (reach,) * 4, mode="replicate")
    h, w = pixels.shape[-2:]
    places = [(y, x) for y in (0, reach, 2 * reach) for x in (0, reach, 2 * reach) if (y, x) != (reach, reach)]
    return torch.stack([class_probability(model, padded[:, :, y : y + h, x : x + w], classes) for y, x in places]).mean(
        0
    )


def total_variation(pixels: Pixels) -> Float[Tensor, " n"]:
    """Mean absolute difference of neighbours, across plus down, over colours; 0 for a blank picture, at most 2."""
    across = (pixels[..., 1:] - pixels[..., :-1]).abs().flatten(1).mean(1)
    down = (pixels[..., 1:, :] - pixels[..., :-1, :]).abs().flatten(1).mean(1)
    return across + down


def spectrum_distance(pixels: Pixels, statistics: ImageStatistics) -> Float[Tensor, " n"]:
    """Root mean square difference in dB between a picture's power spectrum and the mean one of the data set.

    Over 1, 2, … cycles per image up to half the side, see `log_power`. Natural images have some dB themselves.
    """
    return (log_power(pixels) - statistics.log_power.to(pixels)).square().mean(1).sqrt()


def feature_distance(found: Tensor, wanted: Tensor) -> Float[Tensor, " n"]:
    """Squared distance of each row over the squared length of what is wanted (Mahendran & Vedaldi 2015, eq. 2)."""
    return (found - wanted).flatten(1).square().sum(1) / wanted.flatten(1).square().sum(1)


def psnr(pixels: Pixels, originals: Pixels) -> Float[Tensor, " n"]:
    """Peak signal-to-noise ratio in dB, of a peak of 1; inf for equal images."""
    return -10 * (pixels - originals).square().flatten(1).mean(1).log10()


def ssim(pixels: Pixels, originals: Pixels) -> Float[Tensor, " n"]:
    """Structural similarity, mean over colours and over the places where the window fits; 1 for equal images.

    Gaussian window of 11 pixels and standard deviation 1.5, K = 0.01 and 0.03.  Source: Wang et al. 2004, eq. 13.
    """
    side = 11
    if min(pixels.shape[-2:]) < side:
        raise ValueError(f"SSIM needs images of at least {side} pixels a side, not {tuple(pixels.shape[-2:])}")
    window = torch.exp(-0.5 * ((torch.arange(side, device=pixels.device) - side // 2) / 1.5) ** 2)
    window = (window / window.sum()).to(pixels)
    n, c = pixels.shape[:2]

    def blur(values: Tensor) -> Tensor:
        values = F.conv2d(values.flatten(0, 1)[:, None], window.view(1, 1, 1, -1))
        return F.conv2d(values, window.view(1, 1, -1, 1)).view(n, c, -1)

    a, b = blur(pixels), blur(originals)
    var_a, var_b = blur(pixels.square()) - a.square(), blur(originals.square()) - b.square()
    covariance = blur(pixels * originals) - a * b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * a * b + c1) * (2 * covariance + c2) / ((a.square() + b.square() + c1) * (var_a + var_b + c2))
    return similarity.flatten(1).mean(1)


@torch.no_grad()
def measure_classes(
    pixels: Pixels,
    classes: Int[Tensor, " n"],
    *,
    model: nn.Module,
    others: Mapping[str, nn.Module],
    statistics: ImageStatistics,
    batch_size: int = 250,
) -> pd.DataFrame:
    """One row per picture: target, p, p_shift, p_transfer, tv, spectrum_db.

    others: networks of another architecture, which took no part in making the pictures; p_transfer is the mean of the
    class probabilities that they give, NaN without any.
    """
    device = next(model.parameters()).device
    parts = []
    for images, own in zip(pixels.to(device).split(batch_size), classes.to(device).split(batch_size), strict=True):
        elsewhere = [class_probability(other, images, own) for other in others.values()]
        blank = torch.full((len(own),), torch.nan)
        columns = dict(
            target=own,
            p=class_probability(model, images, own),
            p_shift=shifted_probability(model, images, own),
            p_transfer=torch.stack(elsewhere).mean(0) if elsewhere else blank,
            tv=total_variation(images),
            spectrum_db=spectrum_distance(images, statistics),
        )
        parts.append(pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()}))
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def measure_inversions(
    pixels: Pixels,
    originals: Pixels,
    classes: Int[Tensor, " n"],
    *,
    model: nn.Module,
    layer: str,
    others: Mapping[str, nn.Module],
) -> pd.DataFrame:
    """One row per picture: label, distance (relative, of the features), psnr, ssim, tv, p_transfer.

    p_transfer: mean probability that networks of another architecture give the class of the original; NaN without any.
    """
    device = next(model.parameters()).device
    pixels, originals, classes = pixels.to(device), originals.to(device), classes.to(device)
    elsewhere = [class_probability(other, pixels, classes) for other in others.values()]
    columns = dict(
        label=classes,
        distance=feature_distance(respond(model, pixels, layer).float(), respond(model, originals, layer).float()),
        psnr=psnr(pixels, originals),
        ssim=ssim(pixels, originals),
        tv=total_variation(pixels),
        p_transfer=torch.stack(elsewhere).mean(0) if elsewhere else torch.full((len(classes),), torch.nan),
    )
    return pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})
