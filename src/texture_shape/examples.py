"""Example pictures: a few images under everything that is done to images, for a sheet."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from src.data.image_set import ImageSet
from src.data.pixels import pixels_of, to_arrays
from src.texture_shape.checks import cutoffs_for, levels_for
from src.texture_shape.frequency import cue_conflict
from src.texture_shape.manipulations import manipulate


def example_pictures(
    image_set: ImageSet, pairs: pd.DataFrame, slow: Mapping[str, ImageSet], *, seed: int = 0
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Name of a row -> caption -> pictures of k shape images, and the k as they are, [k, h, w, 3] in [0, 1].

    pairs: rows of those that `slow`, of `slow_images`, was made of.  For `plotting.texture_shape.manipulation_sheet`.
    """
    ids = pairs["shape_id"].to_numpy()
    shape, texture = pixels_of(image_set, ids), pixels_of(image_set, pairs["texture_id"].to_numpy())
    rows: dict[str, dict] = {"at full strength": {}}
    side = shape.shape[-1]
    for name, levels in levels_for(side).items():
        made = {level: manipulate(name, shape, torch.tensor(ids), seed=seed, level=level) for level in levels}
        if len(levels) > 1:
            rows[name.replace("_", " ")] = {f"{level:g}": pixels for level, pixels in made.items()}
        else:
            rows["at full strength"][name] = made[levels[0]]
    rows["cue conflict"] = {"texture of": texture, "phase": cue_conflict(shape, texture)}
    rows["cue conflict"]["cutout"] = cue_conflict(shape, texture, kind="cutout")
    rows["cue conflict"] |= {name.replace("_", " "): pixels_of(kept, ids) for name, kept in slow.items()}
    rows["low/high hybrid"] = {
        f"{cutoff:g}": cue_conflict(shape, texture, kind="hybrid", cutoff=cutoff) for cutoff in cutoffs_for(side)[1::2]
    }
    pictures = {row: {name: to_arrays(pixels) for name, pixels in made.items()} for row, made in rows.items()}
    return pictures, to_arrays(shape)
