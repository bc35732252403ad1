"""Numbers from the tables of `src.attacks`: curves, the ensemble, transfer, comparisons and the audit; no torch."""

from src.tables.attacks.audit import AUDIT_STEPS, blunt_square, judge_audit, judge_drawn, masked_models
from src.tables.attacks.curves import (
    ENSEMBLE_255,
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
from src.tables.attacks.ensemble import BUDGETS, budget_of, describe_budget, ranks, stored_worst_case
from src.tables.attacks.transfer import (
    NOISE,
    TRANSFER_STEPS,
    additive_transfer,
    compare_targets,
    first_round,
    stored_transfer,
    summarise_transfer,
    transfer_excess,
)

__all__ = [
    "AUDIT_STEPS",
    "BUDGETS",
    "ENSEMBLE_255",
    "FGSM_GRID",
    "L2_GRID",
    "LINF_GRID",
    "NOISE",
    "PGD_GRID",
    "TRANSFER_STEPS",
    "additive_transfer",
    "blunt_square",
    "breaking_radius",
    "budget_of",
    "compare_models",
    "compare_targets",
    "cumulative",
    "describe_budget",
    "first_round",
    "judge_audit",
    "judge_drawn",
    "less_printed",
    "masked_models",
    "ranks",
    "stored_curves",
    "stored_worst_case",
    "stored_transfer",
    "summarise_transfer",
    "transfer_excess",
]


def __dir__() -> list[str]:
    return __all__
