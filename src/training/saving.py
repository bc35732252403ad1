"""Trained weights: training by a recipe, the measurements on the card, the files."""

from pathlib import Path

import torch

from src.attacks import attack_curve
from src.data.image_set import ImageSet
from src.data.load import load_images
from src.data.loaders import make_loader
from src.models.build import PixelModel, build_model, family_of
from src.models.predict import predict
from src.models.weights import make_card, measured, save_weights, weights_path
from src.paths import CHECKPOINTS
from src.runtime import pick_device, seed_everything
from src.training import distributed
from src.training.loop import train
from src.training.recipe import TRAINED_ON, Recipe

N_HELD_OUT = 5_000
N_ATTACKED = 1_000  # test images for the robust accuracy on a card


def train_and_save(
    name: str,
    dataset: str,
    *,
    size: str,
    recipe: Recipe,
    label: str = "default",
    device: str = "auto",
    checkpoint_folder: Path = CHECKPOINTS,
) -> dict | None:
    """Train a compact model by `recipe`, write its weights and card, and return the card.

    An interrupted run goes on from its checkpoint.  Of several processes the first measures, writes and returns; the
    others return None.
    """
    data_name = TRAINED_ON.get(dataset, dataset)
    train_set, held_out = load_images(data_name, "train").split_off(N_HELD_OUT, seed=0)
    seed_everything(recipe.seed)
    model = build_model(name, dataset, weights=None, size=size)
    options = dict(val_set=held_out, checkpoint_folder=checkpoint_folder, device=pick_device(device))
    history = train(model, train_set, recipe, **options)
    if distributed.rank() > 0:
        return None
    with torch.no_grad():  # what is measured is what is stored
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())
    device = next(model.parameters()).device
    test_set = load_images(data_name, "test")
    test_table = predict(model, make_loader(test_set, batch_size=500, device=device))
    data = f"{data_name}: {len(train_set):,} training images; {len(held_out):,} more held out to choose the recipe"
    card = make_card(model, dataset, recipe, history, test_table, data=data, device=device)
    if recipe.eps_255:
        card["robust"] = pgd_accuracy(model, test_set.subset(min(N_ATTACKED, len(test_set)), seed=0), recipe, device)
    return save_weights(model.net, weights_path(family_of(name), name, dataset, label), card, half=True)


def pgd_accuracy(model: PixelModel, test_set: ImageSet, recipe: Recipe, device: torch.device | str) -> dict:
    """Accuracy under PGD-20 at the radius of adversarial training, with its interval, as a card has it."""
    loader = make_loader(test_set, batch_size=128, device=device)
    curve = attack_curve(model, loader, attack="pgd", steps=20, eps_grid=(recipe.eps_255 / 255,), seed=recipe.seed)
    return {"attack": f"PGD-20, Linf, {recipe.eps_255:g}/255"} | measured(curve)
