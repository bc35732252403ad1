"""Six checks of an attack's own results: where one fails, the gradients are masked and the curve cannot be believed.

Sources: Athalye, Carlini & Wagner 2018, section 3.1; Carlini et al. 2019, section 5.
"""

from collections.abc import Iterable
from itertools import pairwise

import pandas as pd
import torch
from torch import nn

from src.attacks.curves import attack_curve
from src.attacks.norms import check_threat
from src.attacks.single import fgsm, pgd, random_noise
from src.data.loaders import Batch, reusable
from src.tables.statistics import hits

STEPS = (5, 10, 40)  # of PGD, for "more steps are never worse"


def audit_predictions(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    eps: float = 8 / 255,
    norm: str = "Linf",
    queries: int = 300,
    seed: int = 0,
) -> pd.DataFrame:
    """What `judge_audit` looks at, one row per image and condition, conditions one after the other.

    Conditions: "clean", "noise", "fgsm", "pgd5", "pgd10", "pgd40", "large" (PGD-40 at half the pixel range, at which
    grey is in reach of any image), "square" (not for L2) and "zero": the attacks at radius 0.
    Columns: sample_id, label, condition, holds (classified correctly as it is and under the attack; for "zero" whether
    all give back the very pixels), eps, norm, queries (of Square).
    """
    check_threat(eps, norm)
    batches = reusable(loader)
    options = dict(norm=norm, seed=seed)
    noise = attack_curve(model, batches, attack="noise", eps_grid=(0.0, eps), **options).assign(holds=hits)
    parts = {"clean": noise[noise["eps"] == 0], "noise": noise[noise["eps"] > 0]}
    parts["fgsm"] = _withstood(model, batches, "fgsm", eps, **options)
    for steps in STEPS:
        parts[f"pgd{steps}"] = _withstood(model, batches, "pgd", eps, steps=steps, **options)
    large = 0.5 if norm == "Linf" else 0.5 * next(iter(batches)).pixels[0].numel() ** 0.5
    parts["large"] = _withstood(model, batches, "pgd", large, steps=40, **options)
    if norm == "Linf":
        parts["square"] = _withstood(model, batches, "square", eps, queries=queries, **options)
    parts["zero"] = pd.concat(_unchanged(model, batch, norm) for batch in batches)
    radii = dict.fromkeys(parts, eps) | {"clean": 0.0, "large": large, "zero": 0.0}
    rows = [
        part[["sample_id", "label", "holds"]].assign(condition=condition, eps=radii[condition])
        for condition, part in parts.items()
    ]
    return pd.concat(rows, ignore_index=True).assign(norm=norm, queries=queries)


def judge_audit(table: pd.DataFrame, *, tolerance: float = 0.01) -> pd.DataFrame:
    """Six checks of the rows of `audit_predictions` of one model: check, passed, numbers (a sentence), eps, norm.

    tolerance: by how much an accuracy may be on the wrong side, as a share of all images.  For L2 the sixth, which
    needs Square, is left out.
    """
    accuracy = table.groupby("condition")["holds"].mean()
    pgd = [accuracy[f"pgd{steps}"] for steps in STEPS]
    best, radius = min(pgd), table.loc[table["condition"] == "large", "eps"].iloc[0]
    lost_to_noise = max(accuracy["clean"] - accuracy["noise"], 0)  # noise may also put some images right
    same = "bit for bit" if accuracy["zero"] == 1 else f"not in {1 - accuracy['zero']:.1%} of the images"
    rows = [
        ("radius 0 is the clean image", accuracy["zero"] == 1, f"FGSM, PGD and noise: {same}"),
        (
            "a large radius leaves nothing",
            accuracy["large"] <= tolerance,
            f"PGD-40 at {radius:.3g}: {accuracy['large']:.1%}",
        ),
        (
            "more steps are never worse",
            all(more <= fewer + tolerance for fewer, more in pairwise(pgd)),
            ", ".join(f"PGD-{steps} {found:.1%}" for steps, found in zip(STEPS, pgd, strict=True)),
        ),
        (
            "one step never beats many",
            best <= accuracy["fgsm"] + tolerance,
            f"FGSM {accuracy['fgsm']:.1%}, PGD {best:.1%}",
        ),
        (
            "noise is far weaker than a gradient",
            accuracy["clean"] - best > 2 * lost_to_noise + tolerance,
            f"clean {accuracy['clean']:.1%}, noise {accuracy['noise']:.1%}, PGD {best:.1%}",
        ),
    ]
    if "square" in accuracy:
        rows.append(
            (
                "black box never beats white box",
                best <= accuracy["square"] + tolerance,
                f"Square ({table['queries'].iloc[0]} queries) {accuracy['square']:.1%}, PGD {best:.1%}",
            )
        )
    report = pd.DataFrame(rows, columns=["check", "passed", "numbers"]).astype({"passed": bool})
    return report.assign(eps=table.loc[table["condition"] == "noise", "eps"].iloc[0], norm=table["norm"].iloc[0])


def masking_report(model: nn.Module, loader: Iterable[Batch], *, tolerance: float = 0.01, **options) -> pd.DataFrame:
    """The six checks of PGD on this model; options are those of `audit_predictions`, columns those of `judge_audit`."""
    return judge_audit(audit_predictions(model, loader, **options), tolerance=tolerance)


def _withstood(model: nn.Module, batches: Iterable[Batch], attack: str, eps: float, **options) -> pd.DataFrame:
    """Which images are right as they are and under an attack, in the order of the batches."""
    curve = attack_curve(model, batches, attack=attack, eps_grid=(0.0, eps), **options).assign(holds=hits)
    whole = curve.groupby("sample_id", sort=False, as_index=False)
    return whole.agg(label=("label", "first"), holds=("holds", "all"))


def _unchanged(model: nn.Module, batch: Batch, norm: str) -> pd.DataFrame:
    """Of which images every attack at radius 0 gives back the very pixels."""
    found = (
        fgsm(model, batch.pixels, batch.labels, eps=0.0, norm=norm),
        pgd(model, batch.pixels, batch.labels, eps=0.0, norm=norm),
        random_noise(None, batch.pixels, None, eps=0.0, norm=norm),
    )
    same = torch.stack([(pixels == batch.pixels).flatten(1).all(1) for pixels in found]).all(0)
    columns = dict(sample_id=batch.sample_ids, label=batch.labels, holds=same)
    return pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})
