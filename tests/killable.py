"""Training runs in a process of their own, which test_loop.py kills; a module that such a process can import."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from src.data import ImageSet
from src.models import PixelModel, build_model
from src.training import Recipe, checkpoints, train
from src.training import loop as training

RECIPES = {
    "mlp": Recipe(optimiser="muon", epochs=3, batch_size=16, crop_scale=0.6, mixup=0.3, ema=0.9),
    "cnn": Recipe(epochs=2, batch_size=16, crop_scale=0.6, mixup=0.3, ema=0.9, optimiser="sgd", lr=0.05),
}


def untrained(name: str) -> PixelModel:
    """The mlp with dropout, which draws from torch's generator; the cnn has batch normalisation."""
    torch.manual_seed(0)
    model = build_model(name, "fashion_mnist", weights=None, size="small")
    if name == "mlp":
        model.net.blocks[0].block[1] = nn.Sequential(nn.GELU(), nn.Dropout(0.3))
    return model


def run(name: str, train_set: ImageSet, val_set: ImageSet, folder: Path, death: tuple[str, int, int] | None) -> None:
    """Train with a checkpoint after every step, and write weights and history to `folder`/result.pt.

    death: ("before" or "during" or "after", epoch, step): the process kills itself around that checkpoint.
    """
    torch.set_num_threads(1)
    training.CHECKPOINT_SECONDS = -1
    if death:
        checkpoints.save = _fatal(checkpoints.save, *death)
    model = untrained(name)
    history = train(
        model, train_set, RECIPES[name], val_set=val_set, checkpoint_folder=folder / "checkpoints", progress=False
    )
    rows = history.drop(columns="seconds").to_dict("list")
    torch.save({"weights": model.state_dict(), "history": rows}, folder / "result.pt")


def _fatal(save: Callable, moment: str, epoch: int, step: int) -> Callable:
    def write_half_and_die(saved, path):
        torch_save(saved, path)
        os.truncate(path, os.path.getsize(path) // 2)
        _die()

    def save_and_die(path, progress, **parts):
        if (progress.epoch, progress.step) != (epoch, step):
            return save(path, progress, **parts)
        if moment == "during":
            torch.save = write_half_and_die
        if moment != "before":
            save(path, progress, **parts)
        _die()

    torch_save = torch.save
    return save_and_die


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
