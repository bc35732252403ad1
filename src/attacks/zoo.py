"""The tables of notebook 02, measured on a zoo: (name, training seed) -> model."""

from collections.abc import Iterable, Sequence

import pandas as pd
from torch import nn
from tqdm.auto import tqdm

from src.attacks.audit import audit_predictions
from src.attacks.curves import attack_curve, worst_case
from src.attacks.transfer import transfer_predictions
from src.data.batches import Batch
from src.tables.attacks import FGSM_GRID, L2_GRID, LINF_GRID, PGD_GRID

Zoo = dict[tuple[str, int], nn.Module]


def measure_curves(
    zoo: Zoo, loader: Iterable[Batch], *, pgd_steps: int, batch_size: int = 128, dtype: str = "float32", seed: int = 0
) -> pd.DataFrame:
    """Noise, FGSM, PGD, PGD against the top 5 and PGD in L2 on every model.

    Columns of `attack_curve`, then model, model_seed, condition, norm.
    """
    linf, iterated = sorted({*PGD_GRID, *LINF_GRID}), dict(attack="pgd", steps=pgd_steps, dtype=dtype)
    conditions = {
        "noise": dict(attack="noise", eps_grid=FGSM_GRID[::4]),
        "fgsm": dict(attack="fgsm", eps_grid=FGSM_GRID),
        "pgd": dict(eps_grid=linf, **iterated),
        "pgd top-5": dict(eps_grid=linf, k=5, **iterated),
        "pgd L2": dict(eps_grid=L2_GRID, norm="L2", **iterated),
    }
    return pd.concat(
        attack_curve(model, loader, seed=seed, batch_size=batch_size, **options).assign(
            model=name, model_seed=model_seed, condition=condition, norm=options.get("norm", "Linf")
        )
        for (name, model_seed), model in tqdm(zoo.items(), desc="curves")
        for condition, options in conditions.items()
    )


def measure_worst_cases(zoo: Zoo, loader: Iterable[Batch], *, eps_255: Sequence[float], **options) -> pd.DataFrame:
    """`worst_case` of every model at every radius; columns model, model_seed, condition and norm too."""
    return pd.concat(
        worst_case(model, loader, eps=radius / 255, **options).assign(
            model=name, model_seed=model_seed, condition="worst case", norm="Linf"
        )
        for (name, model_seed), model in tqdm(zoo.items(), desc="worst case")
        for radius in eps_255
    )


def measure_transfer(zoo: Zoo, loader: Iterable[Batch], *, eps: float, seed: int = 0) -> pd.DataFrame:
    """`transfer_predictions` between the models' first seeds; columns model (the target), model_seed, condition too."""
    first, model_seed = _first_seeds(zoo)
    table = transfer_predictions(first, loader, eps=eps, seed=seed, progress=True)
    return table.assign(model=table["target"], model_seed=model_seed, condition=table["attack"])


def measure_audits(zoo: Zoo, loader: Iterable[Batch], *, queries: int, seed: int = 0) -> pd.DataFrame:
    """`audit_predictions` of each model's first seed; columns model and model_seed too."""
    first, model_seed = _first_seeds(zoo)
    return pd.concat(
        audit_predictions(model, loader, queries=queries, seed=seed).assign(model=name, model_seed=model_seed)
        for name, model in tqdm(first.items(), desc="audit")
    )


def _first_seeds(zoo: Zoo) -> tuple[dict[str, nn.Module], int]:
    seed = next(iter(zoo))[1]
    return {name: model for (name, model_seed), model in zoo.items() if model_seed == seed}, seed
