"""Predictions: logits per example, from which all else is computed by `src.tables.statistics`."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.data.inputs import as_batches, bar
from src.models.access import as_zoo, device_of, forward_in_parts, frozen
from src.models.checks import check_logits


def predict(model: nn.Module, loader: Iterable, *, progress: bool | tqdm = True) -> pd.DataFrame:
    """One row per image, in the order given.

    loader: images with labels, as `as_batches` takes them: a loader, a DataLoader, a pair of tensors.
    progress: whether to show a bar of images, or the bar of a caller.
    Columns: sample_id, label, prediction (class indices), confidence (softmax of the prediction), label_rank (how many
    classes come before the label, 0 to k - 1) and logit_0 … logit_{k-1} (float32).  Of equal logits the class of lower
    index comes first.  Every part of the model comes back in the mode it had.
    Raises ValueError for an output that is no logits, or not one for each class of the images, for a logit that is not
    finite, and for a label that is mixed or beyond the model's classes.
    """
    batches, parts = as_batches(loader, device=device_of(model)), []
    with frozen(model), torch.inference_mode(), bar("predictions", batches, progress) as shown:
        for batch in batches:
            logits = forward_in_parts(model, batch.pixels)
            sample_ids, labels, logits = _on_host(batch.sample_ids, batch.labels, logits)
            check_logits(logits, labels, sample_ids, batches.n_classes)
            parts.append((sample_ids, labels, logits))
            shown.update(len(batch.labels))
    sample_ids, labels, logits = (torch.cat(column) for column in zip(*parts, strict=True))
    prediction = logits.argmax(1)
    confidence = logits.softmax(1).gather(1, prediction[:, None])[:, 0]
    rank = label_rank(logits, labels)
    head = dict(sample_id=sample_ids, label=labels, prediction=prediction, confidence=confidence, label_rank=rank)
    columns = {name: values.numpy() for name, values in head.items()}
    columns |= {f"logit_{k}": logits[:, k].numpy() for k in range(logits.shape[1])}
    return pd.DataFrame(columns)


def _on_host(*columns: Tensor) -> list[Tensor]:
    """The same tensors, copied as bytes in one piece, so that the device is waited for once; widest numbers first."""
    flat = [column.contiguous().flatten().view(torch.uint8) for column in columns]
    parts = torch.cat(flat).cpu().split([len(part) for part in flat])
    return [part.view(column.dtype).view(column.shape) for part, column in zip(parts, columns, strict=True)]


def predict_zoo(zoo: Mapping, loader: Iterable, *, progress: bool = True) -> pd.DataFrame:
    """`predict` of every network, name -> model or (name, training seed) -> model; columns model and model_seed too."""
    zoo = as_zoo(zoo)
    batches = as_batches(loader, again=True, device=device_of(*zoo.values()))
    with bar("predictions", batches, progress, times=len(zoo)) as shown:
        return pd.concat(
            predict(model, batches, progress=shown).assign(model=name, model_seed=seed)
            for (name, seed), model in zoo.items()
        )


def label_rank(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Number of classes before the label: those of a larger logit, or of an equal one and a lower index."""
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return ((logits > own) | ((logits == own) & earlier)).sum(1)


def logits_of(table: pd.DataFrame) -> np.ndarray:
    """The logit columns of a table from `predict` as an array [n, k] in class order."""
    names = [f"logit_{k}" for k in range(sum(name.startswith("logit_") for name in table.columns))]
    return table[names].to_numpy()
