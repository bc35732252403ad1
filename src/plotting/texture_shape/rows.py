"""The rows of one training seed, as each figure draws them."""

from collections.abc import Sequence

import pandas as pd

from src.plotting.style import dataset_title


def one_seed(table: pd.DataFrame, models: Sequence[str], model_seed: int | None) -> tuple[pd.DataFrame, str]:
    """The rows of one training seed, model by model, and what a title says of them; ValueError where there are none."""
    seed = table["model_seed"].iloc[0] if model_seed is None and len(table) else model_seed
    table = table[(table["model_seed"] == seed) & table["model"].isin(list(models) or table["model"])]
    if table.empty:
        raise ValueError(f"the table has no rows of {', '.join(models) or 'any model'} with training seed {seed}")
    order = list(models) or list(table["model"].unique())
    table = table.sort_values("model", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)
    return table, f"{dataset_title(table['dataset'].iloc[0])}, training seed {seed}"
