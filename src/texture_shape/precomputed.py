"""Images that take seconds each, made once: kept in files that say how, as 8-bit values; what they lack is added.

They lie beside the tables of a run.  A shard has a file of its own, so that several can be written at once;
what any of them holds is used, and so is what results/ holds of the same images: how they are made is all in the
name of the file, and which they are in run.json.  To have them made again, delete the files of results/.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from src.data.image_set import ImageSet
from src.data.inputs import bar
from src.data.pixels import pixels_of
from src.files import read_images, write_images
from src.models.build import PixelModel
from src.results import GATHER, WHOLE, table_path
from src.runs import published_beside
from src.texture_shape import textures
from src.texture_shape.style_transfer import transfer_style

EXPERIMENT = "03_texture_shape"
_AT_ONCE = 16  # images between two writings of the file

Kept = dict[tuple[int, ...], UInt8[np.ndarray, "h w 3"]]  # sample ids -> image


def slow_images(
    image_set: ImageSet,
    pairs: pd.DataFrame,
    painter: PixelModel,
    *,
    folder: Path,
    seed: int,
    style_steps: int = 100,
    texture_steps: int = 300,
    shard: str = WHOLE,
    progress: bool = True,
) -> dict[str, ImageSet]:
    """The shape images of the pairs, with their labels, as "stylised" and, where they can be had, "texture_only".

    pairs: of `choose_pairs`, each shape image once.  painter: whose features carry the style.  progress: whether to
    show a bar of the images of each kind that have to be made.  Other arguments as of `stylised` and `texture_only`.
    """
    sources = image_set.take(pd.Index(image_set.sample_ids).get_indexer(pairs["shape_id"]))
    device = next(painter.parameters()).device
    shared = dict(folder=folder, shard=shard, progress=progress)
    of_texture = dict(seed=seed, steps=texture_steps, device=device)
    made = {
        "stylised": stylised(image_set, pairs, painter, steps=style_steps, **shared),
        "texture_only": texture_only(sources, **of_texture, **shared),
    }
    return {name: replace(sources, images=images) for name, images in made.items() if images is not None}


def stylised(
    image_set: ImageSet,
    pairs: pd.DataFrame,
    model: PixelModel,
    *,
    folder: Path,
    steps: int = 100,
    shard: str = WHOLE,
    progress: bool = True,
) -> UInt8[np.ndarray, "n h w 3"]:
    """The shape image of each pair in the style of its texture image, by the features of `model`; as the pairs come.

    folder: of the run.  shard: whose file takes what has to be made; "gather" puts the files of all into one.
    """
    facts = dict(kind="stylised", data=[image_set.name, image_set.split], steps=steps, weights=model.source)
    if not model.trained:
        raise ValueError("the network that lends its features has no trained weights, so nothing says which one it was")
    device = next(model.parameters()).device

    def make(keys: Int[np.ndarray, "n 2"]) -> Tensor:
        content, style = (pixels_of(image_set, ids).to(device) for ids in keys.T)
        return transfer_style(content, style, model, steps=steps)

    return _kept(folder, facts, pairs[["shape_id", "texture_id"]].to_numpy(), make, shard, progress)


def texture_only(
    image_set: ImageSet,
    *,
    folder: Path,
    seed: int = 0,
    steps: int = 300,
    device: torch.device | str = "cpu",
    shard: str = WHOLE,
    progress: bool = True,
) -> UInt8[np.ndarray, "n h w 3"] | None:
    """The texture of each image alone; None where a file lacks some, and they cannot be made (`textures.missing`)."""
    facts = dict(kind="textures", data=[image_set.name, image_set.split], steps=steps, seed=seed)
    keys = image_set.sample_ids[:, None]
    kept = [*_files(folder, facts), *_published(folder, facts)]
    if textures.missing(image_set.images.shape[2]) and _missing(keys, _read(kept, 1)):
        return None

    def make(keys: Int[np.ndarray, "n 1"]) -> Tensor:
        pixels, ids = pixels_of(image_set, keys[:, 0]).to(device), torch.from_numpy(keys[:, 0]).to(device)
        return textures.synthesise_texture(pixels, ids, seed, steps=steps)

    return _kept(folder, facts, keys, make, shard, progress)


def _kept(
    folder: Path, facts: dict, keys: np.ndarray, make: Callable, shard: str, progress: bool
) -> UInt8[np.ndarray, "n h w 3"]:
    """The images of these keys, made if no file holds them; a run that is stopped goes on where it was.

    What a published file holds of them is copied, so that a run has all that its tables were made of.
    """
    path = _path(folder, facts, shard)
    images, own = (_read(files, keys.shape[1]) for files in (_files(folder, facts), [path]))
    for published in _published(folder, facts):
        there = _read([published], keys.shape[1])
        if found := {key: there[key] for key in _missing(keys, images) if key in there}:
            print(f"{facts['kind']}: {len(found)} images are those of {'/'.join(published.parts[-4:])}")
            images, own = images | found, own | found
            _write(path, own, facts)
    missing = _missing(keys, images)
    with bar(facts["kind"], len(missing), progress and bool(missing)) as shown:
        for first in range(0, len(missing), _AT_ONCE):
            some = np.array(missing[first : first + _AT_ONCE])
            made = make(some).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            own |= dict(zip(map(tuple, some.tolist()), made, strict=True))
            _write(path, own, facts)
            shown.update(len(some))
    images |= own
    parts = [part for part in _files(folder, facts) if part != path]
    if shard == GATHER and parts:
        _write(path, images, facts)
        for part in parts:
            part.unlink()
    return np.stack([images[tuple(key)] for key in keys.tolist()])


def _path(folder: Path, facts: dict, shard: str = WHOLE) -> Path:
    """A file of its own for every way of making the images, and every shard."""
    own = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    return table_path(folder, EXPERIMENT, f"{facts['kind']}_{own}", shard).with_suffix(".npz")


def _files(folder: Path, facts: dict) -> list[Path]:
    """The files of all shards."""
    whole = _path(folder, facts)
    return sorted([*whole.parent.glob(whole.name), *whole.parent.glob(f"{whole.stem}.*of*.npz")])


def _published(folder: Path, facts: dict) -> list[Path]:
    """The files of published runs on the images of this one."""
    return [file for other in published_beside(folder) for file in _files(other, facts)]


def _missing(keys: np.ndarray, images: Kept) -> list[tuple[int, ...]]:
    return [key for key in dict.fromkeys(map(tuple, keys.tolist())) if key not in images]


def _read(paths: list[Path], n_keys: int) -> Kept:
    """What those of the files hold that are there."""
    kept: Kept = {}
    for path in filter(Path.exists, paths):
        arrays = read_images(path)
        keys, images = arrays["sample_ids"], arrays["images"]
        if keys.shape != (len(images), n_keys) or images.dtype != np.uint8:
            raise ValueError(f"{path} is not a file of precomputed images; delete it, and it is made again")
        kept |= dict(zip(map(tuple, keys.tolist()), images, strict=True))
    return kept


def _write(path: Path, images: Kept, facts: dict) -> None:
    """Sorted by key, with the facts as text."""
    keys = sorted(images)
    beside = dict(sample_ids=np.array(keys), facts=np.array(json.dumps(facts)))
    write_images(path, np.stack([images[key] for key in keys]), **beside)
