"""Tables of pictures: of each class by every network and method, and of images rebuilt from every network's stages."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from src.data.batches import Batch
from src.data.inputs import as_batches, bar
from src.data.pixels import to_arrays
from src.feature_vis.invert import invert_features
from src.feature_vis.layers import stages
from src.feature_vis.maximise import maximise_activation
from src.feature_vis.measures import Judges, Pixels, measure_classes, measure_inversions
from src.feature_vis.parameterisations import ImageStatistics
from src.models.access import as_zoo, check_classifiers, device_of
from src.models.build import family_of

Pictures = UInt8[np.ndarray, "n h w 3"]

# name -> options of `maximise_activation`
METHODS = {
    "pixels": dict(parameterisation="pixels", jitter=0, rotate=0, scale=0),
    "fourier": dict(parameterisation="fourier"),
    "maco": dict(parameterisation="maco"),
    "from image": dict(parameterisation="fourier"),  # from a real image of the next class
}


def judges_of(name: str, zoo: Mapping) -> Judges:
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
    zoo: Mapping,
    images: Iterable,
    statistics: ImageStatistics,
    *,
    methods: Sequence[str] = tuple(METHODS),
    n_seeds: int = 2,
    steps: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> tuple[pd.DataFrame, Pictures]:
    """Table and pictures of every class by every network and method, and of real images, all judged alike.

    zoo: name -> model, or (name, training seed) -> model.  images: test images, an `ImageSet` or what else `as_batches`
    takes, the first of each class for condition "real" and for the start of "from image"; a class of fewer than n_seeds
    starts from the same again.
    progress: whether to show a bar of steps.
    One row per model, model_seed, condition (method or "real"), target and seed: the columns of `measure_classes`,
    stop and n_steps ("" and 0 for real ones), sample_id (-1 for pictures), picture (row of the pictures), dataset.
    Raises ValueError for an unknown method, a class without an image, and what is no logits of the classes.
    """
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"unknown methods {', '.join(sorted(unknown))}; choose from {', '.join(METHODS)}")
    zoo, dataset = as_zoo(zoo), getattr(images, "name", "")
    real, there, n_classes = _real_images(images, n_seeds)
    check_classifiers(zoo, *real, n_classes)
    targets, seeds = real.labels, torch.arange(n_seeds).repeat_interleave(n_classes)
    start = real.pixels.unflatten(0, (n_seeds, n_classes)).roll(-1, 1).flatten(0, 1)
    parts, pictures = [], []
    with bar("classes", steps, progress, times=len(zoo) * len(methods), unit="step") as shown:
        for ((name, model_seed), model), method in product(zoo.items(), [*methods, "real"]):
            made, of = real.pixels[there], there
            facts = dict(stop="", n_steps=0, sample_id=real.sample_ids[there].numpy())
            if method != "real":
                options = METHODS[method] | dict(start=start if method == "from image" else None, steps=steps)
                options |= dict(statistics=statistics, seed=seed + 1000 * seeds, sample_ids=targets, progress=shown)
                done = maximise_activation(model, targets, **options)
                made, of = done.images, np.arange(len(targets))
                facts = dict(stop=done.stops, n_steps=done.n_steps.numpy(), sample_id=-1)
            table = measure_classes(made, targets[of], model=model, others=judges_of(name, zoo), statistics=statistics)
            places = np.arange(len(made)) + sum(map(len, pictures))
            table = table.assign(dataset=dataset, picture=places, seed=seeds.numpy()[of], **facts)
            parts.append(table.assign(model=name, model_seed=model_seed, condition=method))
            pictures.append(_to_bytes(made))
    return pd.concat(parts, ignore_index=True), np.concatenate(pictures)


def _real_images(images: Iterable, n: int) -> tuple[Batch, Int[np.ndarray, " m"], int]:
    """n images of each class, all first ones, then all second ones; which are no repetition; the number of classes."""
    batches = as_batches(images)
    found = first_of_each_class(batches, n, classes=range(batches.n_classes) if batches.n_classes else None)
    n_classes = batches.n_classes or max(found) + 1
    names = getattr(images, "classes", range(n_classes))
    if empty := [names[k] for k in range(n_classes) if k not in found]:
        raise ValueError(f"there is no image of class {empty[0]}; take more images")
    grid = list(product(range(n), range(n_classes)))
    rows = [found[k][i % len(found[k])] for i, k in grid]
    real = Batch(*(torch.stack(values) for values in zip(*rows, strict=True)))
    return real, np.flatnonzero([i < len(found[k]) for i, k in grid]), n_classes


def record_inversions(
    zoo: Mapping,
    images: Iterable,
    pool: Iterable,
    statistics: ImageStatistics,
    *,
    n_stages: int = 0,
    steps: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> tuple[pd.DataFrame, Pictures]:
    """Table and pictures of images rebuilt from stages of every network, beside noise and another image of the class.

    zoo, progress: as of `record_classes`.  images: to invert, an `ImageSet` or what else `as_batches` takes.
    pool: the same, where another image of each class is taken from, if it has one.  n_stages: of each network, from the
    stem to the logits; 0 for all.  One row per model, model_seed, layer, condition ("fourier", "noise" or "same class")
    and image: the columns of `measure_inversions`, sample_id, depth (0 to 1), picture (row of the pictures, -1 for
    references), dataset, seed.
    """
    zoo, batches = as_zoo(zoo), as_batches(images)
    originals, labels, ids = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    check_classifiers(zoo, originals, labels, ids, batches.n_classes)
    found = first_of_each_class(as_batches(pool), 1, classes=labels.unique().tolist(), without=ids)
    twins = [found[label][0][0] for label in labels.tolist() if label in found]
    every, paired = np.arange(len(ids)), np.flatnonzero([label in found for label in labels.tolist()])
    noise = torch.rand(originals.shape, generator=torch.Generator().manual_seed(seed))
    references = {"noise": (noise, every)} | ({"same class": (torch.stack(twins), paired)} if twins else {})
    todo = []
    for key, model in zoo.items():
        layers = stages(model, originals.to(device_of(model)))
        kept = np.linspace(0, len(layers) - 1, min(n_stages or len(layers), len(layers))).round().astype(int)
        todo += [(key, layers[i], i / (len(layers) - 1)) for i in kept]
    parts, pictures = [], []
    with bar("inversion", steps, progress, times=len(todo), unit="step") as shown:
        for (name, model_seed), layer, depth in todo:
            model = zoo[name, model_seed]
            options = dict(statistics=statistics, steps=steps, seed=seed, sample_ids=ids, progress=shown)
            made = invert_features(model, layer, originals, **options).images
            for condition, (pixels, of) in {"fourier": (made, every), **references}.items():
                judged = dict(model=model, layer=layer, others=judges_of(name, zoo))
                table = measure_inversions(pixels, originals[of], labels[of], **judged)
                places = np.arange(len(ids)) + len(ids) * len(pictures) if condition == "fourier" else -1
                facts = dict(model=name, model_seed=model_seed, condition=condition, layer=layer)
                parts.append(table.assign(sample_id=ids.numpy()[of], depth=depth, picture=places, **facts))
            pictures.append(_to_bytes(made))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(dataset=getattr(images, "name", ""), seed=seed), np.concatenate(pictures)


def first_of_each_class(
    batches: Iterable[Batch], n: int, *, classes: Sequence[int] | None, without: Tensor | None = None
) -> dict[int, list[tuple[Tensor, Tensor, Tensor]]]:
    """class -> the first images of it, up to n, each as (pixels, label, sample id) on the CPU.

    classes: no more batches are read once all of these have n images; None for all batches.  without: sample ids that
    are passed over.
    """
    found: dict[int, list[tuple]] = {}
    for batch in batches:
        for pixels, label, sample_id in zip(*(values.cpu() for values in batch), strict=True):
            if without is None or sample_id not in without:
                of_class = found.setdefault(int(label), [])
                of_class += [(pixels, label, sample_id)] if len(of_class) < n else []
        if classes is not None and all(len(found.get(k, ())) == n for k in classes):
            break
    return found


def _to_bytes(pixels: Pixels) -> Pictures:
    return (255 * to_arrays(pixels)).round().astype(np.uint8)
