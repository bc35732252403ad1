"""The command that trains a network by its name on a data set by its name, and writes its weights and card.

    python -m src.training cnn cifar10                    # or: make train MODEL=cnn DATASET=cifar10
    python -m src.training timm:resnet10t folder:PICTURES@64 --set epochs=5 --set lr=1e-3 --label quick

The recipes of `src.training.recipe` and their epochs were chosen on images held out of the training set; the test split
is used once, for the card. What is asked for is checked before torch is imported.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from src.names import COMPACT, DEFAULT, ModelName, check_model, check_run, parse_dataset, slug
from src.paths import ROOT
from src.training.inputs import (
    Sets,
    check_free,
    choose_recipe,
    load_sets,
    parse_changes,
    weights_file,
)
from src.training.recipe import Recipe

USAGE = """make train MODEL=cnn DATASET=cifar10 [ARGS="--set epochs=5 --label quick"]"""


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, check it, import torch, train, and say what came out."""
    parser = make_parser()
    asked = parser.parse_args(arguments)
    try:
        model, recipe, path, sets = check(asked)
        import torch

        from src.runtime import keep_memory, pick_device
        from src.training import saving

        torch.set_num_threads(asked.threads or torch.get_num_threads())
        device = pick_device(asked.device)
        keep_memory()
        recipe = recipe.on(device)
        network = saving.start_of(model, sets, recipe, size=asked.size)
    except (ValueError, OSError, RuntimeError) as error:
        parser.error(str(error))
    card = saving.train_and_save(
        network, model, sets, recipe, path, control=asked.control, half=asked.ship, device=device
    )
    if card:
        test, name = card["test"], path.relative_to(ROOT)
        low, high = test["interval"]
        print(f"{name}: {test['accuracy']:.2%} [{low:.2%}, {high:.2%}] of {test['n']:,} test images right")
        print(f"its name: {'' if model.label == model.full else f'{model.label}='}{model.reference}@{name}")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line, in terms of `make train`."""
    parser = argparse.ArgumentParser("make train", usage=USAGE, description="Train a network; write weights and card.")
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="cnn, timm:resnet10t (from its pretraining), timm:resnet10t@untrained, net.py:build",
    )
    add("dataset", metavar="DATASET", help="a name that load_images takes, such as cifar10, pictures=folder:PATH@64")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the recipe; may be repeated")
    add("--size", help="of mlp, cnn and vit: small, base, or values as width=8; default: the data set's usual size")
    add("--label", default=DEFAULT, help="name of the weights, e.g. seed1 (default: %(default)s)")
    add("--run", help="the weights go to runs/RUN/weights (default: by_hand_DATASET)")
    add("--ship", action="store_true", help="the weights go to those of the repository; for mlp, cnn and vit")
    add("--replace", action="store_true", help="write over weights of that name")
    add("--control", default="", help="what the training is a control for, e.g. 'no smoothing'; kept on the card")
    add("--held-out", type=int, metavar="N", help="training images held out (default: 5000, at most a tenth)")
    add("--seed", type=int, help="short for --set seed=N")
    add("--device", default="auto", help="cpu, cuda or mps (default: the best there is)")
    add("--threads", type=int, help="CPU threads (default: torch's)")
    return parser


def check(asked: argparse.Namespace) -> tuple[ModelName, Recipe, Path, Sets]:
    """The model, its recipe, the file of its weights and the images, as asked for; no torch, and nothing written."""
    model = check_model(asked.model)
    changes = parse_changes(asked.set) | ({} if asked.seed is None else {"seed": asked.seed})
    recipe, about = choose_recipe(model, asked.dataset, asked.size, changes)
    label, _ = parse_dataset(asked.dataset)
    folder = ROOT / "runs" / check_run(asked.run or f"by_hand_{slug(label)}") / "weights"
    if asked.ship:
        if model.reference not in COMPACT:
            raise ValueError(f"--ship is for {', '.join(COMPACT)}, not for {asked.model}; leave it out")
        folder = ROOT / f"{model.reference.partition('_')[0]}_models"
    path = weights_file(folder, model, label, asked.label)
    if not asked.replace:
        check_free(path)
    sets = load_sets(asked.dataset, asked.held_out)
    print(f"{model.label} on {len(sets.train):,} images of {label}, by {about}: {_in_words(recipe)}", flush=True)
    return model, recipe, path, sets


def _in_words(recipe: Recipe) -> str:
    return ", ".join(f"{name}={value}" for name, value in asdict(recipe).items())


if __name__ == "__main__":
    main()
