"""PGD with momentum or without, APGD and Square as rules for the engine; `src.attacks` wraps them as functions."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from src.attacks.norms import check_threat, project, random_start, steepest
from src.attacks.record import Rows
from src.seeding import Stream


def cross_entropy(logits: Tensor, rows: Rows) -> Tensor:
    return F.cross_entropy(logits, rows["y"], reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest logit of another class minus the label's: above 0 when misclassified."""
    own = logits.gather(1, labels[:, None])
    return (logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True) - own)[:, 0]


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted difference of logits ratio, Croce & Hein 2020, eq. 8: unchanged when logits are shifted or scaled.

    Its denominator needs the four largest logits; with two or three classes the plain difference is taken.
    """
    gap = (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]
    if logits.shape[1] < 4:
        return gap
    top = logits.topk(4).values
    return gap / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


@dataclass(frozen=True)
class Pgd:
    """Projected gradient ascent, Madry et al. 2018.

    rel_step: length of a step as a share of eps.  decay: of accumulated gradients to follow, as in Dong et al. 2018.
    """

    norm: str = "Linf"
    steps: int = 10
    rel_step: float = 0.25
    n_starts: int = 1
    random_start: bool = True
    decay: float | None = None
    seed: int = 0
    uses_gradient = True

    def __post_init__(self):
        check_threat(0, self.norm)
        _check_counts(steps=self.steps, restarts=self.n_starts)
        if not 0 < self.rel_step < math.inf:
            raise ValueError(f"rel_step must be above 0, not {self.rel_step}")

    def prepare(self, rows: Rows, logits: Tensor) -> Rows:
        return {} if self.decay is None else {"momentum": torch.zeros_like(rows["clean"])}

    def start(self, rows: Rows) -> Rows:
        x = rows["clean"]
        if self.random_start:
            x = random_start(x, rows["eps"], self.norm, rows["id"], self.seed, Stream.ATTACK_START, rows["start"])
        return {"x": x} | self.widen(rows)

    def widen(self, rows: Rows) -> Rows:
        return {} if self.decay is None else {"momentum": torch.zeros_like(rows["clean"])}

    def loss(self, logits: Tensor, rows: Rows) -> Tensor:
        return cross_entropy(logits, rows)

    def move(self, rows: Rows, loss: Tensor, gradient: Tensor) -> Rows:
        changed = {}
        if self.decay is not None:
            size = gradient.abs().flatten(1).sum(1).clamp(min=1e-38)[:, None, None, None]
            gradient = changed["momentum"] = self.decay * rows["momentum"] + gradient / size
        x = rows["x"] + (self.rel_step * rows["eps"])[:, None, None, None] * steepest(gradient, self.norm)
        return changed | {"x": project(x, rows["clean"], rows["eps"], self.norm)}


@dataclass(frozen=True)
class Apgd:
    """Auto-PGD, Croce & Hein 2020, algorithm 1, with the constants of the paper.

    n_targets: 0 for cross-entropy; otherwise the targeted DLR loss, a start for each of the classes next in line.
    """

    norm: str = "Linf"
    steps: int = 100
    restarts: int = 1
    n_targets: int = 0
    seed: int = 0
    uses_gradient = True

    def __post_init__(self):
        check_threat(0, self.norm)
        _check_counts(steps=self.steps, restarts=self.restarts)

    @property
    def n_starts(self) -> int:
        return self.restarts * max(self.n_targets, 1)

    @cached_property
    def windows(self) -> Tensor:
        """[steps + 1]: at a checkpoint the steps since the last one, 0 elsewhere (section 3.1 of the paper)."""
        length, shortest, less = (max(int(share * self.steps), 1) for share in (0.22, 0.06, 0.03))
        windows, at = torch.zeros(self.steps + 1, dtype=torch.long), length
        while at <= self.steps:
            windows[at] = length
            length = max(length - less, shortest)
            at += length
        return windows

    def prepare(self, rows: Rows, logits: Tensor) -> Rows:
        state = {name: rows["clean"] for name in ("x_last", "x_top", "gradient_top")}
        state |= {name: rows["eps"] for name in ("loss_last", "loss_top", "loss_checked", "length")}
        state |= {"n_better": rows["start"], "halved": torch.zeros_like(rows["start"], dtype=torch.bool)}
        if self.n_targets:
            others = logits.scatter(1, rows["y"][:, None], -torch.inf)
            state["targets"] = others.topk(min(self.n_targets, logits.shape[1] - 1)).indices
        return state

    def start(self, rows: Rows) -> Rows:
        x = random_start(
            rows["clean"], rows["eps"], self.norm, rows["id"], self.seed, Stream.ATTACK_START, rows["start"]
        )
        return {"x": x} | self._fresh(rows)

    def widen(self, rows: Rows) -> Rows:
        return self._fresh(rows)

    def _fresh(self, rows: Rows) -> Rows:
        return {"length": 2 * rows["eps"], "loss_top": torch.full_like(rows["loss_top"], -torch.inf)}

    def loss(self, logits: Tensor, rows: Rows) -> Tensor:
        if not self.n_targets:
            return cross_entropy(logits, rows)
        # restarts come last: all targets once, then all again
        turn = rows["start"] % rows["targets"].shape[1]
        return targeted_dlr(logits, rows["y"], rows["targets"].gather(1, turn[:, None])[:, 0])

    def move(self, rows: Rows, loss: Tensor, gradient: Tensor) -> Rows:
        first = rows["step"] == 0
        higher = loss > rows["loss_top"]
        x_top = torch.where(_wide(higher), rows["x"], rows["x_top"])
        gradient_top = torch.where(_wide(higher), gradient, rows["gradient_top"])
        loss_top = torch.where(higher, loss, rows["loss_top"])
        n_better = torch.where(first, 0, rows["n_better"] + (loss > rows["loss_last"]))
        loss_checked = torch.where(first, loss, rows["loss_checked"])
        halved = rows["halved"] & ~first

        window = self.windows.to(loss.device)[rows["step"]]
        checked = window > 0
        halve = checked & ((n_better <= 0.75 * window) | (~halved & (loss_checked >= loss_top)))
        length = torch.where(halve, rows["length"] / 2, rows["length"])
        x = torch.where(_wide(halve), x_top, rows["x"])
        gradient = torch.where(_wide(halve), gradient_top, gradient)
        return {
            "x": self._step(rows, x, gradient, length, torch.where(_wide(first), x, rows["x_last"]), first),
            "x_last": x,
            "x_top": x_top,
            "gradient_top": gradient_top,
            "loss_last": loss,
            "loss_top": loss_top,
            "loss_checked": torch.where(checked, loss_top, loss_checked),
            "length": length,
            "n_better": torch.where(checked, 0, n_better),
            "halved": torch.where(checked, halve, halved),
        }

    def _step(self, rows: Rows, x: Tensor, gradient: Tensor, length: Tensor, x_last: Tensor, first: Tensor) -> Tensor:
        """Eq. 1 of the paper: a projected step, then three quarters of it and a quarter of the step before."""
        stepped = x + _wide(length) * steepest(gradient, self.norm)
        stepped = project(stepped, rows["clean"], rows["eps"], self.norm)
        share = _wide(torch.where(first, 1.0, 0.75))
        mixed = x + share * (stepped - x) + (1 - share) * (x - x_last)
        return project(mixed, rows["clean"], rows["eps"], self.norm)


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
