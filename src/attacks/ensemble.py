"""The worst of several attacks along the radius."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from torch import nn
from tqdm.auto import tqdm

from src.attacks import engine
from src.attacks.curves import ATTACKS, checked_grid
from src.attacks.plan import set_up
from src.attacks.rules import check_targets
from src.data.inputs import as_batches, bar
from src.models.access import device_of


def worst_case(
    model: nn.Module,
    loader: Iterable,
    *,
    eps: float | Sequence[float],
    norm: str = "Linf",
    steps: int = 100,
    n_targets: int = 9,
    queries: int = 1000,
    seed: int = 0,
    batch_size: int = 128,
    progress: bool | tqdm = True,
) -> pd.DataFrame:
    """Robustness to the worst of APGD-CE, APGD-T and, for Linf, Square: an image broken by one is spared the next.

    loader, progress: as of `attack_curve`.  eps: a radius above 0 or several, each once.  queries: of Square; 0 leaves
    it out.  Each attack goes through the radii in ascending order, APGD from where the smaller one left off, and what
    is broken at one radius is broken at all larger ones; the budgets are those of each radius.
    Columns as of `attack_curve`, one row per radius and image, and `broken_by`: the attack, "clean" for an image that
    is misclassified as it is, "" for one that holds; then steps, n_targets and queries.
    Source: Croce & Hein 2020 (AutoAttack, without FAB).
    """
    radii = checked_grid(np.atleast_1d(eps), norm)
    check_targets(n_targets)
    if radii[0] == 0:
        raise ValueError(f"the worst case is of radii above 0, not {radii}; `predict` gives the clean accuracy")
    budgets = {"apgd": dict(steps=steps), "apgd-t": dict(steps=steps, n_targets=n_targets)}
    if queries := queries if norm == "Linf" else 0:
        budgets["square"] = dict(queries=queries)
    batches = as_batches(loader, again=True, device=device_of(model))
    options, table, upto = dict(norm=norm, seed=seed, batch_size=batch_size), None, None
    with bar("worst case", batches, progress, times=len(budgets)) as shown:
        for place, (attack, budget) in enumerate(budgets.items(), start=1):
            warm = dict(warm_start=attack != "square")
            rule, plan = set_up(attack, ATTACKS[attack], radii, options | budget, **warm)
            done = engine.run(model, batches, rule, plan, upto=upto, advance=shown.update).table([0.0, *radii])
            table = _worst_of(table, done.set_index(["sample_id", "eps"]), attack)
            holds = (table["broken_by"] == "").groupby("sample_id", sort=False).sum()
            shown.update(len(holds) - done["sample_id"].nunique())  # spared
            upto = holds[holds > 0].to_dict()
            if not upto:
                shown.update(len(holds) * (len(budgets) - place))
                break
    table = table.reset_index().sort_values("eps", kind="stable", ignore_index=True)
    return table.assign(steps=steps, n_targets=n_targets, queries=queries)


def _worst_of(table: pd.DataFrame | None, done: pd.DataFrame, attack: str) -> pd.DataFrame:
    """The table with what one more attack has broken; done: its rows, the clean images among them."""
    clean, done = done.xs(0.0, level="eps"), done.drop(index=0.0, level="eps")
    done["broken_by"] = np.where(done["label_rank"] < 1, "", attack)
    if table is None:
        wrong = done.index.get_level_values("sample_id").isin(clean.index[clean["label_rank"] >= 1])
        return done.assign(broken_by=done["broken_by"].mask(wrong, "clean"))
    done["n_evaluations"] += table.loc[done.index, "n_evaluations"]
    table.loc[done.index, "n_evaluations"] = done["n_evaluations"]
    broken = done[(done["broken_by"] != "") & (table.loc[done.index, "broken_by"] == "")]
    table.loc[broken.index] = broken
    return table
