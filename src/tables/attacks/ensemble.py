"""The ensemble along the radius: its budgets by name, its stored table, and the ranks that it gives."""

from pathlib import Path

import pandas as pd

from src.results import load_facts, load_table
from src.tables.attacks.curves import compare_models
from src.tables.statistics import accuracy, first_seed

# at each radius: steps of APGD-CE and APGD-T, classes that APGD-T aims at, queries of Square (0: none); "standard" is
# AutoAttack's
BUDGETS = {
    "quick": dict(steps=20, n_targets=3, queries=0),
    "standard": dict(steps=100, n_targets=9, queries=5000),
}


def budget_of(name: str, **own: int | None) -> dict[str, int]:
    """Steps, targets and queries of a budget by name; own: numbers that take the place of its own, None for none.

    >>> budget_of("quick", steps=50, queries=None)
    {'steps': 50, 'n_targets': 3, 'queries': 0}
    """
    if name not in BUDGETS:
        raise ValueError(f"unknown budget {name!r}; choose from {', '.join(BUDGETS)}")
    return BUDGETS[name] | {key: value for key, value in own.items() if value is not None}


def stored_worst_case(folder: str | Path) -> pd.DataFrame:
    """The stored table of the ensemble; tables of before have its budget in their parameters, not in columns."""
    table = load_table(folder, "02_attacks", "worst_case")
    if "steps" in table:
        return table
    known = load_facts(folder, "02_attacks", "worst_case")["parameters"]
    return table.assign(steps=known["apgd_steps"], n_targets=known["n_targets"], queries=known["queries"])


def describe_budget(worst: pd.DataFrame) -> str:
    """The budget of a table of `stored_worst_case` in words, by its name where it has one.

    >>> describe_budget(pd.DataFrame([BUDGETS["standard"]]))
    'budget standard: APGD-CE 100 steps, APGD-T 100 steps × 9 targets, Square 5,000 queries, 1 start, without FAB'
    """
    (budget,) = worst[["steps", "n_targets", "queries"]].drop_duplicates().to_dict("records")
    name = next((f"budget {name}: " for name, known in BUDGETS.items() if known == budget), "")
    steps, n_targets, queries = budget.values()
    square = f"Square {queries:,} queries" if queries else "no Square"
    return f"{name}APGD-CE {steps} steps, APGD-T {steps} steps × {n_targets} targets, {square}, 1 start, without FAB"


def ranks(worst: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and rank of each model's first training seed at every radius of the ensemble.

    Columns: eps_255, model, n, correct, accuracy, low, high (Wilson, 95 %), rank: 1 and how many others surely do
    better, by McNemar's test on the same images at 5 %, corrected over all pairs and radii (Holm).
    """
    worst = first_seed(worst).assign(eps_255=lambda rows: (255 * rows["eps"]).round(3))
    tests = compare_models(worst, by="eps_255")
    tests = tests[tests["p_holm"] < 0.05]
    behind = pd.concat(
        [tests["b"].where(tests["difference"] > 0, tests["a"]).rename("model"), tests["eps_255"]], axis=1
    ).value_counts()
    table = accuracy(worst, by=["eps_255", "model"])
    keys = pd.MultiIndex.from_frame(table[["model", "eps_255"]])
    return table.assign(rank=1 + behind.reindex(keys, fill_value=0).to_numpy())
