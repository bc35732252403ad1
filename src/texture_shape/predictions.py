"""Answers of models to manipulated images and to cue conflicts: one row per model, image and condition."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from torch import nn
from tqdm.auto import tqdm

from src.data.batches import Batch
from src.data.image_set import ImageSet
from src.data.pixels import pixels_of, to_pixels
from src.models.predict import predict
from src.tables.statistics import without_logits
from src.tables.texture_shape import CORRUPTIONS, CUTOFFS, LEVELS
from src.texture_shape import corruptions, textures
from src.texture_shape.checks import cutoffs_for, levels_for
from src.texture_shape.frequency import cue_conflict
from src.texture_shape.manipulations import manipulate

Zoo = Mapping[tuple[str, int], nn.Module]  # (name, training seed) -> model, all on one device
Batches = Iterable[Batch]  # the same each time they are gone through
Levels = Mapping[str, Sequence[float]]  # condition -> levels


def predict_images(
    zoo: Zoo, loader: Batches, others: Mapping[str, Batches], corrupted: Batches, *, seed: int = 0
) -> pd.DataFrame:
    """Every model on the loader's images, clean and manipulated, on others, and on the corruptions if there are any.

    What is not there is told by `left_out`.  others: condition -> batches, shown as they are, at level 1.  corrupted:
    the images to corrupt.  Columns as of `predict_all`.
    """
    parts = [predict_manipulated(zoo, loader, seed=seed, progress="manipulations")]
    parts += [predict_all(zoo, batches, condition=name, level=1) for name, batches in others.items()]
    if not corruptions.missing(_side(loader)):
        parts.append(predict_corrupted(zoo, corrupted, seed=seed, progress="corruptions"))
    return pd.concat(parts, ignore_index=True)


def left_out(side: int, others: Iterable[str]) -> list[str]:
    """What images of this side are not shown as, each with the reason; others: of `predict_images`."""
    notes = []
    if "texture_only" not in others:
        notes.append(f"images of texture alone ({textures.missing(side)})")
    if reason := corruptions.missing(side):
        notes.append(f"the 19 corruptions ({reason})")
    levels, cutoffs = levels_for(side), cutoffs_for(side)
    for name, all_levels in LEVELS.items():
        if lost := [level for level in all_levels if level not in levels.get(name, ())]:
            notes.append(f"{name} {', '.join(f'{level:g}' for level in lost)} (not of images of {side} pixels)")
    if lost := [cutoff for cutoff in CUTOFFS if cutoff not in cutoffs]:
        notes.append(f"hybrid {', '.join(f'{cutoff:g}' for cutoff in lost)} (not of images of {side} pixels)")
    return notes


def _side(loader: Batches) -> int:
    return next(iter(loader))[0].shape[-1]


def predict_all(zoo: Zoo, batches: Batches, *, condition: str, level: float) -> pd.DataFrame:
    """Every model on the same batches, of which one is in memory at a time.

    Columns: model, model_seed, condition, level, sample_id, label, prediction, confidence (rounded to 0.001); rows
    model by model, images in the order of the batches.  Models come back in the mode they had.
    """
    parts: dict[tuple[str, int], list[pd.DataFrame]] = {key: [] for key in zoo}
    for batch in batches:
        for key, model in zoo.items():
            parts[key].append(without_logits(predict(model, [Batch(*batch)])).drop(columns="label_rank"))
    tables = []
    for (name, model_seed), rows in parts.items():
        table = pd.concat(rows, ignore_index=True)
        table["confidence"] = table["confidence"].round(3)  # a fifth of the space in a result file
        tables.append(table.assign(model=name, model_seed=model_seed, condition=condition, level=float(level)))
    return pd.concat(tables, ignore_index=True)


def predict_manipulated(
    zoo: Zoo, loader: Batches, *, conditions: Levels | None = None, seed: int = 0, progress: str | None = None
) -> pd.DataFrame:
    """Every model on every manipulation and level, and on the images as they are (condition "clean", level 0).

    conditions: manipulation -> levels, by default those that the images have (`levels_for`).  One pass over the images
    for each condition, for all classes and models.  Columns as of `predict_all`.
    """
    clean = predict_all(zoo, loader, condition="clean", level=0)
    conditions = levels_for(_side(loader)) if conditions is None else conditions
    return pd.concat([clean, _predict_changed(zoo, loader, manipulate, conditions, seed, progress)], ignore_index=True)


def predict_corrupted(zoo: Zoo, loader: Batches, *, seed: int = 0, progress: str | None = None) -> pd.DataFrame:
    """Every model on the 19 corruptions (conditions) at severities 1 to 5 (levels); columns as of `predict_all`.

    Raises ImportError where the optional package is not installed.
    """
    conditions = dict.fromkeys(CORRUPTIONS, corruptions.SEVERITIES)
    return _predict_changed(zoo, loader, corruptions.corrupt, conditions, seed, progress)


def _predict_changed(
    zoo: Zoo, loader: Batches, change: Callable, conditions: Levels, seed: int, progress: str | None
) -> pd.DataFrame:
    todo = [(name, level) for name, levels in conditions.items() for level in levels]
    parts = []
    for name, level in tqdm(todo, desc=progress, disable=progress is None, leave=False):
        batches = (
            Batch(change(name, pixels, ids, seed=seed, level=level), labels, ids) for pixels, labels, ids in loader
        )
        parts.append(predict_all(zoo, batches, condition=name, level=level))
    return pd.concat(parts, ignore_index=True)


def right_for_all(zoo: Zoo, loader: Batches) -> Bool[np.ndarray, " n"]:
    """Which of the loader's images every model classifies correctly, in their order."""
    clean = predict_all(zoo, loader, condition="clean", level=0)  # rows model by model
    return (clean["label"] == clean["prediction"]).to_numpy().reshape(len(zoo), -1).all(0)


