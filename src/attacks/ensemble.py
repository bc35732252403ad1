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
from src.models.predict import predict


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
    it out.  Each attack begins at the largest radius at which an image still holds, and goes down as long as it breaks
    it: an image that holds there is not tried at smaller radii, all of whose points lie in that ball too.  Budgets are
    those of each radius, and each begins afresh.
    Columns as of `attack_curve`, one row per radius and image, and `broken_by`: the attack, "clean" for an image that
    is misclassified as it is, "" for one that holds; then steps, n_targets and queries.  A row tells of the strongest
    point of the attack that was last there, and without any, by n_evaluations 0, of the image as it is.
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
    options = dict(norm=norm, seed=seed, batch_size=batch_size)
    with bar("worst case", batches, progress, times=1 + len(budgets) * len(radii)) as shown:
        clean = predict(model, batches, progress=shown)
        clean = clean[["sample_id", "label", "prediction", "confidence", "label_rank"]]
        right = clean["label_rank"] < 1
        untried = clean.assign(broken_by=np.where(right, "", "clean"), distance=np.float32(0), n_evaluations=0)
        table = pd.concat(untried.assign(eps=radius) for radius in radii).set_index(["eps", "sample_id"])
        n_held = pd.Series(np.where(right, len(radii), 0), index=clean["sample_id"])  # radii, from the smallest
        for attack, budget in budgets.items():
            for place, radius in reversed(list(enumerate(radii))):
                reached = n_held.index[n_held == place + 1]
                shown.update(len(n_held) - len(reached))
                if not len(reached):
                    continue
                rule, plan = set_up(attack, ATTACKS[attack], [radius], options | budget)
                record = engine.run(model, batches, rule, plan, only=set(reached), advance=shown.update)
                done = record.table([radius]).set_index(table.index.names)
                done["broken_by"] = np.where(done["label_rank"] < 1, "", attack)
                done["n_evaluations"] += table.loc[done.index, "n_evaluations"]
                table.loc[done.index, done.columns] = done
                n_held[done.index.get_level_values("sample_id")[done["label_rank"] >= 1]] = place
    return table.reset_index().assign(steps=steps, n_targets=n_targets, queries=queries)
