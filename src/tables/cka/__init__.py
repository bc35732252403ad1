"""CKA between layers and what it says, from tables of HSIC, one row per minibatch and pair of layers; no torch.

A network is a model of a kind, "trained", "untrained" (random weights), "labels" or "inputs" (a kernel of the classes
or of the pixels in place of a network), and a seed, of its training or of its random weights.
"""

from src.tables.cka.choices import by_choice, range_over_choices
from src.tables.cka.depth import at_matched_depth, compare_at_depth, mean_with_others, rows_at_depth
from src.tables.cka.hsic import NETWORK_A, NETWORK_B, between, cka_table, deconfounded, one_seed
from src.tables.cka.layers import beyond_shuffled, by_distance, match_layers, matched_layers, task_onset
from src.tables.cka.networks import drawn_mean
from src.tables.cka.other_measures import agreement_with_cka, beyond_chance

__all__ = [
    "NETWORK_A",
    "NETWORK_B",
    "agreement_with_cka",
    "at_matched_depth",
    "between",
    "beyond_chance",
    "beyond_shuffled",
    "by_choice",
    "by_distance",
    "cka_table",
    "compare_at_depth",
    "deconfounded",
    "drawn_mean",
    "match_layers",
    "matched_layers",
    "mean_with_others",
    "one_seed",
    "range_over_choices",
    "rows_at_depth",
    "task_onset",
]


def __dir__() -> list[str]:
    return __all__
