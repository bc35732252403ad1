"""Rules for the engine: what every attack is, PGD with momentum or without, and APGD."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from src.attacks.norms import pick, project, random_start, steepest, wide
from src.attacks.record import Rows, shared
from src.runtime import sent
from src.seeding import Stream


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


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """One attack: `steps` moves from each of `n_starts` starts. Its methods see many rows at once, and change none."""

    norm: str = "Linf"
    steps: int = 10
    restarts: int = 1
    seed: int = 0
    uses_gradient = True

    def __post_init__(self):
        for name in ("steps", "restarts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def n_starts(self) -> int:
        return self.restarts

    def prepare(self, rows: Rows, logits: Tensor) -> Rows:
        """State that lasts as long as the image is attacked; logits: of the clean images."""
        return self.widen(rows)

    def start(self, rows: Rows) -> Rows:
        """The state at the start numbered rows["start"], a new "x" among it: by default random in the ball."""
        keys = self.seed, Stream.ATTACK_START, shared(rows["start"], rows["id"].device)
        return {"x": random_start(rows["clean"], rows["eps"], self.norm, rows["id"], *keys)} | self.widen(rows)

    def widen(self, rows: Rows) -> Rows:
        """The state for a warm start: rows["eps"] has grown and "x" stays."""
        return {}

    def ball(self, rows: Rows) -> Rows:
        """What `inside` needs in Linf, worked out once a start: the lowest and highest value of each pixel."""
        clean, eps = rows["clean"], wide(rows["eps"])
        return {"low": (clean - eps).clamp_(0), "high": (clean + eps).clamp_(max=1)} if self.norm == "Linf" else {}

    def inside(self, x: Tensor, rows: Rows) -> Tensor:
        """x, which is changed, projected into the ball and [0, 1]."""
        if self.norm == "Linf":
            return x.clamp_(rows["low"], rows["high"])
        return project(x, rows["clean"], rows["eps"], self.norm)

    def loss(self, logits: Tensor, rows: Rows) -> Tensor:
        """Loss to maximise, [n]: by default the cross-entropy."""
        return F.cross_entropy(logits, rows["y"], reduction="none")

    @abstractmethod
    def move(self, rows: Rows, loss: Tensor, gradient: Tensor | None) -> Rows:
        """The state with "x" at the point to try next; loss and gradient are those at "x" as it is."""


@dataclass(frozen=True, kw_only=True)
class Pgd(Rule):
    """Projected gradient ascent, Madry et al. 2018.

    rel_step: length of a step as a share of eps, 2.5 / steps unless given.  random_start: begin at a random point of
    the ball, not at the image.  decay: of the accumulated gradients that are followed (Dong et al. 2018); None for the
    gradient alone.
    """

    rel_step: float | None = None
    random_start: bool = True
    decay: float | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.rel_step is not None and not 0 < self.rel_step < math.inf:
            raise ValueError(f"rel_step must be above 0, not {self.rel_step}")

    def start(self, rows: Rows) -> Rows:
        return super().start(rows) if self.random_start else {"x": rows["clean"]} | self.widen(rows)

    def widen(self, rows: Rows) -> Rows:
        state = self.ball(rows)
        return state if self.decay is None else state | {"momentum": torch.zeros_like(rows["clean"])}

    def move(self, rows: Rows, loss: Tensor, gradient: Tensor) -> Rows:
        changed = {}
        if self.decay is not None:
            size = wide(gradient.abs().flatten(1).sum(1).clamp(min=1e-38))
            gradient = changed["momentum"] = self.decay * rows["momentum"] + gradient / size
        rel_step = 2.5 / self.steps if self.rel_step is None else self.rel_step
        x = torch.addcmul(rows["x"], wide(rel_step * rows["eps"]), steepest(gradient, self.norm))
        return changed | {"x": self.inside(x, rows)}


def check_targets(n_targets: int) -> None:
    """ValueError for no target classes."""
    if n_targets < 1:
        raise ValueError(f"n_targets must be at least 1, not {n_targets}")


@dataclass(frozen=True, kw_only=True)
class Apgd(Rule):
    """Auto-PGD, Croce & Hein 2020, algorithm 1, with the constants of the paper.

    n_targets: 0 for cross-entropy; otherwise the targeted DLR loss, a start for each of the classes next in line.
    """

    steps: int = 100
    n_targets: int = 0

    @property
    def n_starts(self) -> int:
        return self.restarts * max(self.n_targets, 1)

    @cached_property
    def windows(self) -> Tensor:
        """[steps + 1], on the CPU: at a checkpoint the steps since the last one, else 0 (section 3.1 of the paper)."""
        length, shortest, less = (max(int(share * self.steps), 1) for share in (0.22, 0.06, 0.03))
        windows, at = torch.zeros(self.steps + 1, dtype=torch.long), length
        while at <= self.steps:
            windows[at] = length
            length = max(length - less, shortest)
            at += length
        return windows

    def prepare(self, rows: Rows, logits: Tensor) -> Rows:
        state = {name: rows["clean"] for name in ("x_last", "x_top", "direction_top")}
        state |= {name: rows["eps"] for name in ("loss_last", "loss_top", "loss_checked", "length")}
        state |= {"n_better": torch.zeros_like(rows["y"]), "halved": torch.zeros_like(rows["y"], dtype=torch.bool)}
        if self.n_targets:
            others = logits.scatter(1, rows["y"][:, None], -torch.inf)
            state["targets"] = others.topk(min(self.n_targets, logits.shape[1] - 1)).indices
        return state

    def widen(self, rows: Rows) -> Rows:
        state = {"length": 2 * rows["eps"], "loss_top": torch.full_like(rows["eps"], -torch.inf)}
        return state | self.ball(rows)

    def loss(self, logits: Tensor, rows: Rows) -> Tensor:
        if not self.n_targets:
            return super().loss(logits, rows)
        # restarts come last: all targets once, then all again
        turn = shared(rows["start"] % rows["targets"].shape[1], logits.device)
        targets = rows["targets"]
        targets = targets[:, turn] if isinstance(turn, int) else targets.gather(1, turn[:, None])[:, 0]
        return targeted_dlr(logits, rows["y"], targets)

    def move(self, rows: Rows, loss: Tensor, gradient: Tensor) -> Rows:
        first, window = rows["step"] == 0, self.windows[rows["step"]]  # on the CPU
        x, direction, higher = rows["x"], steepest(gradient, self.norm), loss > rows["loss_top"]
        state = {name: rows[name] for name in ("loss_checked", "halved", "length")}
        state |= {"x_top": pick(higher, x, rows["x_top"]), "loss_top": torch.where(higher, loss, rows["loss_top"])}
        state |= {"direction_top": pick(higher, direction, rows["direction_top"]), "loss_last": loss}
        state["n_better"] = rows["n_better"] + (loss > rows["loss_last"])
        if first.any():
            fresh = sent(first, loss.device)
            state["n_better"] = torch.where(fresh, 0, state["n_better"])
            state["loss_checked"] = torch.where(fresh, loss, state["loss_checked"])
            state["halved"] = state["halved"] & ~fresh
        if window.any():
            halve, changed = self._checked(state, sent(window, loss.device))
            x, direction = pick(halve, state["x_top"], x), pick(halve, state["direction_top"], direction)
            state |= changed
        return state | {"x": self._step(rows, x, direction, state["length"], first), "x_last": x}

    def _checked(self, state: Rows, window: Tensor) -> tuple[Tensor, Rows]:
        """Which rows halve their step, and what checkpoints change: conditions 1 and 2 of the paper's section 3.1."""
        checked, stuck = window > 0, ~state["halved"] & (state["loss_checked"] >= state["loss_top"])
        halve = checked & ((state["n_better"] <= 0.75 * window) | stuck)
        return halve, {
            "length": torch.where(halve, state["length"] / 2, state["length"]),
            "loss_checked": torch.where(checked, state["loss_top"], state["loss_checked"]),
            "n_better": torch.where(checked, 0, state["n_better"]),
            "halved": torch.where(checked, halve, state["halved"]),
        }

    def _step(self, rows: Rows, x: Tensor, direction: Tensor, length: Tensor, first: Tensor) -> Tensor:
        """Eq. 1 of the paper: a projected step, then three quarters of it and a quarter of the step before."""
        stepped = self.inside(torch.addcmul(x, wide(length), direction), rows)
        if first.all():
            return stepped
        mixed = self.inside(torch.lerp(x, stepped, 0.75).add_(x - rows["x_last"], alpha=0.25), rows)
        return pick(sent(first, x.device), stepped, mixed) if first.any() else mixed
