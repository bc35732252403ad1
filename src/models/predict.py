"""Predictions: logits per example, from which all else is computed by `src.tables.statistics`."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.data.batches import Batch
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
    with bar("predictions", batches, progress) as shown:
        for batch in batches:
            sample_ids, labels, (logits,) = read_logits(batch, [run_on(model, batch.pixels)], batches.n_classes)
            parts.append((sample_ids, labels, logits))
            shown.update(len(batch.labels))
    sample_ids, labels, logits = (torch.cat(column) for column in zip(*parts, strict=True))
    table = first_choices(sample_ids, labels, logits).assign(label_rank=label_rank(logits, labels).numpy())
    return pd.concat(
        [table, pd.DataFrame({f"logit_{k}": logits[:, k].numpy() for k in range(logits.shape[1])})], axis=1
    )


def run_on(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """The logits of images, on their device, which is not waited for."""
    with frozen(model), torch.inference_mode():
        return forward_in_parts(model, pixels)


def read_logits(
    batch: Batch, logits: Sequence[Float[Tensor, "n k"]], n_classes: int | None
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], list[Float[Tensor, "n k"]]]:
    """Sample ids, labels, and the logits of one or several passes over a batch, on the CPU in one go, and checked."""
    sample_ids, labels, *logits = on_host(batch.sample_ids, batch.labels, *logits)
    for each in logits:
        check_logits(each, labels, sample_ids, n_classes)
    return sample_ids, labels, logits


def first_choices(
    sample_ids: Int[Tensor, " n"], labels: Int[Tensor, " n"], logits: Float[Tensor, "n k"]
) -> pd.DataFrame:
    """The columns sample_id, label, prediction and confidence of `predict`, of what is on the CPU."""
    prediction = logits.argmax(1)
    confidence = logits.softmax(1).gather(1, prediction[:, None])[:, 0]
    columns = dict(sample_id=sample_ids, label=labels, prediction=prediction, confidence=confidence)
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def on_host(*columns: Tensor) -> list[Tensor]:
    """The same tensors on the CPU; those on a device are copied in one piece, as bytes, and it is waited for once."""
    there = sorted((i for i, c in enumerate(columns) if not c.is_cpu), key=lambda i: -columns[i].element_size())
    if not there:
        return list(columns)
    flat = [columns[i].contiguous().flatten().view(torch.uint8) for i in there]  # widest numbers first: they align
    parts = torch.cat(flat).cpu().split([len(part) for part in flat])
    copied = {i: part.view(columns[i].dtype).view(columns[i].shape) for i, part in zip(there, parts, strict=True)}
    return [copied.get(i, column) for i, column in enumerate(columns)]


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
