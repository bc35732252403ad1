"""Accuracy against the radius: one row per image and radius, from which every curve, interval and test follows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from src.attacks import engine
from src.attacks.norms import check_threat, distance, random_direction
from src.attacks.record import Record, facts_of, in_chunks, logits_of
from src.attacks.rules import Apgd, Pgd, Rule
from src.attacks.single import along, fgsm_direction
from src.attacks.square import with_queries
from src.data.batches import Batch, reusable
from src.models.access import check_images, frozen
from src.seeding import Stream
from src.tables.attacks import cumulative

# iterated attacks by name -> what makes their rule of norm, seed and the attack's own options
ATTACKS: dict[str, Callable[..., Rule]] = {
    "pgd": Pgd,
    "apgd": Apgd,
    "apgd-t": partial(Apgd, n_targets=9),
    "square": with_queries,
}
ONE_DIRECTION = ("fgsm", "noise")  # the point at every radius lies on one line


def attack_curve(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    attack: str,
    eps_grid: Sequence[float],
    norm: str = "Linf",
    seed: int = 0,
    progress: str | None = None,
    warm_start: bool | None = None,
    **options,
) -> pd.DataFrame:
    """Attack every image at every radius; one row for each, images in the loader's order.

    attack: "fgsm", "noise" or one of ATTACKS.  eps_grid: radii in pixels of [0, 1], each once, in any order.
    progress: a name for the progress bar.  warm_start: by default on, but off for "square", whose old signs are no
    longer the largest.  options: of iterated attacks their own, e.g. steps and restarts, or queries, and k (1),
    early_stop (True), continuous, batch_size and dtype as in `engine.Plan`.  Of "fgsm" and "noise" batch_size, and
    early_stop (False) with k: whether an image whose label has left the top k counts as broken from there on.

    Columns: sample_id, label, prediction, confidence, label_rank as of `predict`, of the strongest point; then eps,
    distance (reached, in the norm), n_evaluations (points tried at this radius).

    "fgsm" takes one backward pass per image for all radii, and its curve need not fall unless with `early_stop`, as by
    `cumulative`.  Iterated attacks with `early_stop` are cumulative by themselves: a row that was broken at a smaller
    radius repeats that point.
    Raises ValueError for unknown names, options that the attack does not take, radii below 0 or doubled, labels out of
    range and logits that are not finite.
    """
    grid = _checked_grid(eps_grid, norm)
    above = [eps for eps in grid if eps > 0]
    if attack in ONE_DIRECTION:
        given = options if warm_start is None else options | {"warm_start": warm_start}
        engine.check_options(attack, given, ("norm", "seed", "progress", "batch_size", "early_stop", "k"))
        plan = engine.Plan(tuple(above), **{"early_stop": False} | options, progress=progress)
        if plan.k > 1 and not plan.early_stop:
            raise ValueError(f"{attack} asks for k only with early_stop=True; its label_rank serves every k without it")
        table = _along_one_direction(model, loader, attack, plan, norm=norm, seed=seed).table(grid)
        keys = ["sample_id", "eps"]
        return table[keys].merge(cumulative(table, k=plan.k), on=keys)[table.columns] if plan.early_stop else table
    if attack not in ATTACKS:
        raise ValueError(f"unknown attack {attack!r}; choose from {', '.join([*ONE_DIRECTION, *ATTACKS])}")
    warm_start = attack != "square" if warm_start is None else warm_start
    options |= dict(norm=norm, seed=seed)
    rule, plan = engine.set_up(attack, ATTACKS[attack], above, options, warm_start=warm_start, progress=progress)
    return engine.run(model, loader, rule, plan).table(grid)


def _checked_grid(eps_grid: Sequence[float], norm: str) -> list[float]:
    grid = sorted(float(eps) for eps in eps_grid)
    for eps in grid:
        check_threat(eps, norm)
    if not grid or len(set(grid)) < len(grid) or grid == [0.0]:
        raise ValueError(f"eps_grid must hold a radius above 0 and none twice, not {list(eps_grid)}")
    return grid


def _along_one_direction(
    model: nn.Module, loader: Iterable[Batch], attack: str, plan: engine.Plan, *, norm: str, seed: int
) -> Record:
    """FGSM or noise at every radius, every time from the same direction: one backward pass an image, or none."""
    record = Record()
    bar = tqdm(loader, desc=plan.progress, disable=plan.progress is None, leave=False)
    with frozen(model):
        for batch in (part for whole in bar for part in in_chunks(whole, plan.batch_size)):
            if attack == "fgsm":
                logits, direction = fgsm_direction(model, *batch, norm=norm)
            else:
                check_images(batch.pixels, batch.labels)
                direction = random_direction(batch.pixels, norm, batch.sample_ids, seed, Stream.SIGNS)
                logits = logits_of(model, batch.pixels, batch)
            position = record.add_clean(batch, facts_of(logits, batch.labels))
            ids = dict(position=position, sample_id=batch.sample_ids, label=batch.labels)
            once = torch.ones_like(position)
            for radius, eps in enumerate(plan.eps_grid, start=1):
                x = along(batch.pixels, direction, eps, norm)
                facts = facts_of(logits_of(model, x, batch), batch.labels)
                reached = distance(x, batch.pixels, norm)
                record.add(**ids, **facts, radius=radius * once, distance=reached, n_evaluations=once)
    return record


def worst_case(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    eps: float,
    norm: str = "Linf",
    steps: int = 100,
    n_targets: int = 9,
    queries: int = 1000,
    seed: int = 0,
    batch_size: int = 128,
    progress: bool = False,
) -> pd.DataFrame:
    """Robustness to the worst of APGD-CE, APGD-T and, for Linf, Square: an image broken by one is spared the next.

    Columns as of `attack_curve`, one row per image, and `broken_by`: the attack, "clean" for an image that is
    misclassified as it is, "" for one that holds.  Source: Croce & Hein 2020 (AutoAttack, without FAB).
    """
    check_threat(eps, norm)
    ensemble = {"apgd": dict(steps=steps), "apgd-t": dict(steps=steps, n_targets=n_targets)}
    if norm == "Linf":
        ensemble["square"] = dict(queries=queries)
    batches, table, holds = reusable(loader), None, None
    for attack, options in ensemble.items():
        done = attack_curve(
            model,
            batches if holds is None else _only(batches, holds),
            attack=attack,
            eps_grid=(eps,),
            norm=norm,
            seed=seed,
            batch_size=batch_size,
            progress=attack if progress else None,
            **options,
        ).set_index("sample_id")
        done["broken_by"] = np.where(done["label_rank"] < 1, "", np.where(done["n_evaluations"] == 0, "clean", attack))
        if table is None:
            table = done
        else:
            done["n_evaluations"] += table.loc[done.index, "n_evaluations"]
            table.loc[done.index, "n_evaluations"] = done["n_evaluations"]
            broken = done[done["broken_by"] != ""]
            table.loc[broken.index] = broken
        holds = table.index[table["broken_by"] == ""]
        if not len(holds):
            break
    return table.reset_index()


def _only(batches: Iterable[Batch], sample_ids: pd.Index) -> Iterator[Batch]:
    """The images of these sample ids; batches without any are left out."""
    for batch in batches:
        chosen = torch.isin(batch.sample_ids, torch.tensor(sample_ids.to_numpy(), device=batch.sample_ids.device))
        if chosen.any():
            yield Batch(*(values[chosen] for values in batch))
