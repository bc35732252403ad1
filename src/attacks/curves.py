"""Accuracy against the radius: one row per image and radius, from which every curve, interval and test follows."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from src.attacks import engine
from src.attacks.norms import check_threat, distance, random_direction
from src.attacks.plan import Plan, check_options, set_up
from src.attacks.record import Record, facts_of, in_chunks, logits_of
from src.attacks.rules import Apgd, Pgd, Rule
from src.attacks.single import along, fgsm_direction
from src.attacks.square import with_queries
from src.data.inputs import Batches, as_batches, bar
from src.models.access import device_of, frozen
from src.models.checks import check_images, checked_together
from src.models.folding import folded
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
    loader: Iterable,
    *,
    attack: str,
    eps_grid: Sequence[float],
    norm: str = "Linf",
    seed: int = 0,
    progress: bool | tqdm = True,
    warm_start: bool | None = None,
    **options,
) -> pd.DataFrame:
    """Attack every image at every radius; one row for each, images in the loader's order.

    loader: images with labels, as `as_batches` takes them: a loader, a DataLoader, a pair of tensors.
    attack: "fgsm", "noise" or one of ATTACKS.  eps_grid: radii in pixels of [0, 1], each once, in any order.
    progress: whether to show a bar of images, or the bar of a caller.  warm_start: by default on, but off for "square",
    whose old signs are no longer the largest.
    options: of "pgd" steps, restarts, rel_step, random_start and decay; of "apgd" and "apgd-t" steps, restarts and
    n_targets; of "square" queries, restarts and p_init; of all these k (1), early_stop (True), continuous, batch_size
    and dtype as in `Plan`.  Of "fgsm" and "noise" batch_size, and early_stop (False) with k: whether an image
    whose label has left the top k counts as broken from there on.

    Columns: sample_id, label, prediction, confidence, label_rank as of `predict`, of the strongest point; then eps,
    distance (reached, in the norm), n_evaluations (points tried at this radius).

    "fgsm" takes one backward pass per image for all radii, and its curve need not fall unless with `early_stop`, as by
    `cumulative`.  Iterated attacks with `early_stop` are cumulative by themselves: a row that was broken at a smaller
    radius repeats that point.
    Raises ValueError for unknown names, options that the attack does not take, radii outside [0, 1] (for L2 below 0) or
    doubled, labels out of range, and what is no logits, not finite, or not one for each class.
    """
    grid, batches = checked_grid(eps_grid, norm), as_batches(loader, device=device_of(model))
    above = [eps for eps in grid if eps > 0]
    if attack in ONE_DIRECTION:
        given = options if warm_start is None else options | {"warm_start": warm_start}
        check_options(attack, given, ("norm", "seed", "batch_size", "early_stop", "k"))
        plan = Plan(tuple(above), **{"early_stop": False} | options)
        if plan.k > 1 and not plan.early_stop:
            raise ValueError(f"{attack} asks for k only with early_stop=True; its label_rank serves every k without it")
        with bar(attack, batches, progress) as shown:
            record = _along_one_direction(model, batches, attack, plan, norm=norm, seed=seed, advance=shown.update)
        table = record.table(grid)
        keys = ["sample_id", "eps"]
        return table[keys].merge(cumulative(table, k=plan.k), on=keys)[table.columns] if plan.early_stop else table
    if attack not in ATTACKS:
        raise ValueError(f"unknown attack {attack!r}; choose from {', '.join([*ONE_DIRECTION, *ATTACKS])}")
    warm_start = attack != "square" if warm_start is None else warm_start
    options |= dict(norm=norm, seed=seed)
    rule, plan = set_up(attack, ATTACKS[attack], above, options, warm_start=warm_start)
    with bar(attack, batches, progress) as shown:
        return engine.run(model, batches, rule, plan, advance=shown.update).table(grid)


def checked_grid(eps_grid: Sequence[float], norm: str) -> list[float]:
    """The radii in rising order; ValueError for none above 0, one twice, or one that the norm does not allow."""
    grid = sorted(float(eps) for eps in eps_grid)
    for eps in grid:
        check_threat(eps, norm)
    if not grid or len(set(grid)) < len(grid) or grid == [0.0]:
        raise ValueError(f"eps_grid must hold a radius above 0 and none twice, not {list(eps_grid)}")
    return grid


def _along_one_direction(
    model: nn.Module, batches: Batches, attack: str, plan: Plan, *, norm: str, seed: int, advance: Callable
) -> Record:
    """FGSM or noise at every radius, every time from the same direction: one backward pass an image, or none."""
    record, n_classes = Record(), batches.n_classes
    with frozen(model), folded(model):
        for batch in (part for whole in batches for part in in_chunks(whole, plan.batch_size)):
            if attack == "fgsm":
                logits, direction = fgsm_direction(model, *batch, norm=norm, n_classes=n_classes)
            else:
                check_images(batch.pixels, batch.labels)
                direction = random_direction(batch.pixels, norm, batch.sample_ids, seed, Stream.SIGNS)
                logits = logits_of(model, batch.pixels, batch, n_classes)
            position = record.add_clean(batch, facts_of(logits, batch.labels))
            ids = dict(position=position, sample_id=batch.sample_ids, label=batch.labels)
            once = torch.ones_like(position)  # on the CPU, as the position
            with checked_together():
                for radius, eps in enumerate(plan.eps_grid, start=1):
                    x = along(batch.pixels, direction, eps, norm)
                    facts = facts_of(logits_of(model, x, batch), batch.labels)
                    reached = distance(x, batch.pixels, norm)
                    record.add(**ids, **facts, radius=radius * once, distance=reached, n_evaluations=once)
            advance(len(batch.labels))
    return record
