"""Answers of models to manipulated images and to cue conflicts: one row per model, image and condition."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.data.batches import Batch
from src.data.image_set import ImageSet
from src.data.inputs import Batches, as_batches, bar
from src.data.pixels import pixels_of, to_pixels
from src.models.access import as_zoo, device_of
from src.models.checks import checked_together
from src.models.predict import first_choices, read_logits, run_on
from src.tables.texture_shape import CORRUPTIONS, CUTOFFS, LEVELS, TRANSFORMATIONS
from src.texture_shape import corruptions, textures
from src.texture_shape.checks import cutoffs_for, levels_for
from src.texture_shape.frequency import cue_conflict
from src.texture_shape.invariance import levels_of_transformations, transform
from src.texture_shape.manipulations import manipulate

Models = Mapping[str | tuple[str, int], nn.Module]  # name, or (name, training seed) -> model, all on one device
Images = Iterable  # images with labels, as `as_batches` takes them
Levels = Mapping[str, Sequence[float]]  # condition -> levels


def predict_images(
    zoo: Models,
    loader: Images,
    others: Mapping[str, Images],
    corrupted: Images,
    *,
    transformed: Images | None = None,
    painter: str = "",
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Every model on the loader's images, clean, manipulated and transformed, on others and, if any, on corruptions.

    What is not there is told by `left_out`.
    zoo: name -> model, or (name, training seed) -> model.  loader: images with labels, as `as_batches` takes them.
    others: condition -> such images, shown as they are, at level 1.  corrupted: the images to corrupt.
    transformed: those to shift, turn, scale and flip, of the loader's; by default all.
    painter: who painted the others called "stylised".  progress: whether to show bars.
    Columns: as of `predict_all`, and painter, empty but for "stylised".
    """
    zoo = as_zoo(zoo)
    corrupted = as_batches(corrupted, again=True, device=device_of(*zoo.values()))
    loader = as_batches(loader, again=True, device=device_of(*zoo.values()))
    transformed = loader if transformed is None else transformed
    parts = [predict_manipulated(zoo, loader, seed=seed, progress=progress)]
    parts.append(predict_transformed(zoo, transformed, seed=seed, progress=progress))
    parts += [predict_all(zoo, some, condition=name, level=1, progress=progress) for name, some in others.items()]
    if not corruptions.missing(_side(corrupted)):
        parts.append(predict_corrupted(zoo, corrupted, seed=seed, progress=progress))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(painter=np.where(table["condition"] == "stylised", painter, ""))


def left_out(side: int, others: Iterable[str]) -> list[str]:
    """What images of this side are not shown as, each with the reason; others: of `predict_images`."""
    notes = []
    if "texture_only" not in others:
        notes.append(f"images of texture alone ({textures.missing(side)})")
    if reason := corruptions.missing(side):
        notes.append(f"the 19 corruptions ({reason})")
    levels, cutoffs = levels_for(side) | levels_of_transformations(side), cutoffs_for(side)
    for name, all_levels in (LEVELS | TRANSFORMATIONS).items():
        if lost := [level for level in all_levels if level not in levels.get(name, ())]:
            notes.append(f"{name} {', '.join(f'{level:g}' for level in lost)} (not of images of {side} pixels)")
    if lost := [cutoff for cutoff in CUTOFFS if cutoff not in cutoffs]:
        notes.append(f"hybrid {', '.join(f'{cutoff:g}' for cutoff in lost)} (not of images of {side} pixels)")
    return notes


def _side(batches: Images) -> int:
    return next(iter(batches)).pixels.shape[-1]


def predict_all(
    zoo: Models, images: Images, *, condition: str, level: float, progress: bool | tqdm = True
) -> pd.DataFrame:
    """Every model on the same images, one batch of them in memory at a time.

    zoo, images: as of `predict_images`.  progress: whether to show a bar of each image and model, or a caller's bar.
    Columns: model, model_seed, condition, level, sample_id, label, prediction, confidence (rounded to 0.001); rows
    model by model, images in the order of the batches.  Models come back in the mode they had.
    """
    zoo = as_zoo(zoo)
    batches = as_batches(images, device=device_of(*zoo.values()))
    with bar(condition, batches, progress, times=len(zoo)) as shown:
        return _predict_each(zoo, batches, lambda batch: [(condition, level, batch.pixels)], shown)


