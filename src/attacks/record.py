"""Rows of images under attack, and the record of the strongest point of each image at each radius."""

import torch
from torch import Tensor

from src.data.loaders import Batch
from src.models.predict import label_rank

Rows = dict[str, Tensor]  # name -> [n, …]: the state of each image under attack

FACTS = ("prediction", "confidence", "label_rank", "distance", "n_evaluations")


def rows_at(rows: Rows, chosen: Tensor | slice) -> Rows:
    """The chosen rows: a mask, positions or a slice."""
    return {name: values[chosen] for name, values in rows.items()}


def in_chunks(batch: Batch, size: int) -> list[Batch]:
    """The batch in pieces of at most `size` images."""
    return [Batch(*part) for part in zip(*(values.split(size) for values in batch), strict=True)]


def facts_of(logits: Tensor, labels: Tensor) -> Rows:
    """What a model says of images: predicted class, its softmax, and how many classes come before the label."""
    prediction = logits.argmax(1)
    confidence = logits.softmax(1).gather(1, prediction[:, None])[:, 0]
    return {"prediction": prediction, "confidence": confidence, "label_rank": label_rank(logits, labels)}


class Record:
    """The strongest point found for each image (rows, as they came) and radius (columns); column 0 is the clean image.

    Of each: FACTS, with n_evaluations the points tried for this image at this radius; and, if they are kept, the
    pixels at the largest radius.
    """

    def __init__(self, n_radii: int, *, keep_pixels: bool):
        self.n_radii, self.keep_pixels = n_radii, keep_pixels
        self.labels, self.sample_ids = torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
        self.facts = {name: torch.empty(0, n_radii + 1, dtype=torch.float64) for name in FACTS}
        self.pixels: Tensor | None = None

    def append(self, batch: Batch, facts: Rows) -> Tensor:
        """Add clean images, which stand at every radius until something better is written; return their positions."""
        first = len(self.labels)
        self.labels = torch.cat([self.labels, batch.labels.cpu()])
        self.sample_ids = torch.cat([self.sample_ids, batch.sample_ids.cpu()])
        for name in FACTS:
            columns = facts[name].double().cpu()[:, None].repeat(1, self.n_radii + 1)
            if name == "n_evaluations":
                columns[:, 1:] = 0
            self.facts[name] = torch.cat([self.facts[name], columns])
        if self.keep_pixels:
            self.pixels = batch.pixels.clone() if self.pixels is None else torch.cat([self.pixels, batch.pixels])
        return torch.arange(first, len(self.labels), device=batch.pixels.device)

    def write(self, rows: Rows, *, inherit: Tensor) -> None:
        """Write the best points of the rows at their radii; those of the mask `inherit` at all larger ones too."""
        positions, radii, inherit = rows["position"].cpu(), rows["radius"].cpu()[:, None], inherit.cpu()[:, None]
        columns = torch.arange(1, self.n_radii + 1)
        own = columns == radii + 1
        where = own | (inherit & (columns > radii))
        for name in FACTS:
            values = rows[f"best_{name}"].double().cpu()[:, None]
            if name == "n_evaluations":
                values = values * own  # what is inherited costs nothing
            written = self.facts[name][positions]
            written[:, 1:] = torch.where(where, values, written[:, 1:])
            self.facts[name][positions] = written
        if self.keep_pixels:
            at_last = where[:, -1].to(rows["best"].device)
            self.pixels[rows["position"][at_last]] = rows["best"][at_last]
