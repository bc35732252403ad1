"""The command that trains the shipped weights again, by the recipes of `src.training.recipe`.

    python -m src.training cnn cifar10                    # or: make train MODEL=cnn DATASET=cifar10
    python -m src.training vit cifar100 --size small

Recipes and epochs were chosen on images held out of the training set; the test split is used once, for the card.
"""

import argparse
from dataclasses import replace

import torch

from src.attacks import attack_curve
from src.data.image_set import ImageSet
from src.data.load import load_images
from src.data.loaders import make_loader
from src.models.build import COMPACT, PixelModel, build_model, family_of
from src.models.predict import predict
from src.models.weights import make_card, save_weights, weights_path
from src.paths import CHECKPOINTS
from src.runtime import pick_device, seed_everything
from src.tables.statistics import accuracy
from src.training import distributed
from src.training.loop import train
from src.training.recipe import RECIPES, TRAINED_ON, Recipe

N_HELD_OUT = 5_000
N_ATTACKED = 1_000  # test images for the robust accuracy on a card


def train_and_save(
    name: str, dataset: str, *, size: str, recipe: Recipe, label: str = "default", device: str = "auto"
) -> dict | None:
    """Train a compact model by `recipe`, write its weights and card, and return the card.

    An interrupted run goes on from its file in checkpoints/ (`make clean` removes them).  Of several processes the
    first measures, writes and returns; the others return None.
    """
    device = pick_device(device)
    path = weights_path(family_of(name), name, dataset, label)
    data_name = TRAINED_ON.get(dataset, dataset)
    train_set, held_out = load_images(data_name, "train").split_off(N_HELD_OUT, seed=0)

    seed_everything(recipe.seed)
    model = build_model(name, dataset, weights=None, size=size)
    history = train(model, train_set, recipe, val_set=held_out, checkpoint_folder=CHECKPOINTS, device=device)
    if distributed.number() > 0:
        return None
    device = next(model.parameters()).device
    with torch.no_grad():  # what is measured is what is stored
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())
    test_set = load_images(data_name, "test")
    test_table = predict(model, make_loader(test_set, batch_size=500, device=device))
    data = f"{data_name}: {len(train_set):,} training images; {len(held_out):,} more held out to choose the recipe"
    card = make_card(model, dataset, recipe, history, test_table, data=data, device=device)
    if recipe.eps_255:
        card["robust"] = pgd_accuracy(model, test_set.subset(min(N_ATTACKED, len(test_set)), seed=0), recipe, device)
    return save_weights(model.net, path, card, half=True)


def pgd_accuracy(model: PixelModel, test_set: ImageSet, recipe: Recipe, device: torch.device | str) -> dict:
    """What a card says of an adversarially trained network: accuracy under PGD-20 at the radius it was trained at."""
    loader = make_loader(test_set, batch_size=128, device=device)
    curve = attack_curve(model, loader, attack="pgd", steps=20, eps_grid=(recipe.eps_255 / 255,), seed=recipe.seed)
    measured = accuracy(curve).iloc[0]
    return {
        "attack": f"PGD-20, Linf, {recipe.eps_255:g}/255",
        "n": int(measured["n"]),
        "accuracy": float(measured["accuracy"]),
        "interval": [float(measured["low"]), float(measured["high"])],
    }


def main() -> None:
    """Read the command line, train, and say what came out."""
    parser = argparse.ArgumentParser(description="Train a compact model and write its weights and card.")
    parser.add_argument("model", choices=COMPACT)
    parser.add_argument("dataset", help="fashion_mnist, cifar10 or cifar100")
    parser.add_argument("--size", choices=("small", "base"), help="default: the data set's usual size")
    parser.add_argument("--label", default="default", help="name of the weights, e.g. seed1 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    size = asked.size or build_model(asked.model, asked.dataset, weights=None).size
    key = (asked.model, asked.dataset, size)
    if key not in RECIPES:
        choices = "; ".join(" ".join(known) for known in RECIPES)
        parser.error(f"no recipe for {' '.join(key)}; there are: {choices}. Add one to src/training/recipe.py.")
    recipe = replace(RECIPES[key], seed=asked.seed)
    card = train_and_save(*key[:2], size=size, recipe=recipe, label=asked.label, device=asked.device)
    if card:
        test = card["test"]
        print(f"{card['file']}: {test['accuracy']:.2%} {test['interval']} on {test['n']:,} test images")


if __name__ == "__main__":
    main()
