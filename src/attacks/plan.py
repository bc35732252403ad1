"""How an iterated attack goes through radii and images: its options, checked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import signature

from src.attacks.rules import Rule


@dataclass(frozen=True)
class Plan:
    """Radii and the way through them.

    eps_grid: radii above 0, ascending.  k: an image is broken when its label is not among the top k.
    early_stop: stop at the first point that breaks an image, for this radius and all larger ones, and do not attack
    what is misclassified anyway; otherwise all steps are done at all radii.  warm_start: begin a radius where the last
    one ended.  continuous: fill places in the batch as they become free, not once it is empty.  dtype: "bfloat16"
    computes under autocast, "tf32" as `src.runtime.tf32` says, and no success is written down that was not seen in
    float32.  keep_pixels: return the images.
    """

    eps_grid: tuple[float, ...]
    k: int = 1
    early_stop: bool = True
    warm_start: bool = True
    continuous: bool = True
    batch_size: int = 128
    dtype: str = "float32"
    keep_pixels: bool = False

    def __post_init__(self):
        if list(self.eps_grid) != sorted(set(self.eps_grid)) or min(self.eps_grid, default=0) <= 0:
            raise ValueError(f"the engine takes ascending radii above 0, not {self.eps_grid}")
        if self.dtype not in ("float32", "bfloat16", "tf32"):
            raise ValueError(f"unknown dtype {self.dtype!r}; choose from float32, bfloat16, tf32")
        if self.batch_size < 1 or self.k < 1:
            raise ValueError(f"batch_size and k must be at least 1, not {self.batch_size} and {self.k}")


OPTIONS = ("k", "early_stop", "continuous", "batch_size", "dtype")  # of a Plan, for a user to choose


def check_options(attack: str, options: Iterable[str], choices: Iterable[str]) -> None:
    """Raise ValueError for options that an attack does not take."""
    choices = tuple(choices)
    if unknown := [name for name in options if name not in choices]:
        raise ValueError(f"{attack} takes no {', '.join(unknown)}; choose from {', '.join(choices)}")


def set_up(attack: str, make_rule: Callable[..., Rule], eps_grid: Iterable[float], options: dict, **fixed):
    """The rule and the plan of an attack: options are those of the rule and of OPTIONS; fixed: more of the plan."""
    of_rule = signature(make_rule).parameters
    check_options(attack, options, [*of_rule, *OPTIONS])
    rule = make_rule(**{name: value for name, value in options.items() if name in of_rule})
    return rule, Plan(tuple(eps_grid), **{name: options[name] for name in OPTIONS if name in options}, **fixed)
