"""Training that can be killed at any moment: recipes, the loop, fine-tuning. `python -m src.training` runs a recipe."""

from src.training.finetuning import fine_tune
from src.training.loop import train
from src.training.recipe import Recipe

__all__ = ["Recipe", "fine_tune", "train"]


def __dir__() -> list[str]:
    return __all__
