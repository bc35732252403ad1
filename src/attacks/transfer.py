"""Transfer: do examples that fool one network fool another?"""

from collections.abc import Iterable
from itertools import chain

import pandas as pd
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.attacks.norms import check_threat
from src.attacks.record import logits_of
from src.attacks.single import fgsm, mi_fgsm, pgd
from src.data.batches import Batch
from src.models.access import frozen
from src.tables.attacks import TRANSFER_STEPS

TRANSFER_ATTACKS = {"fgsm": fgsm, "pgd": pgd, "mi_fgsm": mi_fgsm}


def transfer_predictions(
    models: dict[str, nn.Module],
    loader: Iterable[Batch],
    *,
    eps: float,
    norm: str = "Linf",
    attacks: Iterable[str] = tuple(TRANSFER_ATTACKS),
    steps: int = TRANSFER_STEPS,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Predictions of every target on the adversarial examples of every source: a row per image, attack, ordered pair.

    Examples are made with all their steps, not only until the source is fooled, as confident ones transfer better.
    Rows: source by source, for each the attacks, for each the targets, images in the order of the loader.
    Columns: sample_id, label, attack, eps, source, target, source_clean, target_clean (predictions of the clean image),
    prediction (the target's, of the source's example); `tables.attacks.summarise_transfer` counts them.
    Raises ValueError for an unknown attack.
    """
    check_threat(eps, norm)
    attacks = tuple(attacks)
    unknown = [attack for attack in attacks if attack not in TRANSFER_ATTACKS]
    if unknown or not models:
        raise ValueError(
            f"expected models and attacks among {', '.join(TRANSFER_ATTACKS)}, not {list(models)}, {unknown}"
        )
    parts = {(source, attack, target): [] for source in models for attack in attacks for target in models}
    for batch in tqdm(loader, desc="transfer", disable=not progress, leave=False):
        clean = {name: _predict(model, batch.pixels, batch) for name, model in models.items()}
        iterated = dict(steps=steps, seed=seed, sample_ids=batch.sample_ids, early_stop=False)
        iterated["batch_size"] = len(batch.labels)
        for source, model in models.items():
            for attack in attacks:
                options = {} if attack == "fgsm" else iterated
                x = TRANSFER_ATTACKS[attack](model, batch.pixels, batch.labels, eps=eps, norm=norm, **options)
                for target, judge in models.items():
                    columns = {
                        "sample_id": batch.sample_ids,
                        "label": batch.labels,
                        "source_clean": clean[source],
                        "target_clean": clean[target],
                        "prediction": _predict(judge, x, batch),
                    }
                    part = pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})
                    part = part.assign(attack=attack, eps=eps, source=source, target=target)
                    parts[source, attack, target].append(part)
    return pd.concat(chain.from_iterable(parts.values()), ignore_index=True)


def _predict(model: nn.Module, pixels: Tensor, batch: Batch) -> Tensor:
    with frozen(model):
        return logits_of(model, pixels, batch).argmax(1)
