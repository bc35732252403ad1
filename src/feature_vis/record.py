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
from src.models.access import as_zoo, device_of
from src.models.build import family_of
from src.models.checks import check_classifiers
from src.seeding import Stream, uniform

Pictures = UInt8[np.ndarray, "n h w 3"]

UNTRAINED = "untrained"  # condition of what is made with random weights

# name -> options of `maximise_activation`
METHODS = {
    "pixels": dict(parameterisation="pixels", jitter=0, rotate=0, scale=0),
    "fourier": dict(parameterisation="fourier"),
    "maco": dict(parameterisation="maco"),
    "from image": dict(parameterisation="fourier"),  # from a real image of the next class
}


def judges_of(name: str, zoo: Mapping, judges: Mapping | None = None) -> Judges:
    """The models of another architecture than that of `name` in the zoo, each at its first training seed.

    judges: to choose from, (name, training seed) -> model; those of the zoo for None.
    """
    own = next(_family(other, model) for (other, _), model in zoo.items() if other == name)
    chosen = {}
    for (other, _), model in (judges or zoo).items():
        if _family(other, model) != own:
            chosen.setdefault(other, model)
    return chosen


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
    judges: Mapping | None = None,
    untrained: Mapping | None = None,
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
    judges: networks that judge the pictures, but for those of the maker's architecture; those of the zoo for None.
    untrained: the same networks with random weights, whose pictures say what chance is: one of each class, by
    "fourier", condition "untrained".  progress: whether to show a bar of steps.
    One row per model, model_seed, condition (method, "real" or "untrained"), target and seed: the columns of
    `measure_classes`, stop and n_steps ("" and 0 for real ones), sample_id (-1 for pictures), picture (row of the
    pictures), dataset.
    Raises ValueError for an unknown method, a class without an image, and what is no logits of the classes.
    """
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"unknown methods {', '.join(sorted(unknown))}; choose from {', '.join(METHODS)}")
    zoo, dataset = as_zoo(zoo), getattr(images, "name", "")
    judges, untrained = as_zoo(judges) if judges else {}, as_zoo(untrained) if untrained else {}
    real, there, n_classes = _real_images(images, n_seeds)
    for networks in (zoo, untrained, judges):
        check_classifiers(networks, *real, n_classes)
    seeds = torch.arange(n_seeds).repeat_interleave(n_classes)
    start = real.pixels.unflatten(0, (n_seeds, n_classes)).roll(-1, 1).flatten(0, 1)
    every, first = np.arange(len(seeds)), np.arange(n_classes)
    todo = [(*one, method, every) for one, method in product(zoo.items(), methods)]
    todo += [(*one, UNTRAINED, first) for one in untrained.items()]
    todo += [(*one, "real", there) for one in zoo.items()]
    parts, pictures = [], []
    with bar("classes", steps, progress, times=len(todo) - len(zoo), unit="step") as shown:
        for (name, model_seed), model, condition, of in todo:
            made, targets = real.pixels[of], real.labels[of]
            facts = dict(stop="", n_steps=0, sample_id=real.sample_ids[of].numpy())
            if condition != "real":
                options = METHODS["fourier" if condition == UNTRAINED else condition]
                options = options | dict(start=start if condition == "from image" else None, statistics=statistics)
                options |= dict(steps=steps, progress=shown, seed=seed + 1000 * seeds[of], sample_ids=targets)
                done = maximise_activation(model, targets, **options)
                made, facts = done.images, dict(stop=done.stops, n_steps=done.n_steps.numpy(), sample_id=-1)
            others = judges_of(name, untrained if condition == UNTRAINED else zoo, judges or zoo)
            table = measure_classes(made, targets, model=model, others=others, statistics=statistics)
            places = np.arange(len(made)) + sum(map(len, pictures))
            table = table.assign(dataset=dataset, picture=places, seed=seeds.numpy()[of], **facts)
            parts.append(table.assign(model=name, model_seed=model_seed, condition=condition))
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
    judges: Mapping | None = None,
    untrained: Mapping | None = None,
    n_untrained: int = 0,
    n_stages: int = 0,
    steps: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> tuple[pd.DataFrame, Pictures]:
    """Table and pictures of images rebuilt from stages of every network, beside noise and another image of the class.

    zoo, judges, progress: as of `record_classes`.  images: to invert, an `ImageSet` or what else `as_batches` takes.
    pool: the same, where another image of each class is taken from, if it has one.  n_stages: of each network, from the
    stem to the logits; 0 for all.  untrained: the same networks with random weights; out of every other one of
    their stages, and the last, the first n_untrained images are rebuilt too (0 for all), condition "untrained".
    One row per model, model_seed, layer, condition ("fourier", "noise", "same class" or "untrained") and image: the
    columns of `measure_inversions`, sample_id, depth (0 to 1), picture (row of the pictures, -1 for references),
    dataset, seed.
    """
    zoo, batches = as_zoo(zoo), as_batches(images)
    judges, untrained = as_zoo(judges) if judges else {}, as_zoo(untrained) if untrained else {}
    originals, labels, ids = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    for networks in (zoo, untrained, judges):
        check_classifiers(networks, originals, labels, ids, batches.n_classes)
    found = first_of_each_class(as_batches(pool), 1, classes=labels.unique().tolist(), without=ids)
    twins = [found[label][0][0] for label in labels.tolist() if label in found]
    every, paired = np.arange(len(ids)), np.flatnonzero([label in found for label in labels.tolist()])
    noise = uniform(ids, seed, Stream.NOISE, draws=originals[0].numel()).view_as(originals)
    references = {"noise": (noise, every)} | ({"same class": (torch.stack(twins), paired)} if twins else {})
    todo = []
    for networks, condition, of in ((zoo, "fourier", every), (untrained, UNTRAINED, every[: n_untrained or None])):
        for (name, model_seed), model in networks.items():
            layers = stages(model, originals.to(device_of(model)))
            kept = np.linspace(0, len(layers) - 1, min(n_stages or len(layers), len(layers))).round().astype(int)
            kept = kept if condition == "fourier" else np.unique([*kept[::2], kept[-1]])
            facts = dict(model=name, model_seed=model_seed)
            todo += [(model, condition, of, facts | dict(layer=layers[i], depth=i / (len(layers) - 1))) for i in kept]
    parts, pictures, n = [], [], 0
    with bar("inversion", steps, progress, times=len(todo), unit="step") as shown:
        for model, condition, of, facts in todo:
            options = dict(statistics=statistics, steps=steps, seed=seed, sample_ids=ids[of], progress=shown)
            made = invert_features(model, facts["layer"], originals[of], **options).images
            others = judges_of(facts["model"], zoo if condition != UNTRAINED else untrained, judges or zoo)
            beside = references if condition != UNTRAINED else {}
            for this, (pixels, rows) in {condition: (made, of), **beside}.items():
                judged = dict(model=model, layer=facts["layer"], others=others)
                table = measure_inversions(pixels, originals[rows], labels[rows], **judged)
                places = np.arange(n, n + len(made)) if this == condition else -1
                parts.append(table.assign(sample_id=ids.numpy()[rows], picture=places, condition=this, **facts))
            pictures.append(_to_bytes(made))
            n += len(made)
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
