"""Checks of what a training is asked for by name, before torch is imported: model, recipe, images, file."""

import difflib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

from src.data import ImageSet, load_images
from src.data.load import check_dataset
from src.names import COMPACT, DEFAULT, UNTRAINED, ModelName, parse_dataset, weight_files
from src.training.recipe import RECIPES, TRAINED_ON, UNTUNED, Recipe

N_HELD_OUT = 5_000


class Sets(NamedTuple):
    """The images of a training.  dataset: the label, for files and cards.  source: what `load_images` was asked for."""

    dataset: str
    source: str
    train: ImageSet
    held_out: ImageSet
    test: ImageSet


def starts_trained(model: ModelName) -> bool:
    """Whether training goes on from weights: those that are named, or a timm or published model's own pretraining."""
    own = model.reference in COMPACT or ".py:" in model.reference
    return model.weights != UNTRAINED and not (own and model.weights == DEFAULT)


def parse_changes(texts: Sequence[str]) -> dict[str, int | float | str]:
    """Fields of a recipe and their values; ValueError for an unknown field or a value of another type.

    >>> parse_changes(["epochs=5", "lr=1e-3"])
    {'epochs': 5, 'lr': 0.001}
    """
    kinds, changes = {field.name: field.type for field in fields(Recipe)}, {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(f"--set {text}: no field {name!r}{hint}; write field=value, of {', '.join(kinds)}")
        try:
            changes[name] = kinds[name](value)
        except ValueError:
            what = {int: "a whole number", float: "a number"}[kinds[name]]
            raise ValueError(f"--set {text}: {name} is {what}, not {value!r}") from None
    return changes


def choose_recipe(model: ModelName, dataset: str, size: str | None, changes: dict) -> tuple[Recipe, str]:
    """The recipe of a model on a data set with changes to it, and the words that say what it was tuned for.

    dataset: a name with or without a label.  size: None for the size that the data set's recipe has.
    Raises ValueError for a size of a model that has none, and for changes that mean nothing.
    """
    _, source = parse_dataset(dataset)
    if size and model.reference not in COMPACT:
        raise ValueError(f"--size {size} is for {', '.join(COMPACT)}; {model.reference} has one size")
    keys = [key for key in RECIPES if key[:2] == (model.reference, source)]
    keys = [key for key in keys if key[2] == size] or (keys if size is None or "=" in size else [])  # a shape: as usual
    if keys and not starts_trained(model):
        recipe, about = RECIPES[keys[0]], f"the recipe of {' '.join(keys[0])}"
    else:
        about = f"a default recipe, not tuned for {model.label} on {dataset}"
        recipe = replace(UNTUNED, epochs=5, lr=3e-4) if starts_trained(model) else UNTUNED
        if model.reference == "cnn_robust":
            recipe = replace(recipe, eps_255=8.0, label_smoothing=0.0)
    try:
        recipe = replace(recipe, **changes)
    except ValueError as error:
        raise ValueError(f"--set: {error}") from None
    return recipe, about + (", changed by --set" if changes else "")


def load_sets(dataset: str, n_held_out: int | None = None) -> Sets:
    """The images of a data set, by a name with or without a label, some of the training images held out.

    n_held_out: None for 5,000, but a tenth at most.  Raises what `load_images` raises.
    """
    label, name = check_dataset(dataset)
    source = TRAINED_ON.get(name, name)
    train, test = (replace(load_images(source, split), name=label) for split in ("train", "test"))
    if train.classes != test.classes:
        said = " and test has ".join(", ".join(each.classes[:9]) for each in (train, test))
        raise ValueError(f"{name}: train has the classes {said}; give both the same, in one order")
    if n_held_out is None:
        n_held_out = max(1, min(N_HELD_OUT, len(train) // 10))
    rest, held_out = train.split_off(n_held_out, seed=0)
    return Sets(label, source, rest, held_out, test)


def weights_file(folder: Path, model: ModelName, dataset: str, label: str = DEFAULT) -> Path:
    """Where trained weights go: <model>_<data set>[_<label>].safetensors, as they are looked for by name."""
    return folder / weight_files(replace(model, weights=label), dataset)[0]


def check_free(path: Path) -> Path:
    """The path; FileExistsError where weights are there already."""
    if path.exists():
        raise FileExistsError(f"{path} is there already; give --label another name, or --replace to lose these weights")
    return path
