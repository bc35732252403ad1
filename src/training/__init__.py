"""Training that can be killed at any moment: recipes, the loop, fine-tuning. `python -m src.training` runs a recipe."""

from importlib import import_module

from src.training.recipe import Recipe

__all__ = ["Recipe", "fine_tune", "train"]


def __getattr__(name: str):
    """`train` and `fine_tune`, which import torch, when they are asked for."""
    modules = {"train": "src.training.loop", "fine_tune": "src.training.finetuning"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(modules[name]), name)


def __dir__() -> list[str]:
    return __all__
