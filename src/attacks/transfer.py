"""Transfer: do examples that fool one network fool another?"""

from collections.abc import Iterable, Mapping
from itertools import chain, product

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.attacks.norms import check_threat
from src.attacks.record import logits_of
from src.attacks.single import fgsm, mi_fgsm, pgd, random_noise
from src.data.batches import Batch
from src.data.inputs import as_batches, bar
from src.models.access import device_of, first_seeds, frozen
from src.models.checks import checked_together
from src.tables.attacks import NOISE, TRANSFER_STEPS

TRANSFER_ATTACKS = {"fgsm": fgsm, "pgd": pgd, "mi_fgsm": mi_fgsm}


def transfer_predictions(
    models: Mapping,
    loader: Iterable,
    *,
    eps: float,
    norm: str = "Linf",
    attacks: Iterable[str] = tuple(TRANSFER_ATTACKS),
    steps: int = TRANSFER_STEPS,
    seed: int = 0,
    progress: bool | tqdm = True,
) -> pd.DataFrame:
    """Predictions of every target on the adversarial examples of every source: a row per image, attack, ordered pair.

    models: name -> model, or (name, training seed) -> model, of which each name's first counts.  loader, progress: as
    of `attack_curve`.
    Examples are made with all their steps, not only until the source is fooled, as confident ones transfer better.
    Rows: source by source, for each the attacks, for each the targets, images in the order of the loader; last the
    attack NOISE, random signs of the same radius, which has no source ("", and source_clean -1): the baseline.
    Columns: sample_id, label, attack, eps, source, target, source_clean, target_clean (predictions of the clean image),
    prediction (the target's, of the source's example); `tables.attacks.summarise_transfer` counts them.
    Raises ValueError for an unknown attack.
    """
    check_threat(eps, norm)
    models, attacks = {name: model for (name, _), model in first_seeds(models).items()}, tuple(attacks)
    if unknown := [attack for attack in attacks if attack not in TRANSFER_ATTACKS]:
        raise ValueError(f"unknown attacks {', '.join(unknown)}; choose from {', '.join(TRANSFER_ATTACKS)}")
    batches = as_batches(loader, device=device_of(*models.values()))
    made = [*product(models, attacks), ("", NOISE)]
    parts = {(source, attack, target): [] for source, attack in made for target in models}
    names = [*models]
    with bar("transfer", batches, progress, times=len(made)) as shown:
        for batch in batches:
            with checked_together():
                seen = [_predict(model, batch.pixels, batch, batches.n_classes) for model in models.values()]
            iterated = dict(steps=steps, seed=seed, sample_ids=batch.sample_ids, early_stop=False)
            iterated["batch_size"] = len(batch.labels)
            own = {"fgsm": {}, NOISE: dict(seed=seed, sample_ids=batch.sample_ids)}
            with checked_together():
                for source, attack in made:
                    make = TRANSFER_ATTACKS.get(attack, random_noise)
                    options = dict(eps=eps, norm=norm) | own.get(attack, iterated)
                    x = make(models.get(source), batch.pixels, batch.labels, **options)
                    seen += [_predict(judge, x, batch) for judge in models.values()]
                    shown.update(len(batch.labels))
            ids, labels, *seen = torch.stack([batch.sample_ids, batch.labels, *seen]).cpu().numpy()  # in one go
            clean = dict(zip(names, seen, strict=False)) | {"": np.full_like(labels, -1)}
            for (source, attack, target), prediction in zip(parts, seen[len(names) :], strict=True):
                columns = dict(sample_id=ids, label=labels, source_clean=clean[source], target_clean=clean[target])
                facts = dict(prediction=prediction, attack=attack, eps=eps, source=source, target=target)
                parts[source, attack, target].append(pd.DataFrame(columns | facts))
    return pd.concat(chain.from_iterable(parts.values()), ignore_index=True)


def _predict(model: nn.Module, pixels: Tensor, batch: Batch, n_classes: int | None = None) -> Tensor:
    with frozen(model):
        return logits_of(model, pixels, batch, n_classes).argmax(1)
