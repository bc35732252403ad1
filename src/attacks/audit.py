"""Six checks of an attack's own results: where one fails, the gradients are masked and the curve cannot be believed.

Sources: Athalye, Carlini & Wagner 2018, section 3.1; Carlini et al. 2019, section 5.
"""

from collections.abc import Iterable

import pandas as pd
import torch
from torch import nn

from src.attacks.curves import attack_curve
from src.attacks.norms import check_threat
from src.attacks.single import fgsm, pgd, random_noise
from src.evaluation import hits
from src.loaders import Batch

STEPS = (5, 10, 40)  # of PGD, for "more steps are never worse"


def masking_report(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    eps: float = 8 / 255,
    norm: str = "Linf",
    queries: int = 300,
    tolerance: float = 0.01,
    seed: int = 0,
) -> pd.DataFrame:
    """Six checks of PGD on this model, one row each: check, passed, numbers (a sentence with the accuracies).

    tolerance: by how much an accuracy may be on the wrong side, as a share of all images.  queries: of the Square
    attack, which is left out for L2.  The large radius is half the pixel range, at which grey is in reach of any image.
    """
    check_threat(eps, norm)
    batches = list(loader)
    options = dict(norm=norm, seed=seed)
    clean = attack_curve(model, batches, attack="noise", eps_grid=(0.0, eps), **options)
    accuracy = {"clean": hits(clean[clean["eps"] == 0]).mean(), "noise": hits(clean[clean["eps"] > 0]).mean()}
    for steps in STEPS:
        accuracy[f"pgd{steps}"] = _robust(model, batches, "pgd", eps, steps=steps, **options)
    accuracy["fgsm"] = _robust(model, batches, "fgsm", eps, **options)
    large = 0.5 if norm == "Linf" else 0.5 * batches[0].pixels[0].numel() ** 0.5
    accuracy["large"] = _robust(model, batches, "pgd", large, steps=40, **options)
    if norm == "Linf":
        accuracy["square"] = _robust(model, batches, "square", eps, queries=queries, **options)
    best = min(accuracy[f"pgd{steps}"] for steps in STEPS)
    lost_to_noise = max(accuracy["clean"] - accuracy["noise"], 0)  # noise may also put some images right
    rows = [
        ("radius 0 is the clean image", *_zero_is_clean(model, batches, norm)),
        (
            "a large radius leaves nothing",
            accuracy["large"] <= tolerance,
            f"PGD-40 at {large:.3g}: {accuracy['large']:.1%}",
        ),
        (
            "more steps are never worse",
            all(accuracy[f"pgd{b}"] <= accuracy[f"pgd{a}"] + tolerance for a, b in zip(STEPS, STEPS[1:], strict=False)),
            ", ".join(f"PGD-{steps} {accuracy[f'pgd{steps}']:.1%}" for steps in STEPS),
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
    if norm == "Linf":
        rows.append(
            (
                "black box never beats white box",
                best <= accuracy["square"] + tolerance,
                f"Square ({queries} queries) {accuracy['square']:.1%}, PGD {best:.1%}",
            )
        )
    return pd.DataFrame(rows, columns=["check", "passed", "numbers"]).assign(eps=eps, norm=norm)


def _robust(model: nn.Module, batches: list[Batch], attack: str, eps: float, **options) -> float:
    """Accuracy under an attack, counting images that are misclassified as they are as broken."""
    curve = attack_curve(model, batches, attack=attack, eps_grid=(0.0, eps), **options)
    return float(curve.assign(hit=hits(curve)).groupby("sample_id")["hit"].all().mean())


def _zero_is_clean(model: nn.Module, batches: list[Batch], norm: str) -> tuple[bool, str]:
    """Whether every attack at radius 0 gives back the very pixels."""
    batch = batches[0]
    found = {
        "FGSM": fgsm(model, batch.pixels, batch.labels, eps=0.0, norm=norm),
        "PGD": pgd(model, batch.pixels, batch.labels, eps=0.0, norm=norm),
        "noise": random_noise(None, batch.pixels, None, eps=0.0, norm=norm),
    }
    same = [name for name, pixels in found.items() if torch.equal(pixels, batch.pixels)]
    return len(same) == len(found), f"bit for bit with {', '.join(same) or 'none'} of {', '.join(found)}"