def _predict_each(
    zoo: Models, batches: Batches, images_of: Callable[[Batch], Iterable[tuple[str, float, Tensor]]], shown: tqdm
) -> pd.DataFrame:
    """Every model on all that is made of a batch, batch after batch: one pass over them, each waited for once.

    images_of: batch -> condition, level and pixels, of each batch the same conditions in the same order.  Columns as of
    `predict_all`; rows condition by condition, in each model by model.
    """
    parts: dict[tuple, list[pd.DataFrame]] = {}
    for batch in batches:
        made = {}
        with checked_together():
            for condition, level, pixels in images_of(batch):
                for key, model in zoo.items():
                    made[*key, condition, float(level)] = run_on(model, pixels)
                    shown.update(len(batch.labels))
        sample_ids, labels, logits = read_logits(batch, [*made.values()], batches.n_classes)
        for key, some in zip(made, logits, strict=True):
            parts.setdefault(key, []).append(first_choices(sample_ids, labels, some))
    names = ("model", "model_seed", "condition", "level")
    tables = [pd.concat(rows).assign(**dict(zip(names, key, strict=True))) for key, rows in parts.items()]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(confidence=table["confidence"].round(3))  # a fifth of the space in a result file


def predict_manipulated(
    zoo: Models, loader: Images, *, conditions: Levels | None = None, seed: int = 0, progress: bool = True
) -> pd.DataFrame:
    """Every model on every manipulation and level, and on the images as they are (condition "clean", level 0).

    zoo, loader, progress: as of `predict_images`.  conditions: manipulation -> levels, by default those that the images
    have (`levels_for`).  One pass over the images, for all conditions, classes and models.  Columns as of
    `predict_all`.
    """
    zoo = as_zoo(zoo)
    batches = as_batches(loader, again=True, device=device_of(*zoo.values()))
    conditions = {"clean": [0]} | dict(levels_for(_side(batches)) if conditions is None else conditions)
    return _predict_changed(zoo, batches, manipulate, conditions, seed, "manipulations", progress)


def predict_transformed(zoo: Models, loader: Images, *, seed: int = 0, progress: bool = True) -> pd.DataFrame:
    """Every model on shifted, turned, scaled and flipped images (conditions) at the levels that the images have.

    zoo, loader, progress: as of `predict_images`; columns as of `predict_all`.
    """
    zoo = as_zoo(zoo)
    batches = as_batches(loader, again=True, device=device_of(*zoo.values()))
    conditions = levels_of_transformations(_side(batches))
    return _predict_changed(zoo, batches, transform, conditions, seed, "transformations", progress)


def predict_corrupted(zoo: Models, loader: Images, *, seed: int = 0, progress: bool = True) -> pd.DataFrame:
    """Every model on the 19 corruptions (conditions) at severities 1 to 5 (levels).

    zoo, loader, progress: as of `predict_images`; columns as of `predict_all`.
    Raises ImportError where the optional package is not installed.
    """
    zoo = as_zoo(zoo)
    batches = as_batches(loader, again=True, device=device_of(*zoo.values()))
    conditions = dict.fromkeys(CORRUPTIONS, corruptions.SEVERITIES)
    return _predict_changed(zoo, batches, corruptions.corrupt, conditions, seed, "corruptions", progress)


def _predict_changed(
    zoo: Models, batches: Batches, change: Callable, conditions: Levels, seed: int, what: str, progress: bool
) -> pd.DataFrame:
    todo = [(name, level) for name, levels in conditions.items() for level in levels]

    def images_of(batch: Batch) -> Iterator[tuple[str, float, Tensor]]:
        pixels, _, ids = batch
        for name, level in todo:
            yield name, level, pixels if name == "clean" else change(name, pixels, ids, seed=seed, level=level)

    with bar(what, batches, progress, times=len(todo) * len(zoo)) as shown:
        return _predict_each(zoo, batches, images_of, shown)


