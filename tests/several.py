"""Runs of test_distributed.py under torchrun: python -m torch.distributed.run … several.py FOLDER CASE [last step]"""

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from src.data import load_images
from src.models import build_model
from src.names import parse_model
from src.training import Recipe, checkpoints, distributed, fine_tune, saving, train
from src.training import loop as training
from src.training.inputs import Sets

N, N_VAL = 71, 20  # in batches of 16 the last has 7, which two processes share as 4 and 3
CURVES = {
    "mlp": Recipe(epochs=3, batch_size=16, crop_scale=0.6, mixup=0.3, ema=0.9),
    # without clipping, which hides the size of a gradient, and Adam, which does not look at it
    "mlp, sgd": Recipe(epochs=2, batch_size=16, crop_scale=1.0, optimiser="sgd", lr=0.02, gradient_clip=0),
    "vit": Recipe(epochs=2, batch_size=16, crop_scale=0.6, optimiser="muon", gradient_clip=0.5),
}


def sets():
    both = load_images("fashion_mnist", "train").subset(N + N_VAL, seed=0)
    return both.split_off(N_VAL, seed=0)


def untrained(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, "fashion_mnist", weights=None, size="small")


def curve(name: str) -> dict:
    """Loss curve and weights of one of CURVES; every process but the first starts from other weights than it says."""
    train_set, val_set = sets()
    model = untrained(name.partition(",")[0])
    if distributed.rank() > 0:
        nn.init.normal_(next(model.parameters()))
    history = train(model, train_set, CURVES[name], val_set=val_set, progress=False)
    return dict(weights=model.state_dict(), history=history.drop(columns="seconds").to_dict("list"))


def tuned() -> dict:
    train_set, val_set = sets()
    model = untrained("vit")
    history = fine_tune(model, train_set, CURVES["vit"], mode="full", val_set=val_set, progress=False)
    return dict(weights=model.state_dict(), history=history.drop(columns="seconds").to_dict("list"))


def refusals() -> list[str]:
    """What is said of what several CPU processes cannot train."""
    train_set, _ = sets()
    said = []
    for attempt in (
        lambda: train(untrained("cnn"), train_set, Recipe(epochs=1), progress=False),
        lambda: fine_tune(untrained("vit"), train_set, Recipe(epochs=1), progress=False),
        lambda: train(untrained("mlp"), train_set, Recipe(epochs=1, batch_size=10), progress=False),
    ):
        try:
            attempt()
        except ValueError as error:
            said.append(str(error))
    return said


def card(folder: Path) -> dict | None:
    """Of a small network that is trained, measured and saved as the shipped ones are."""
    train_set, val_set = sets()
    some = Sets("fashion_mnist", "fashion_mnist", train_set, val_set, load_images("fashion_mnist", "test"))
    model = parse_model("mlp")
    network = saving.start_of(model, some, CURVES["mlp"], size="small")
    options = dict(half=True, checkpoint_folder=folder / "checkpoints")
    return saving.train_and_save(network, model, some, CURVES["mlp"], folder / "mlp.safetensors", **options)


def with_dropout(folder: Path, death: int | None) -> dict:
    """A network with dropout, a checkpoint after each step; all processes die before a step."""
    train_set, val_set = sets()
    model = untrained("mlp")
    model.net.blocks[0].block[1] = nn.Sequential(nn.GELU(), nn.Dropout(0.3))
    training.CHECKPOINT_SECONDS = -1
    save, saved = checkpoints.save, []

    def save_and_die(path, progress, **parts):
        save(path, progress, **parts)
        saved.append(1)
        if len(saved) == death:
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save = save_and_die
    history = train(model, train_set, CURVES["mlp"], val_set=val_set, checkpoint_folder=folder, progress=False)
    rows = history.drop(columns="seconds").to_dict("list")
    return dict(weights=model.state_dict(), history=rows, next_random=torch.rand(3))


def main(folder: Path, case: str, death: int | None = None) -> None:
    torch.set_num_threads(1)
    if case == "all":
        found = {name: curve(name) for name in CURVES} | dict(tuned=tuned(), said=refusals(), card=card(folder))
    else:
        found = with_dropout(folder / case, death)
    torch.save(found, folder / f"{case}_{distributed.rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
