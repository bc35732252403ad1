"""The 19 common corruptions of Hendrycks & Dietterich 2019, by the optional package imagecorruptions-imaug."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from src.models.checks import check_images
from src.tables.texture_shape import CORRUPTIONS
from src.texture_shape.checks import check_colour, installed

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # pixels a side
_SEEDED_BY_ARGUMENT = ("impulse_noise", "glass_blur")  # the others take numpy's global generator


def available() -> bool:
    """Whether the optional package is installed."""
    return installed("imagecorruptions")


def missing(side: int) -> str:
    """Why images of this side cannot be corrupted; nothing where they can."""
    if not available():
        return "imagecorruptions-imaug is not installed: make texture"
    return "" if side >= SMALLEST else f"they need at least {SMALLEST} pixels a side, not {side}"


def corrupt(
    name: str, pixels: Float[Tensor, "n 3 s s"], sample_ids: Int[Tensor, " n"], *, seed: int = 0, level: int
) -> Float[Tensor, "n 3 s s"]:
    """The images after the corruption `name`, rounded to 8 bits as the package has them; level 0 gives them back.

    level: severity, 1 to 5.  Image after image, on the CPU: the package has no other way.  Each is drawn from
    (seed, sample id, name), the same draw at all severities; numpy's generator is left as it was.  Where spatter lets
    no drop fall, which the package takes for NaN, the image stays as it is.
    Raises ImportError where the package is not installed, ValueError for other names and levels, and for images below
    32 pixels, which it refuses.
    """
    check_images(pixels, sample_ids, what="sample_ids", square=True)
    check_colour(pixels, name)
    if name not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {name!r}; choose from {', '.join(CORRUPTIONS)}")
    if level not in (0, *SEVERITIES):
        raise ValueError(f"the severity of {name} is 0, 1, 2, 3, 4 or 5, not {level:g}")
    if pixels.shape[-1] < SMALLEST:
        raise ValueError(f"corruptions need at least {SMALLEST} pixels a side, not {pixels.shape[-1]}")
    if level == 0:
        return pixels.clone()
    if not available():
        how = "make texture, or pip install -r requirements-texture.txt"
        raise ImportError(f"corruptions need the package imagecorruptions-imaug: {how}")
    import imagecorruptions

    images = pixels.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    state = np.random.get_state()
    try:
        made = [
            _corrupt_one(imagecorruptions.corrupt, image, int(level), name, [seed % 2**32, i, CORRUPTIONS.index(name)])
            for image, i in zip(images, sample_ids.tolist(), strict=True)
        ]
    finally:
        np.random.set_state(state)
    corrupted = torch.from_numpy(np.array(made, np.uint8).reshape(images.shape)).to(pixels.device)
    return corrupted.permute(0, 3, 1, 2).to(pixels) / 255


def _corrupt_one(change, image: np.ndarray, severity: int, name: str, entropy: list[int]) -> np.ndarray:
    own_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    np.random.seed(own_seed)
    options = {"seed": own_seed} if name in _SEEDED_BY_ARGUMENT else {}
    try:
        with np.errstate(invalid="raise" if name == "spatter" else None):
            return change(image, severity=severity, corruption_name=name, **options)
    except FloatingPointError:  # no drop fell on so small an image; the package divides 0 by 0 and gives NaN
        return image