def predict_conflicts(
    zoo: Models,
    image_set: ImageSet,
    pairs: pd.DataFrame,
    *,
    cutoffs: Sequence[float] | None = None,
    batch_size: int = 128,
    progress: bool = True,
    painted: Mapping[str, np.ndarray] | None = None,
    style_pairs: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Every model on the pairs' cue conflicts: kinds "phase" and "cutout" (level 1), "hybrid" (level: cut-off).

    zoo, progress: as of `predict_images`.  pairs: of `choose_pairs`.  cutoffs: by default those that the images have.
    painted, style_pairs: painter -> uint8 images [n, h, w, 3] of `stylised`, and the pairs they are of, for a fourth
    kind, "stylised" (level 1).
    Columns: those of the pairs, then model, model_seed, condition, level, prediction, confidence; clean_right: whether
    the model classifies both images of the pair correctly as they are; and of stylised rows, empty for others, painter,
    and nearest: whether the pixels are nearer to those of the "shape" image or of the "texture" image.
    """
    cutoffs = cutoffs_for(image_set.images.shape[2]) if cutoffs is None else cutoffs
    zoo, todo = as_zoo(zoo), [("phase", None), ("cutout", None), *(("hybrid", cutoff) for cutoff in cutoffs)]
    painted = painted or {}
    sources = _sources(image_set, [pairs, *([style_pairs] if painted else [])])
    n_shown = len(sources) + len(pairs) * len(todo) + sum(map(len, painted.values()))
    with bar("cue conflicts", n_shown, progress, times=len(zoo)) as shown:
        parts, options = [], dict(n_classes=len(image_set.classes), progress=shown)
        batches = as_batches(sources, batch_size=batch_size, device=device_of(*zoo.values()))
        clean = predict_all(zoo, batches, condition="clean", level=0, progress=shown)
        for kind, cutoff in todo:
            images = _images_of_pairs(image_set, pairs, batch_size)
            made = (cue_conflict(*both, kind=kind, cutoff=cutoff) for both in images)
            level = 1 if cutoff is None else cutoff
            parts.append(predict_pairs(zoo, made, pairs, condition=kind, level=level, **options))
        for painter, images in painted.items():
            near = style_pairs.assign(painter=painter, nearest=_nearest(image_set, style_pairs, images))
            batches = to_pixels(images).split(batch_size)
            parts.append(predict_pairs(zoo, batches, near, condition="stylised", level=1, **options))
    table = pd.concat(parts, ignore_index=True)
    texts = {name: table[name].fillna("") if name in table else "" for name in ("painter", "nearest")}
    return table.assign(**texts, clean_right=_clean_right(table, clean))


def _sources(image_set: ImageSet, tables: Sequence[pd.DataFrame]) -> ImageSet:
    """The images that the pairs are made of, each once."""
    ids = np.unique(np.concatenate([table[["shape_id", "texture_id"]].to_numpy().ravel() for table in tables]))
    return image_set.take(pd.Index(image_set.sample_ids).get_indexer(ids))


def _clean_right(table: pd.DataFrame, clean: pd.DataFrame) -> np.ndarray:
    """Of each conflict, whether its model is right on both of its images; clean: of `predict_all` on the images."""
    keys = ["model", "model_seed", "sample_id"]
    right = clean.assign(right=clean["label"] == clean["prediction"]).set_index(keys)["right"]
    both = [
        right.loc[pd.MultiIndex.from_frame(table[["model", "model_seed", role]])].to_numpy()
        for role in ("shape_id", "texture_id")
    ]
    return both[0] & both[1]


def _nearest(image_set: ImageSet, pairs: pd.DataFrame, images: np.ndarray) -> np.ndarray:
    """To which image of its pair each picture is nearer, by squared distance of the pixels: "shape" or "texture"."""
    pixels = to_pixels(images)
    to_shape, to_texture = (
        (pixels - pixels_of(image_set, pairs[name].to_numpy())).square().sum((1, 2, 3)).numpy()
        for name in ("shape_id", "texture_id")
    )
    return np.where(to_shape <= to_texture, "shape", "texture")


def predict_pairs(
    zoo: Models,
    pixels: Iterable[torch.Tensor],
    pairs: pd.DataFrame,
    *,
    condition: str,
    level: float,
    n_classes: int | None = None,
    progress: bool | tqdm = True,
) -> pd.DataFrame:
    """Every model on images made of the pairs, in batches, as the pairs come; columns as of `predict_conflicts`.

    n_classes: of the data set, where it is known.  zoo, progress: as of `predict_all`.
    """
    zoo = as_zoo(zoo)
    device = device_of(*zoo.values())

    def batches() -> Iterator[Batch]:
        done = 0
        for some in pixels:
            rows = pairs.iloc[done : done + len(some)]
            labels, ids = (torch.tensor(rows[name].to_numpy(), device=device) for name in ("shape_label", "pair"))
            yield Batch(some.to(device), labels, ids)
            done += len(some)
        if done != len(pairs):
            raise ValueError(f"{done} images do not match {len(pairs)} pairs")

    made = Batches(batches(), n_images=len(pairs), n_classes=n_classes)
    table = predict_all(zoo, made, condition=condition, level=level, progress=progress)
    table = table.rename(columns={"sample_id": "pair"}).drop(columns="label")
    return pairs.merge(table, on="pair").sort_values(["model", "model_seed", "pair"], ignore_index=True)


def _images_of_pairs(image_set: ImageSet, pairs: pd.DataFrame, batch_size: int) -> Iterator[tuple]:
    for first in range(0, len(pairs), batch_size):
        rows = pairs.iloc[first : first + batch_size]
        yield tuple(pixels_of(image_set, rows[name].to_numpy()) for name in ("shape_id", "texture_id"))
