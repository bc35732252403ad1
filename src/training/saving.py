"""Trained weights: a network by its name trained by a recipe, the measurements on its card, the files."""

from pathlib import Path

import pandas as pd
import torch
from torch import nn

from src.attacks import attack_curve
from src.data import DATASETS, ImageSet
from src.data.loaders import make_loader
from src.models.build import PixelModel, build_model, classifier_name
from src.models.predict import predict
from src.models.weights import make_card, measured, read_card, save_head, save_weights
from src.names import DEFAULT, ModelName, parse_model
from src.paths import CHECKPOINTS
from src.runtime import seed_everything
from src.training import distributed
from src.training.inputs import Sets, starts_trained, weights_file
from src.training.loop import train
from src.training.recipe import Recipe

N_ATTACKED = 1_000  # test images for the robust accuracy on a card


def start_of(model: ModelName, sets: Sets, recipe: Recipe, *, size: str | None = None) -> PixelModel:
    """The network that training starts from, random numbers drawn by the recipe's seed; raises as `build_model`."""
    seed_everything(recipe.seed)
    dataset = sets.dataset if sets.dataset in DATASETS else sets.train
    weights = model.weights if starts_trained(model) else None
    network = build_model(model.reference, dataset, weights=weights, size=size)
    if model.reference.startswith("timm:"):  # its CNNs train a fifth to a half faster; a network's own .view might fail
        network.to(memory_format=torch.channels_last)
    return network


def train_and_save(
    network: PixelModel,
    model: ModelName,
    sets: Sets,
    recipe: Recipe,
    path: Path,
    *,
    control: str = "",
    half: bool = False,
    device: torch.device | str = "cpu",
    checkpoint_folder: Path = CHECKPOINTS,
) -> dict | None:
    """Train `network` in place by `recipe`, write its weights to `path` and its card beside them; return the card.

    control: what the training is a control for, for the card.  half: store the weights as float16.
    An interrupted run goes on from its checkpoint.  Of several processes the first measures, writes and returns; the
    others return None.
    """
    recipe, start = recipe.on(device), network.source
    uses = read_card(path).get("test_uses", 1) if path.exists() and path.with_suffix(".json").exists() else 0
    options = dict(val_set=sets.held_out, checkpoint_folder=checkpoint_folder, device=device)
    history = train(network, sets.train, recipe, **options)
    if distributed.rank() > 0:
        return None
    if half:
        _round_to_half(network)  # what is measured is what is stored
    device = next(network.parameters()).device
    test_table = predict(network, make_loader(sets.test, batch_size=500, device=device))
    images = f"{len(sets.train):,} training images; {len(sets.held_out):,} more held out to choose the recipe"
    options = dict(data=f"{sets.source}: {images}", device=device)
    card = make_card(network, sets.dataset, recipe, history, test_table, **options)
    card |= {"model": model.reference, "full_name": model.full, "start": start, "control": control}
    card |= {"test_uses": 1 + uses}
    card |= speed(history, len(sets.train), device)
    if recipe.eps_255:
        some = sets.test.subset(min(N_ATTACKED, len(sets.test)), seed=0)
        card["robust"] = pgd_accuracy(network, some, recipe, device)
    return save_weights(network.net, path, card, half=half)


def save_trained(
    network: PixelModel,
    name: str,
    dataset: str,
    recipe: Recipe,
    history: pd.DataFrame,
    test_table: pd.DataFrame,
    *,
    mode: str,
    folder: Path | str,
    data: str,
    label: str = DEFAULT,
) -> Path:
    """Write what `fine_tune` or `train` left as weights with a card, and return the file.

    name: of the model, as users write it.  dataset: its label.  data: a sentence on what it was trained on.
    mode: "linear" writes the classifier alone, and names on the card the backbone it belongs on: the file it came from,
    or timm's name, and a checksum.  Any other mode writes all weights.
    The file is <folder>/<model>_<data set>[_<label>].safetensors; one of the same kind is replaced.
    Raises ValueError where a head would replace a whole network or the other way round, and for a head on a backbone
    whose weights have no source.
    """
    model, device = parse_model(name), next(network.parameters()).device
    path, is_head = weights_file(Path(folder), model, dataset, label), mode == "linear"
    if path.exists() and bool(read_card(path).get("backbone")) != is_head:
        kinds = ("a whole network", "a head") if is_head else ("a head", "a whole network")
        raise ValueError(f"{path} holds {kinds[0]}, which {kinds[1]} does not replace; take another label or run")
    recipe = recipe.on(device)
    card = make_card(network, dataset, recipe, history, test_table, data=data, device=device)
    card |= {"model": model.reference, "full_name": model.full, "mode": mode, "start": network.source}
    if not is_head:
        save_weights(network.net, path, card)
        return path
    if not network.source:
        raise ValueError(f"{name} is a head on weights without a source; save all weights instead")
    backbone = dict(list(network.source.items())[-1:])  # what a head stood on comes after the head
    save_head(network.classifier, classifier_name(network.net), path, card | {"backbone": backbone})
    return path


def speed(history: pd.DataFrame, n_images: int, device: torch.device) -> dict:
    """Training images a second, and on how many cores, as a card has it; None cores on what is no CPU."""
    cores = torch.get_num_threads() * distributed.world_size() if device.type == "cpu" else None
    seconds = float(history["seconds"].sum())
    return {"images_per_s": round(n_images * len(history) / max(seconds, 1e-9), 1), "cores": cores}


def pgd_accuracy(model: PixelModel, test_set: ImageSet, recipe: Recipe, device: torch.device | str) -> dict:
    """Accuracy under PGD-20 at the radius of adversarial training, with its interval, as a card has it."""
    loader = make_loader(test_set, batch_size=128, device=device)
    curve = attack_curve(model, loader, attack="pgd", steps=20, eps_grid=(recipe.eps_255 / 255,), seed=recipe.seed)
    return {"attack": f"PGD-20, Linf, {recipe.eps_255:g}/255"} | measured(curve)


@torch.no_grad()
def _round_to_half(network: nn.Module) -> None:
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.half())
