"""Predictions: logits per example, from which all else is computed by `src.tables.statistics`."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.models.access import check_logits, frozen


def predict(model: nn.Module, loader: Iterable, *, progress: str | None = None) -> pd.DataFrame:
    """One row per image of the loader, in its order.

    Columns: sample_id, label, prediction (class indices), confidence (softmax of the prediction), label_rank (how many
    classes come before the label, 0 to k - 1) and logit_0 … logit_{k-1} (float32).  Of equal logits the class of lower
    index comes first.  progress: text for a progress bar.  Every part of the model comes back in the mode it had.
    Raises ValueError when a logit is not finite, or when a label is mixed or beyond the model's classes.
    """
    with frozen(model), torch.inference_mode():
        parts = [
            (batch.sample_ids.cpu(), batch.labels.cpu(), model(batch.pixels).float().cpu())
            for batch in tqdm(loader, desc=progress, disable=progress is None, leave=False)
        ]
    sample_ids, labels, logits = (torch.cat(column) for column in zip(*parts, strict=True))
    check_logits(logits, labels, sample_ids)
    prediction = logits.argmax(1)
    confidence = logits.softmax(1).gather(1, prediction[:, None])[:, 0]
    rank = label_rank(logits, labels)
    head = dict(sample_id=sample_ids, label=labels, prediction=prediction, confidence=confidence, label_rank=rank)
    columns = {name: values.numpy() for name, values in head.items()}
    columns |= {f"logit_{k}": logits[:, k].numpy() for k in range(logits.shape[1])}
    return pd.DataFrame(columns)


def label_rank(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Number of classes before the label: those of a larger logit, or of an equal one and a lower index."""
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return ((logits > own) | ((logits == own) & earlier)).sum(1)


def logits_of(table: pd.DataFrame) -> np.ndarray:
    """The logit columns of a table from `predict` as an array [n, k] in class order."""
    names = [f"logit_{k}" for k in range(sum(name.startswith("logit_") for name in table.columns))]
    return table[names].to_numpy()
