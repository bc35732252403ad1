"""HSIC at matched depth under each choice of what "the layers" of a network are."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from itertools import chain

import pandas as pd
import torch
from torch import Tensor, nn

from src.cka.networks import hsic_table
from src.data.inputs import as_batches
from src.models.access import as_zoo, device_of
from src.models.layers import CHOICES, choose_layers
from src.tables.cka.depth import rows_at_depth

FAINT = 1e-3  # in place of a scale of 0 that a branch begins with


def choices_table(networks: Mapping, loader: Iterable, *, untrained: Mapping | None = None, **options) -> pd.DataFrame:
    """HSIC between networks of one kind at matched depth, and with the inputs, once for each choice of the layers.

    networks, loader, untrained, and the options kernel, unbiased, pool, seed and progress: as of `hsic_table`, in one
    pass for all choices.  Rows: those of `hsic_table` that `tables.cka.compare_at_depth` looks at, with the column
    choice ("states", "outputs" or "added", see `choose_layers`); indices count the layers of the choice.  Where two
    choices are the same layers of a network, their rows are the same.
    A ResNet that begins with branches scaled by 0 adds nothing while untrained: they are taken at a scale so small that
    states stay as they are (CKA does not see it).
    """
    networks = as_zoo(networks)
    untrained = {key: with_branches(model) for key, model in as_zoo(untrained).items()} if untrained else {}
    batches = as_batches(loader, again=True, device=device_of(*networks.values()))
    layers = _layers_of(networks | untrained, next(iter(batches)).pixels[:2])
    union = {name: list(dict.fromkeys(chain(*chosen.values()))) for name, chosen in layers.items()}
    hsic, _ = hsic_table(networks, batches, untrained=untrained, layers=union, **options)
    return pd.concat([_chosen(hsic, layers, choice) for choice in CHOICES], ignore_index=True)


def _layers_of(models: Mapping[tuple[str, int], nn.Module], pixels: Tensor) -> dict[str, dict[str, list[str]]]:
    """name -> choice -> layers."""
    found = {}
    for (name, _), model in models.items():
        if name not in found:
            found[name] = {choice: choose_layers(model, pixels, choice) for choice in CHOICES}
    return found


def _chosen(hsic: pd.DataFrame, layers: Mapping[str, Mapping[str, list[str]]], choice: str) -> pd.DataFrame:
    """The rows of the layers of one choice, numbered anew, and of those at matched depth."""
    numbers = {(name, layer): i for name, of in layers.items() for i, layer in enumerate(of[choice])}
    numbers |= {("inputs", layer): 0 for layer in hsic.loc[hsic["kind_b"] == "inputs", "layer_b"].unique()}
    sides = [
        pd.Series(map(numbers.get, zip(hsic[f"model_{s}"], hsic[f"layer_{s}"], strict=True)), hsic.index) for s in "ab"
    ]
    there = sides[0].notna() & sides[1].notna()
    rows = hsic.assign(index_a=sides[0], index_b=sides[1], choice=choice)[there]
    return rows_at_depth(rows.astype({"index_a": int, "index_b": int}))


def with_branches(model: nn.Module) -> nn.Module:
    """The model, or a copy in which BatchNorms whose scale is 0 everywhere have one of FAINT."""
    silent = [
        name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d) and _is_zero(part.weight)
    ]
    if not silent:
        return model
    model = deepcopy(model)
    with torch.no_grad():
        for name in silent:
            model.get_submodule(name).weight.fill_(FAINT)
    return model


def _is_zero(weight: Tensor | None) -> bool:
    return weight is not None and not weight.any()
