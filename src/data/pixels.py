"""From stored images to pixels, and from pixels to what is shown."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from src.data.image_set import ImageSet


def to_pixels(images: UInt8[np.ndarray, "n h w c"]) -> Float[Tensor, "n c h w"]:
    """Stored images as pixels in [0, 1], on the CPU."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255


def to_arrays(pixels: Float[Tensor, "n c h w"]) -> Float[np.ndarray, "n h w c"]:
    """Pixels as arrays in [0, 1], for figures."""
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def pixels_of(image_set: ImageSet, sample_ids: Int[np.ndarray, " n"]) -> Float[Tensor, "n 3 h w"]:
    """The images with these sample ids, in this order, as pixels in [0, 1]; one may come more than once."""
    order = np.argsort(image_set.sample_ids)
    places = np.searchsorted(image_set.sample_ids, sample_ids, sorter=order).clip(max=len(order) - 1)
    rows = order[places]
    if (image_set.sample_ids[rows] != sample_ids).any():
        missing = np.asarray(sample_ids)[image_set.sample_ids[rows] != sample_ids]
        raise ValueError(
            f"{image_set.name} {image_set.split} has no sample_id {missing[0]} among its {len(order)} images"
        )
    return to_pixels(np.asarray(image_set.images[rows]))
