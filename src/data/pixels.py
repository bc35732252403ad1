"""Pixels in [0, 1] from stored images, and arrays for figures from pixels."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from src.data.image_set import ImageSet


def channels_first(images: UInt8[np.ndarray, "n h w c"]) -> UInt8[Tensor, "n c h w"]:
    """A copy of stored images as torch wants them."""
    images = np.asarray(images).transpose(0, 3, 1, 2)
    copy = np.empty(images.shape, np.uint8)
    np.copyto(copy, images)  # twice as fast as torch's contiguous()
    return torch.from_numpy(copy)


def to_pixels(images: UInt8[np.ndarray, "n h w c"]) -> Float[Tensor, "n c h w"]:
    """Stored images as pixels in [0, 1], on the CPU.

    >>> to_pixels(np.full((1, 2, 2, 3), 255, np.uint8)).shape
    torch.Size([1, 3, 2, 2])
    """
    return channels_first(images).float() / 255


def to_arrays(pixels: Float[Tensor, "n c h w"]) -> Float[np.ndarray, "n h w c"]:
    """Pixels as arrays in [0, 1], for figures."""
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def pixels_of(image_set: ImageSet, sample_ids: Int[np.ndarray, " n"]) -> Float[Tensor, "n 3 h w"]:
    """The images with these sample ids, in this order, as pixels in [0, 1]; ids may repeat.

    Raises ValueError for an id that the set does not have.
    """
    rows = pd.Index(image_set.sample_ids).get_indexer(sample_ids)  # -1 where missing
    if (rows < 0).any():
        raise ValueError(
            f"{image_set.name} {image_set.split} has no sample_id {np.asarray(sample_ids)[rows < 0][0]} "
            f"among its {len(image_set)} images"
        )
    return to_pixels(image_set.images[rows])
