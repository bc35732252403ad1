"""The command that trains the shipped weights again, by the recipes of `src.training.recipe`.

    python -m src.training cnn cifar10                    # or: make train MODEL=cnn DATASET=cifar10
    python -m src.training vit cifar100 --size small

Recipes and epochs were chosen on images held out of the training set; the test split is used once, for the card.
"""

import argparse
from dataclasses import replace

import torch

from src.models.build import COMPACT, build_model
from src.training.recipe import RECIPES
from src.training.saving import train_and_save


def main() -> None:
    """Read the command line, train, and say what came out."""
    parser = argparse.ArgumentParser("python -m src.training", description="Train a model; write its weights and card.")
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
