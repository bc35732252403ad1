"""The rows of one training seed, as each figure draws them."""

from collections.abc import Sequence

import pandas as pd

from src.plotting.style import dataset_title
from src.tables.texture_shape import STANDING

# of the conditions whose level says how much; the others have but one
_LEVELS = dict(occlusion_black="{:.0%}", blacken="{:.0%}", patch_shuffle="{:g} px", low_pass="{:g} px")
_LEVELS |= dict(high_pass="{:g} cycles", phase_scramble="±{:g}°")


def at_standing_level(name: str, between: str = " ") -> str:
    """A condition in words, with the level that stands for it in its unit.

    >>> [at_standing_level(name) for name in ("grayscale", "patch_shuffle", "phase_scramble")]
    ['grayscale', 'patch shuffle 8 px', 'phase scramble ±90°']
    """
    level = _LEVELS.get(name, "").format(STANDING.get(name))
    return name.replace("_", " ") + (between + level if level else "")


def one_seed(table: pd.DataFrame, models: Sequence[str], model_seed: int | None) -> tuple[pd.DataFrame, str]:
    """The rows of one training seed, model by model, and what a title says of them; ValueError where there are none."""
    seed = table["model_seed"].iloc[0] if model_seed is None and len(table) else model_seed
    table = table[(table["model_seed"] == seed) & table["model"].isin(list(models) or table["model"])]
    if table.empty:
        raise ValueError(f"the table has no rows of {', '.join(models) or 'any model'} with training seed {seed}")
    order = list(models) or list(table["model"].unique())
    table = table.sort_values("model", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)
    return table, f"{dataset_title(table['dataset'].iloc[0])}, training seed {seed}"
