"""Figures of notebook 04a, from its tables."""

from src.plotting.cka.depth import beyond_untrained, by_choice
from src.plotting.cka.layers import MOST, along_depth, by_measure, layer_grid, matching, trained_against_untrained
from src.plotting.cka.names import layer_label, network_name, pair_name

__all__ = [
    "MOST",
    "along_depth",
    "beyond_untrained",
    "by_choice",
    "by_measure",
    "layer_grid",
    "layer_label",
    "matching",
    "network_name",
    "pair_name",
    "trained_against_untrained",
]


def __dir__() -> list[str]:
    return __all__
