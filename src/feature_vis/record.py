"""Tables of pictures: of each class by every network and method, and of images rebuilt from every network's stages."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8
from torch import nn
from tqdm.auto import tqdm

from src.data.image_set import ImageSet
from src.data.pixels import to_arrays, to_pixels
from src.feature_vis.invert import invert_features
from src.feature_vis.layers import stages
from src.feature_vis.maximise import maximise_activation
from src.feature_vis.measures import Judges, Pixels, measure_classes, measure_inversions
from src.feature_vis.parameterisations import ImageStatistics
from src.models.build import family_of

Zoo = Mapping[tuple[str, int], nn.Module]  # (name, training seed) -> model
Pictures = UInt8[np.ndarray, "n h w 3"]

# name -> options of `maximise_activation`
METHODS = {
    "pixels": dict(parameterisation="pixels", jitter=0, rotate=0, scale=0),
    "fourier": dict(parameterisation="fourier"),
    "maco": dict(parameterisation="maco"),
    "from image": dict(parameterisation="fourier"),  # from a real image of the next class
}


def judges_of(name: str, zoo: Zoo) -> Judges:
    """The models of another architecture than that of `name`, each at the first training seed of the zoo."""
    families = {other: _family(other, model) for (other, _), model in zoo.items()}
    judges = {}
    for (other, _), model in zoo.items():
        if families[other] != families[name]:
            judges.setdefault(other, model)
    return judges


def _family(name: str, model: nn.Module) -> str:
    """The architecture that `build_model` has noted, or that of a name; the name itself for a module of one's own."""
    name = getattr(model, "name", "") or name
    try:
        return getattr(model, "family", "") or family_of(name)
    except ValueError:
        return name


def record_classes(
    zoo: Zoo,
    images: ImageSet,
    statistics: ImageStatistics,
    *,
    methods: Sequence[str] = tuple(METHODS),
    n_seeds: int = 2,
    steps: int = 100,
    seed: int = 0,
) -> tuple[pd.DataFrame, Pictures]:
    """Table and pictures of every class by every network and method, and of real images, all judged alike.

    images: test images, the first of each class for condition "real" and for the start of "from image"; a class of
        fewer than n_seeds starts from the same again.
    One row per model, model_seed, condition (method or "real"), target and seed: the columns of `measure_classes`,
    stop and n_steps ("" and 0 for real ones), sample_id (-1 for pictures), picture (row of the pictures), dataset.
    Raises ValueError for an unknown method, and for a class without an image.
    """
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"unknown methods {', '.join(sorted(unknown))}; choose from {', '.join(METHODS)}")
    n_classes = len(images.classes)
    targets, seeds = torch.arange(n_classes).repeat(n_seeds), torch.arange(n_seeds).repeat_interleave(n_classes)
    of_class = [np.flatnonzero(images.labels == k)[:n_seeds] for k in range(n_classes)]
    if empty := [name for name, some in zip(images.classes, of_class, strict=True) if not len(some)]:
        raise ValueError(f"{images.name} {images.split} has no image of class {empty[0]}; take more images")
    rows = np.stack([np.resize(some, n_seeds) for some in of_class], 1).flatten()
    there = (np.arange(n_seeds)[:, None] < [len(some) for some in of_class]).flatten()  # not a repetition
    real = to_pixels(images.images[rows])
    start = real.unflatten(0, (n_seeds, n_classes)).roll(-1, 1).flatten(0, 1)
    parts, pictures = [], []
    for (name, model_seed), model in tqdm(zoo.items(), desc="classes"):
        for method in [*methods, "real"]:
            if method == "real":
                made, of = real[there], np.flatnonzero(there)
                facts = dict(stop="", n_steps=0, sample_id=images.sample_ids[rows[there]])
            else:
                options = METHODS[method] | dict(start=start if method == "from image" else None, steps=steps)
                options |= dict(statistics=statistics, seed=seed + 1000 * seeds, sample_ids=targets)
                done = maximise_activation(model, targets, **options)
                made, of = done.images, np.arange(len(targets))
                facts = dict(stop=done.stops, n_steps=done.n_steps.numpy(), sample_id=-1)
            table = measure_classes(made, targets[of], model=model, others=judges_of(name, zoo), statistics=statistics)
            places = np.arange(len(made)) + sum(map(len, pictures))
            table = table.assign(dataset=images.name, picture=places, seed=seeds.numpy()[of], **facts)
            parts.append(table.assign(model=name, model_seed=model_seed, condition=method))
            pictures.append(_to_bytes(made))
    return pd.concat(parts, ignore_index=True), np.concatenate(pictures)


def record_inversions(
    zoo: Zoo,
    images: ImageSet,
    pool: ImageSet,
    statistics: ImageStatistics,
    *,
    n_stages: int = 0,
    steps: int = 200,
    seed: int = 0,
) -> tuple[pd.DataFrame, Pictures]:
    """Table and pictures of images rebuilt from stages of every network, beside noise and another image of the class.

    images: to invert.  pool: where another image of each class is taken from, if it has one.  n_stages: of each
    network, from the stem to the logits; 0 for all.  One row per model, model_seed, layer, condition ("fourier",
    "noise" or "same class") and image: the columns of `measure_inversions`, sample_id, depth (0 to 1), picture (row of
    the pictures, -1 for references), dataset, seed.
    """
    originals, labels, ids = to_pixels(images.images), torch.from_numpy(images.labels), images.sample_ids
    rest = ~np.isin(pool.sample_ids, ids)
    twins = [np.flatnonzero((pool.labels == k) & rest)[:1] for k in images.labels]
    every, paired = np.arange(len(ids)), np.flatnonzero([len(twin) for twin in twins])
    noise = torch.rand(originals.shape, generator=torch.Generator().manual_seed(seed))
    references = {"noise": (noise, every)}
    if len(paired):
        references["same class"] = to_pixels(pool.images[np.concatenate(twins)]), paired
    parts, pictures = [], []
    for (name, model_seed), model in tqdm(zoo.items(), desc="inversion"):
        layers = stages(model, originals.to(next(model.parameters()).device))
        kept = np.linspace(0, len(layers) - 1, min(n_stages or len(layers), len(layers))).round().astype(int)
        for i in tqdm(kept, desc=name, leave=False):
            options = dict(statistics=statistics, steps=steps, seed=seed, sample_ids=torch.from_numpy(ids))
            made = invert_features(model, layers[i], originals, **options).images
            for condition, (shown, of) in {"fourier": (made, every), **references}.items():
                judged = dict(model=model, layer=layers[i], others=judges_of(name, zoo))
                table = measure_inversions(shown, originals[of], labels[of], **judged)
                places = np.arange(len(ids)) + len(ids) * len(pictures) if condition == "fourier" else -1
                facts = dict(model=name, model_seed=model_seed, condition=condition, layer=layers[i])
                parts.append(table.assign(sample_id=ids[of], depth=i / (len(layers) - 1), picture=places, **facts))
            pictures.append(_to_bytes(made))
    return pd.concat(parts, ignore_index=True).assign(dataset=images.name, seed=seed), np.concatenate(pictures)


def _to_bytes(pixels: Pixels) -> Pictures:
    return (255 * to_arrays(pixels)).round().astype(np.uint8)
