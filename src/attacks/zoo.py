"""The tables of notebook 02, measured on many networks: name -> model, or (name, training seed) -> model.

loader: images with labels, as `as_batches` takes them.  progress: whether to show a bar.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from src.attacks.audit import AUDIT_RADII, CONDITIONS, audit_predictions
from src.attacks.curves import attack_curve
from src.attacks.ensemble import worst_case
from src.attacks.norms import check_255
from src.attacks.transfer import TRANSFER_ATTACKS, transfer_predictions
from src.data.inputs import as_batches, bar
from src.models.access import as_zoo, device_of, first_seeds
from src.tables.attacks import ENSEMBLE_255, FGSM_GRID, L2_GRID, LINF_GRID, PGD_GRID


def measure_curves(
    zoo: Mapping,
    loader: Iterable,
    *,
    pgd_steps: int,
    batch_size: int = 128,
    dtype: str = "float32",
    eps_255: Sequence[float] = ENSEMBLE_255,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Noise, FGSM, PGD, PGD cold, PGD against the top 5 and PGD in L2 on every model.

    "pgd" starts each radius where the smaller one ended; "pgd cold", at the radii of the 2023 report and at 2/255,
    which the claims ask for, afresh, as the report did.  What is broken stays broken in both.
    eps_255: radii in 1/255 at which PGD is compared with the ensemble.

    Columns of `attack_curve`, then model, model_seed, condition, norm.
    """
    linf = sorted({*PGD_GRID, *LINF_GRID, *(radius / 255 for radius in eps_255)})
    iterated = dict(attack="pgd", steps=pgd_steps, dtype=dtype)
    conditions = {
        "noise": dict(attack="noise", eps_grid=FGSM_GRID[::4]),
        "fgsm": dict(attack="fgsm", eps_grid=FGSM_GRID),
        "pgd": dict(eps_grid=linf, **iterated),
        "pgd cold": dict(eps_grid=sorted({*PGD_GRID, 2 / 255}), warm_start=False, **iterated),
        "pgd top-5": dict(eps_grid=linf, k=5, **iterated),
        "pgd L2": dict(eps_grid=L2_GRID, norm="L2", **iterated),
    }
    zoo = as_zoo(zoo)
    batches = as_batches(loader, again=True, device=device_of(*zoo.values()))
    with bar("curves", batches, progress, times=len(zoo) * len(conditions)) as shown:
        shared = dict(seed=seed, batch_size=batch_size, progress=shown)
        return pd.concat(
            attack_curve(model, batches, **shared, **options).assign(
                model=name, model_seed=model_seed, condition=condition, norm=options.get("norm", "Linf")
            )
            for (name, model_seed), model in zoo.items()
            for condition, options in conditions.items()
        )


def measure_worst_cases(
    zoo: Mapping, loader: Iterable, *, eps_255: Sequence[float] = ENSEMBLE_255, progress: bool = True, **options
) -> pd.DataFrame:
    """`worst_case` of every model along the radii; columns model, model_seed, condition and norm too.

    eps_255: radii in 1/255, above 0 and at most 255, each once.  options: norm, steps, n_targets, queries, seed and
    batch_size, as of `worst_case`.
    """
    for radius in eps_255:
        check_255(radius)
    if twice := sorted({radius for radius in eps_255 if list(eps_255).count(radius) > 1}):
        raise ValueError(f"eps_255 names {', '.join(f'{radius:g}' for radius in twice)} twice; name each radius once")
    zoo, eps = as_zoo(zoo), [radius / 255 for radius in eps_255]
    batches = as_batches(loader, again=True, device=device_of(*zoo.values()))
    n_attacks = 3 if options.get("queries", 1) else 2
    with bar("worst case", batches, progress, times=(1 + n_attacks * len(eps)) * len(zoo)) as shown:
        return pd.concat(
            worst_case(model, batches, eps=eps, progress=shown, **options).assign(
                model=name, model_seed=model_seed, condition="worst case", norm=options.get("norm", "Linf")
            )
            for (name, model_seed), model in zoo.items()
        )


def measure_transfer(
    zoo: Mapping, loader: Iterable, *, eps: float, seed: int = 0, progress: bool = True
) -> pd.DataFrame:
    """`transfer_predictions` between the first training seeds of all models, between their second ones, and so on.

    Columns round (0 for the first seeds; later ones are of the models that have so many), model (the target),
    model_seed and condition too.
    """
    zoo, seeds = as_zoo(zoo), {}
    for name, model_seed in zoo:
        seeds.setdefault(name, []).append(model_seed)
    rounds = [
        {(name, of[k]): zoo[name, of[k]] for name, of in seeds.items() if k < len(of)}
        for k in range(max(map(len, seeds.values())))
    ]
    rounds = [rounds[0], *(models for models in rounds[1:] if len(models) > 1)]
    batches = as_batches(loader, again=True, device=device_of(*zoo.values()))
    times = sum(len(models) * len(TRANSFER_ATTACKS) + 1 for models in rounds)
    with bar("transfer", batches, progress, times=times) as shown:
        table = pd.concat(
            transfer_predictions(models, batches, eps=eps, seed=seed, progress=shown).assign(
                round=k, model_seed=lambda made, models=models: made["target"].map(dict(models.keys()))
            )
            for k, models in enumerate(rounds)
        )
    return table.assign(model=table["target"], condition=table["attack"])


def measure_audits(
    zoo: Mapping, loader: Iterable, *, queries: int, seed: int = 0, progress: bool = True
) -> pd.DataFrame:
    """`audit_predictions` of each model's first seed at AUDIT_RADII; columns model and model_seed too."""
    first = first_seeds(zoo)
    batches = as_batches(loader, again=True, device=device_of(*first.values()))
    options = dict(eps=AUDIT_RADII, queries=queries, seed=seed)
    with bar("audit", batches, progress, times=CONDITIONS * len(first)) as shown:
        return pd.concat(
            audit_predictions(model, batches, progress=shown, **options).assign(model=name, model_seed=model_seed)
            for (name, model_seed), model in first.items()
        )
