"""The claims of the study, judged: docs/hypotheses.md against the tables, with what each control leaves; no torch."""

from src.tables.claims.judged import SEEDS, judge_claims, needed, state_of, verdict_of
from src.tables.claims.statements import CONTROLS, STATEMENTS, Statement

__all__ = ["CONTROLS", "SEEDS", "STATEMENTS", "Statement", "judge_claims", "needed", "state_of", "verdict_of"]


def __dir__() -> list[str]:
    return __all__
