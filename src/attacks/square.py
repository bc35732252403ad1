"""The Square attack: random search with scores alone, for the Linf norm."""

from dataclasses import dataclass

import torch
from torch import Tensor

from src.attacks.norms import pick, wide
from src.attacks.record import Rows, shared
from src.attacks.rules import Rule, margin
from src.runtime import sent
from src.seeding import Stream, uniform

# after these shares of all queries the square's area is halved (Andriushchenko et al. 2020, section 4.1)
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, kw_only=True)
class Square(Rule):
    """Andriushchenko et al. 2020, algorithm 2: a square of new signs at a random place, kept when the margin grows.

    steps: queries after the first, of each restart.  p_init: share of the image that the first squares cover.
    """

    steps: int = 1000
    p_init: float = 0.8
    uses_gradient = False

    def __post_init__(self):
        if self.norm != "Linf":
            raise ValueError(f"square is there for the norm Linf, not {self.norm}; use pgd or apgd")
        if self.steps < 1 or self.restarts < 1 or not 0 < self.p_init <= 1:
            raise ValueError(
                f"queries and restarts must be at least 1 and p_init in (0, 1], not {self.steps}, {self.restarts} "
                f"and {self.p_init}"
            )

    def prepare(self, rows: Rows, logits: Tensor) -> Rows:
        return {"kept": rows["clean"], "kept_loss": rows["eps"]}

    def start(self, rows: Rows) -> Rows:
        """Vertical stripes of random signs, one for each column and channel."""
        n, channels, _, width = rows["clean"].shape
        start = shared(rows["start"], rows["id"].device)
        draws = uniform(rows["id"], self.seed, Stream.STRIPES, start, draws=channels * width)
        signs = torch.where(draws < 0.5, -1.0, 1.0).view(n, channels, 1, width)
        x = (rows["clean"] + wide(rows["eps"]) * signs).clamp(0, 1)
        return {"x": x, "kept_loss": torch.full_like(rows["eps"], -torch.inf)}

    def loss(self, logits: Tensor, rows: Rows) -> Tensor:
        return margin(logits, rows["y"])

    def move(self, rows: Rows, loss: Tensor, gradient: None) -> Rows:
        grown = loss > rows["kept_loss"]
        kept = pick(grown, rows["x"], rows["kept"])
        kept_loss = torch.where(grown, loss, rows["kept_loss"])
        return {"x": self._proposal(rows, kept), "kept": kept, "kept_loss": kept_loss}

    def _proposal(self, rows: Rows, kept: Tensor) -> Tensor:
        n, channels, height, width = kept.shape
        keys = (shared(rows[name], kept.device) for name in ("start", "step"))
        draws = uniform(rows["id"], self.seed, Stream.SQUARE, *keys, draws=2 + channels)
        side = sent(self._sides(rows["step"], height, width), kept.device)
        top, left = ((draws[:, i] * (size - side + 1)).long() for i, size in ((0, height), (1, width)))
        inside = _between(top, side, height)[:, None, :, None] & _between(left, side, width)[:, None, None, :]
        signs = torch.where(draws[:, 2:] < 0.5, -1.0, 1.0)[:, :, None, None]
        edge = rows["clean"] + wide(rows["eps"]) * signs
        return torch.where(inside, edge, kept).clamp(0, 1)

    def _sides(self, step: Tensor, height: int, width: int) -> Tensor:
        share = step / self.steps  # of the queries before this one, as in the authors' code
        thresholds = torch.tensor(_HALVINGS)
        area = self.p_init * 0.5 ** (share[:, None] > thresholds).sum(1)
        return (area * height * width).sqrt().round().long().clamp(1, min(height, width) - 1)


def with_queries(*, norm: str = "Linf", queries: int = 1000, restarts: int = 1, p_init: float = 0.8, seed: int = 0):
    """Square by the names of its users."""
    return Square(norm=norm, steps=queries, restarts=restarts, p_init=p_init, seed=seed)


def _between(first: Tensor, length: Tensor, size: int) -> Tensor:
    """Bool [n, size]: the places from `first` on, `length` of them."""
    places = torch.arange(size, device=first.device)
    return (places >= first[:, None]) & (places < (first + length)[:, None])
