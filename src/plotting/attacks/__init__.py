"""Figures of notebook 02, from its tables."""

from src.plotting.attacks.accuracies import (
    attack_pictures,
    breaking_radii,
    curves,
    ensemble,
    published_curves,
    radii,
    report_2023,
    robust_accuracy,
)
from src.plotting.attacks.transfer import transfer, transfer_excess, transfer_heatmap

__all__ = [
    "attack_pictures",
    "breaking_radii",
    "curves",
    "ensemble",
    "published_curves",
    "radii",
    "report_2023",
    "robust_accuracy",
    "transfer",
    "transfer_excess",
    "transfer_heatmap",
]


def __dir__() -> list[str]:
    return __all__