def predict_conflicts(
    zoo: Zoo,
    image_set: ImageSet,
    pairs: pd.DataFrame,
    *,
    cutoffs: Sequence[float] | None = None,
    batch_size: int = 128,
    progress: str | None = None,
    painted: np.ndarray | None = None,
    style_pairs: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Every model on the pairs' cue conflicts: kind "phase" (level 1) and "hybrid" at each cut-off (its level).

    pairs: of `choose_pairs`.  cutoffs: by default those that the images have.  painted, style_pairs: uint8 images
    [n, h, w, 3] of `stylised` and the pairs they are of, for a third kind, "stylised" (level 1).
    Columns: those of the pairs, then model, model_seed, condition, level, prediction, confidence.
    """
    cutoffs = cutoffs_for(image_set.images.shape[2]) if cutoffs is None else cutoffs
    todo = [("phase", None), *(("hybrid", cutoff) for cutoff in cutoffs)]
    parts = []
    for kind, cutoff in tqdm(todo, desc=progress, disable=progress is None, leave=False):
        made = (
            cue_conflict(*images, kind=kind, cutoff=cutoff) for images in _images_of_pairs(image_set, pairs, batch_size)
        )
        parts.append(predict_pairs(zoo, made, pairs, condition=kind, level=1 if cutoff is None else cutoff))
    if painted is not None:
        batches = to_pixels(painted).split(batch_size)
        parts.append(predict_pairs(zoo, batches, style_pairs, condition="stylised", level=1))
    return pd.concat(parts, ignore_index=True)


def predict_pairs(
    zoo: Zoo, pixels: Iterable[torch.Tensor], pairs: pd.DataFrame, *, condition: str, level: float
) -> pd.DataFrame:
    """Every model on images made of the pairs, in batches, as the pairs come; columns as of `predict_conflicts`."""
    device = next((parameter.device for model in zoo.values() for parameter in model.parameters()), "cpu")

    def batches() -> Iterator[Batch]:
        done = 0
        for some in pixels:
            rows = pairs.iloc[done : done + len(some)]
            labels, ids = (torch.tensor(rows[name].to_numpy(), device=device) for name in ("shape_label", "pair"))
            yield Batch(some.to(device), labels, ids)
            done += len(some)
        if done != len(pairs):
            raise ValueError(f"{done} images do not match {len(pairs)} pairs")

    table = predict_all(zoo, batches(), condition=condition, level=level)
    table = table.rename(columns={"sample_id": "pair"}).drop(columns="label")
    return pairs.merge(table, on="pair").sort_values(["model", "model_seed", "pair"], ignore_index=True)


def _images_of_pairs(image_set: ImageSet, pairs: pd.DataFrame, batch_size: int) -> Iterator[tuple]:
    for first in range(0, len(pairs), batch_size):
        rows = pairs.iloc[first : first + batch_size]
        yield tuple(pixels_of(image_set, rows[name].to_numpy()) for name in ("shape_id", "texture_id"))
