"""An audit of gradient attacks on a model, measured; `tables.attacks.judge_audit` judges it."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.attacks.curves import attack_curve
from src.attacks.norms import check_threat
from src.attacks.single import fgsm, pgd, random_noise
from src.data.batches import Batch
from src.data.inputs import as_batches, bar
from src.models.access import device_of, forward, frozen
from src.tables.attacks import AUDIT_STEPS, judge_audit
from src.tables.statistics import hits

AUDIT_RADII = (1 / 255, 8 / 255)
CONDITIONS = 5 + len(AUDIT_RADII) * (1 + len(AUDIT_STEPS))  # passes over the images, in Linf, at AUDIT_RADII


def audit_predictions(
    model: nn.Module,
    loader: Iterable,
    *,
    eps: float | Sequence[float] = 8 / 255,
    norm: str = "Linf",
    queries: int = 300,
    seed: int = 0,
    progress: bool | tqdm = True,
) -> pd.DataFrame:
    """Whether each image holds under each condition of the audit: one row per image and condition, for `judge_audit`.

    Conditions: "clean", "noise", "fgsm", "pgd5", "pgd10", "pgd40", "large" (PGD-40 at half the pixel range, at which
    grey is in reach of any image), "square" (not for L2), "zero": the attacks at radius 0, and "again": a second pass.
    loader, progress: as of `attack_curve`.  eps: a radius or several; Square is tried at the largest.
    Columns: sample_id, label, condition, holds, eps, norm, queries (of Square).  holds: whether an image is classified
    correctly, for attacks as it is and attacked; for "zero", whether all attacks give back the very pixels; for
    "again", whether two passes of its batch give it the very same logits, which those of a random defence do not.
    """
    radii = sorted(np.atleast_1d(eps).tolist())
    for radius in radii:
        check_threat(radius, norm)
    batches = as_batches(loader, again=True, device=device_of(model))
    large = 0.5 if norm == "Linf" else 0.5 * next(iter(batches)).pixels[0].numel() ** 0.5
    own = {"fgsm": ("fgsm", {})} | {f"pgd{steps}": ("pgd", dict(steps=steps)) for steps in AUDIT_STEPS}
    attacked = {(name, radius): what for radius in radii for name, what in own.items()}
    attacked["large", large] = ("pgd", dict(steps=AUDIT_STEPS[-1]))
    if norm == "Linf":
        attacked["square", radii[-1]] = ("square", dict(queries=queries))
    with bar("audit", batches, progress, times=len(attacked) + 3) as shown:
        shared = dict(norm=norm, seed=seed, progress=shown)
        noise = attack_curve(model, batches, attack="noise", eps_grid=(0.0, *radii), **shared).assign(holds=hits)
        parts = {("clean" if radius == 0 else "noise", radius): part for radius, part in noise.groupby("eps")}
        parts |= {
            (condition, radius): _withstood(model, batches, attack, radius, **shared, **options)
            for (condition, radius), (attack, options) in attacked.items()
        }
        for condition, unchanged in (("zero", _unchanged), ("again", _repeated)):
            parts[condition, 0.0] = pd.concat(unchanged(model, batch, norm, shown.update) for batch in batches)
    rows = [
        part[["sample_id", "label", "holds"]].assign(condition=condition, eps=radius)
        for (condition, radius), part in parts.items()
    ]
    return pd.concat(rows, ignore_index=True).assign(norm=norm, queries=queries)


def masking_report(model: nn.Module, loader: Iterable, *, tolerance: float = 0.01, **options) -> pd.DataFrame:
    """The checks of PGD on this model, with the columns of `judge_audit`.

    options: eps, norm, queries, seed and progress, as of `audit_predictions`.
    """
    return judge_audit(audit_predictions(model, loader, **options), tolerance=tolerance)


def _withstood(model: nn.Module, batches: Iterable, attack: str, eps: float, **options) -> pd.DataFrame:
    """Whether each image is right as it is and under an attack, in the order of the batches."""
    curve = attack_curve(model, batches, attack=attack, eps_grid=(0.0, eps), **options).assign(holds=hits)
    whole = curve.groupby("sample_id", sort=False, as_index=False)
    return whole.agg(label=("label", "first"), holds=("holds", "all"))


def _unchanged(model: nn.Module, batch: Batch, norm: str, advance: Callable[[int], object]) -> pd.DataFrame:
    """Whether every attack at radius 0 gives back the very pixels of an image."""
    attacked = (
        fgsm(model, batch.pixels, batch.labels, eps=0.0, norm=norm),
        pgd(model, batch.pixels, batch.labels, eps=0.0, norm=norm),
        random_noise(None, batch.pixels, None, eps=0.0, norm=norm),
    )
    same = torch.stack([(pixels == batch.pixels).flatten(1).all(1) for pixels in attacked]).all(0)
    return _held(batch, same, advance)


def _repeated(model: nn.Module, batch: Batch, norm: str, advance: Callable[[int], object]) -> pd.DataFrame:
    """Whether two forward passes of the same batch give an image the very same logits."""
    with frozen(model), torch.no_grad():
        first, second = (forward(model, batch.pixels) for _ in range(2))
    return _held(batch, (first == second).all(1), advance)


def _held(batch: Batch, holds: Tensor, advance: Callable[[int], object]) -> pd.DataFrame:
    advance(len(holds))
    columns = dict(sample_id=batch.sample_ids, label=batch.labels, holds=holds)
    return pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})
