"""Rows of images under attack, and the record of the strongest point of each image at each radius."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor, nn

from src.data.batches import Batch
from src.models.access import forward_in_parts, part_of
from src.models.checks import check_logits
from src.models.predict import label_rank, on_host
from src.runtime import sent

# name -> [n, …]: the state of each image under attack, on the model's device; position, radius, start, step and
# n_evaluations, which the host counts by itself, on the CPU
Rows = dict[str, Tensor]

COLUMNS = dict.fromkeys(("position", "radius", "sample_id", "label", "prediction"), "int64")
COLUMNS |= {"confidence": "float32", "label_rank": "int64", "distance": "float32", "n_evaluations": "int64"}
# what of a row is written down, and what that is worked out from
WRITTEN = ("position", "radius", "id", "y", "clean", "best", "n_evaluations")
WRITTEN += ("best_prediction", "best_confidence", "best_label_rank")


def rows_at(rows: Rows, chosen: Int[Tensor, " m"] | slice) -> Rows:
    """The chosen rows: positions on the CPU, or a slice."""
    if isinstance(chosen, slice):
        return {name: part_of(values, chosen) for name, values in rows.items()}
    there = {device: sent(chosen, device) for device in {values.device for values in rows.values()}}
    return {name: values.index_select(0, there[values.device]) for name, values in rows.items()}


def joined(parts: list[Rows | None]) -> Rows | None:
    """The rows of all parts, None for none."""
    parts = [part for part in parts if part is not None and len(part["x"])]
    if len(parts) < 2:
        return parts[0] if parts else None
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def shared(values: Int[Tensor, " n"], device: torch.device) -> int | Int[Tensor, " n"]:
    """The number that all rows have, or, where they differ, those of the host on a device."""
    first = int(values[0])
    return first if bool((values == first).all()) else sent(values, device)


def in_chunks(batch: Batch, size: int) -> list[Batch]:
    """The batch in pieces of at most `size` images."""
    return [Batch(*part) for part in zip(*(values.split(size) for values in batch), strict=True)]


@torch.no_grad()
def logits_of(model: nn.Module, pixels: Tensor, batch: Batch, n_classes: int | None = None) -> Tensor:
    """Checked logits of pixels that stand for the images of the batch."""
    logits = forward_in_parts(model, pixels)
    check_logits(logits, batch.labels, batch.sample_ids, n_classes)
    return logits


def facts_of(logits: Tensor, labels: Tensor) -> Rows:
    """Predicted class of each image, its softmax, and how many classes come before the label."""
    prediction = logits.argmax(1)
    confidence = logits.softmax(1).gather(1, prediction[:, None])[:, 0]
    return {"prediction": prediction, "confidence": confidence, "label_rank": label_rank(logits, labels)}


class Record:
    """Strongest points, a row for each image (position: its place in the loader) and radius (its place; 0: clean).

    n_evaluations: points tried for this image at this radius.  pixels: of each image the last point added, if kept.
    What is added stays on its device until a table is asked for.
    """

    def __init__(self, *, keep_pixels: bool = False):
        self.parts: list[Rows] = []
        self.n_images, self.keep_pixels, self.pixels = 0, keep_pixels, None

    def add(self, **columns: Tensor) -> None:
        self.parts.append({name: columns[name] for name in COLUMNS})

    def add_clean(self, batch: Batch, facts: Rows) -> Tensor:
        """Add clean images; return their positions, on the CPU."""
        position = torch.arange(self.n_images, self.n_images + len(batch.labels))
        ids = dict(position=position, radius=0 * position, sample_id=batch.sample_ids, label=batch.labels)
        nowhere = torch.zeros_like(facts["confidence"])
        self.add(**ids, **facts, distance=nowhere, n_evaluations=torch.ones_like(position))
        self.n_images += len(position)
        if self.keep_pixels:
            self.pixels = batch.pixels.clone() if self.pixels is None else torch.cat([self.pixels, batch.pixels])
        return position

    def table(self, grid: Sequence[float]) -> pd.DataFrame:
        """A row per image and radius, those of `grid`, ascending; the clean images are among them where 0 is.

        A radius without a point of its own repeats that of the radius before, which broke the image, at no cost.
        """
        radii = [0.0, *(eps for eps in grid if eps > 0)]
        whole = pd.MultiIndex.from_product([range(self.n_images), range(len(radii))], names=["position", "radius"])
        parts = self.parts or [{name: torch.empty(0) for name in COLUMNS}]
        columns = on_host(*(torch.cat([part[name] for part in parts]) for name in COLUMNS))
        columns = {name: values.numpy() for name, values in zip(COLUMNS, columns, strict=True)}
        table = pd.DataFrame(columns).set_index(whole.names).reindex(whole)
        table["n_evaluations"] = table["n_evaluations"].fillna(0)
        table = table.ffill().astype({name: COLUMNS[name] for name in table})
        table.insert(2, "eps", np.tile(radii, self.n_images))
        return table[table["eps"] >= grid[0]].reset_index(drop=True)
