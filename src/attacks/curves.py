"""Accuracy against the radius: one row per image and radius, from which every curve, interval and test follows."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.attacks import engine
from src.attacks.norms import check_threat, distance, random_direction
from src.attacks.record import FACTS, Record, facts_of
from src.attacks.rules import Apgd, Pgd
from src.attacks.single import along, fgsm_direction
from src.attacks.square import Square
from src.data.loaders import Batch, reusable
from src.models.access import check_images, check_logits, frozen
from src.seeding import Stream

# iterated attacks by name -> rule, given norm, seed and the attack's own options
ATTACKS: dict[str, Callable[..., engine.Rule]] = {
    "pgd": lambda steps=10, rel_step=None, restarts=1, **rest: Pgd(
        steps=steps, rel_step=2.5 / max(steps, 1) if rel_step is None else rel_step, n_starts=restarts, **rest
    ),
    "apgd": Apgd,
    "apgd-t": lambda n_targets=9, **rest: Apgd(n_targets=n_targets, **rest),
    "square": lambda queries=1000, restarts=1, **rest: Square(steps=queries, n_starts=restarts, **rest),
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
    k: int = 1,
    early_stop: bool = True,
    warm_start: bool | None = None,
    continuous: bool = True,
    batch_size: int = 128,
    dtype: str = "float32",
    progress: str | None = None,
    **options,
) -> pd.DataFrame:
    """Attack every image at every radius; one row for each, images in the loader's order.

    attack: "fgsm", "noise" or one of ATTACKS.  eps_grid: radii in pixels of [0, 1], each once, in any order.
    k: with `early_stop`, an image is broken when its label is not among the top k.  warm_start: by default on, but off
    for "square", whose old signs are no longer the largest.  options: those of the attack's function, e.g. steps and
    restarts, or queries; the rest is as in `engine.Plan`.

    Columns: sample_id, label, prediction, confidence, label_rank as of `evaluation.predict`, of the strongest point
    found; then eps, distance (reached, in the norm), n_evaluations (points tried at this radius).

    "fgsm" takes one backward pass per image for all radii, and its curve need not fall: `cumulative` makes it the worst
    so far.  Iterated attacks with `early_stop` are cumulative by themselves: a row that was broken at a smaller radius
    repeats that point.
    Raises ValueError for unknown names, radii below 0 or doubled, labels out of range and logits that are not finite.
    """
    grid = _checked_grid(eps_grid, norm)
    if attack in ONE_DIRECTION:
        if options:
            raise ValueError(f"{attack} takes no {', '.join(options)}")
        record = _along_one_direction(model, loader, attack, grid, norm=norm, seed=seed, progress=progress)
    elif attack in ATTACKS:
        rule = ATTACKS[attack](norm=norm, seed=seed, **options)
        plan = engine.Plan(
            tuple(eps for eps in grid if eps > 0),
            k=k,
            early_stop=early_stop,
            warm_start=attack != "square" if warm_start is None else warm_start,
            continuous=continuous,
            batch_size=batch_size,
            dtype=dtype,
            progress=progress,
        )
        record = engine.run(model, loader, rule, plan)
    else:
        raise ValueError(f"unknown attack {attack!r}; choose from {', '.join([*ONE_DIRECTION, *ATTACKS])}")
    return _table(record, grid)


def _checked_grid(eps_grid: Sequence[float], norm: str) -> list[float]:
    grid = sorted(float(eps) for eps in eps_grid)
    for eps in grid:
        check_threat(eps, norm)
    if not grid or len(set(grid)) < len(grid) or grid == [0.0]:
        raise ValueError(f"eps_grid must hold a radius above 0 and none twice, not {list(eps_grid)}")
    return grid


def _along_one_direction(
    model: nn.Module, loader: Iterable[Batch], attack: str, grid: list[float], *, norm: str, seed: int, progress
) -> Record:
    """FGSM or noise at every radius, every time from the same direction: one backward pass an image, or none."""
    record = Record(sum(eps > 0 for eps in grid), keep_pixels=False)
    with frozen(model):
        for batch in tqdm(loader, desc=progress, disable=progress is None, leave=False):
            if attack == "fgsm":
                logits, direction = fgsm_direction(model, *batch, norm=norm)
            else:
                check_images(batch.pixels, batch.labels)
                direction = random_direction(batch.pixels, norm, batch.sample_ids, seed, Stream.SIGNS)
                logits = _logits(model, batch.pixels, batch)
            clean = facts_of(logits, batch.labels)
            nothing = torch.zeros_like(clean["confidence"])
            positions = record.append(batch, clean | {"distance": nothing, "n_evaluations": nothing + 1})
            for column, eps in enumerate((eps for eps in grid if eps > 0), start=1):
                x = along(batch.pixels, direction, eps, norm)
                facts = facts_of(_logits(model, x, batch), batch.labels)
                facts |= {"distance": distance(x, batch.pixels, norm), "n_evaluations": nothing + 1}
                for name in FACTS:
                    record.facts[name][positions.cpu(), column] = facts[name].double().cpu()
    return record


@torch.no_grad()
def _logits(model: nn.Module, pixels: Tensor, batch: Batch) -> Tensor:
    logits = model(pixels).float()
    check_logits(logits, batch.labels, batch.sample_ids)
    return logits


def _table(record: Record, grid: list[float]) -> pd.DataFrame:
    """The record in long form; column 0, the clean image, is there when the grid has radius 0."""
    first, n = int(grid[0] > 0), len(record.labels)
    columns = {name: values[:, first:].numpy().ravel() for name, values in record.facts.items()}
    table = pd.DataFrame(
        {
            "sample_id": record.sample_ids.numpy().repeat(len(grid)),
            "label": record.labels.numpy().repeat(len(grid)),
            "eps": np.tile(grid, n),
        }
        | columns
    )
    whole = {"prediction": "int64", "label_rank": "int64", "n_evaluations": "int64"}
    return table.astype(whole | {"confidence": "float32", "distance": "float32"})


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
            batches if holds is None else (_only(batch, holds) for batch in batches if _any_of(batch, holds)),
            attack=attack,
            eps_grid=(eps,),
            norm=norm,
            seed=seed,
            batch_size=batch_size,
            progress=attack if progress else None,
            **options,
        ).set_index("sample_id")
        broken_by = np.where(done["label_rank"] < 1, "", np.where(done["n_evaluations"] == 0, "clean", attack))
        done = done.assign(broken_by=broken_by)
        if table is None:
            table = done
        else:
            evaluations = table["n_evaluations"].add(done["n_evaluations"], fill_value=0).astype("int64")
            broken = done.index[done["broken_by"] != ""]
            table.loc[broken] = done.loc[broken]
            table["n_evaluations"] = evaluations
        holds = set(table.index[table["broken_by"] == ""])
        if not holds:
            break
    return table.reset_index()


def _any_of(batch: Batch, sample_ids: set[int]) -> bool:
    return not sample_ids.isdisjoint(batch.sample_ids.tolist())


def _only(batch: Batch, sample_ids: set[int]) -> Batch:
    chosen = torch.tensor([int(i) in sample_ids for i in batch.sample_ids], device=batch.labels.device)
    return Batch(*(values[chosen] for values in batch))
