"""Numbers from the tables of `src.attacks`: curves, breaking radii, transfer, comparisons and the audit; no torch."""

from src.tables.attacks.audit import AUDIT_STEPS, judge_audit, masked_models
from src.tables.attacks.curves import (
    FGSM_GRID,
    L2_GRID,
    LINF_GRID,
    PGD_GRID,
    breaking_radius,
    compare_models,
    cumulative,
    less_printed,
    stored_curves,
)
from src.tables.attacks.transfer import TRANSFER_STEPS, summarise_transfer

__all__ = [
    "AUDIT_STEPS",
    "FGSM_GRID",
    "L2_GRID",
    "LINF_GRID",
    "PGD_GRID",
    "TRANSFER_STEPS",
    "breaking_radius",
    "compare_models",
    "cumulative",
    "judge_audit",
    "less_printed",
    "masked_models",
    "stored_curves",
    "summarise_transfer",
]


def __dir__() -> list[str]:
    return __all__
