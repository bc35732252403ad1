"""Iterated attacks on a stream of images: an image that is fooled leaves the batch, the next one takes its place.

An attack is a `Rule`: how to start, what to maximise, how to move. The engine holds a batch of rows, each an image at
its own radius, start and step, and gives all of them one forward and one backward pass at a time. A row goes through
the radii in ascending order. What breaks an image at one radius breaks it at every larger one, so the image is done;
if it holds, it goes on from the point it reached (a warm start), whose gradient is known already.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.attacks.norms import distance
from src.attacks.record import Record, Rows, facts_of
from src.data.loaders import Batch
from src.models.access import check_images, check_logits, frozen, input_gradient


class Rule(Protocol):
    """One attack: `steps` moves from each of `n_starts` starts. Its methods see many rows at once, and change none."""

    norm: str
    steps: int
    n_starts: int
    uses_gradient: bool

    def prepare(self, rows: Rows, logits: Tensor) -> Rows:
        """State that lasts as long as the image is attacked; logits: of the clean images."""

    def start(self, rows: Rows) -> Rows:
        """The state at the start numbered rows["start"], a new "x" among it."""

    def widen(self, rows: Rows) -> Rows:
        """The state for a warm start: rows["eps"] has grown and "x" stays."""

    def loss(self, logits: Tensor, rows: Rows) -> Tensor:
        """What to maximise, [n]."""

    def move(self, rows: Rows, loss: Tensor, gradient: Tensor | None) -> Rows:
        """The state with "x" at the point to try next; loss and gradient are those at "x" as it is."""


@dataclass(frozen=True)
class Plan:
    """What the engine is to do.

    eps_grid: radii above 0, ascending.  k: an image is broken when its label is not among the top k.
    early_stop: stop at the first point that breaks an image, for this radius and all larger ones, and do not attack
    what is misclassified anyway; otherwise all steps are done at all radii.  warm_start: begin a radius where the last
    one ended.  continuous: fill places in the batch as they become free, not once it is empty.  dtype: "bfloat16"
    computes under autocast, and writes down no success that was not seen in float32.  keep_pixels: return the images.
    """

    eps_grid: tuple[float, ...]
    k: int = 1
    early_stop: bool = True
    warm_start: bool = True
    continuous: bool = True
    batch_size: int = 128
    dtype: str = "float32"
    keep_pixels: bool = False
    progress: str | None = None

    def __post_init__(self):
        if list(self.eps_grid) != sorted(set(self.eps_grid)) or min(self.eps_grid, default=0) <= 0:
            raise ValueError(f"the engine takes ascending radii above 0, not {self.eps_grid}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"unknown dtype {self.dtype!r}; choose from float32, bfloat16")
        if self.batch_size < 1 or self.k < 1:
            raise ValueError(f"batch_size and k must be at least 1, not {self.batch_size} and {self.k}")


def run(model: nn.Module, loader: Iterable[Batch], rule: Rule, plan: Plan) -> Record:
    """Attack every image of the loader at every radius of the plan."""
    record = Record(len(plan.eps_grid), keep_pixels=plan.keep_pixels)
    total = len(loader.labels) if hasattr(loader, "labels") else None
    bar = tqdm(desc=plan.progress, total=total, disable=plan.progress is None, leave=False, unit="image")
    with frozen(model), bar:
        queue = _Queue(_victims(model, loader, rule, plan, record))
        rows = queue.take(plan.batch_size)
        while rows is not None:
            rows = _advance(model, rows, rule, plan, record)
            free = plan.batch_size - len(rows["x"])
            if free and (plan.continuous or free == plan.batch_size):
                rows = _joined([rows, queue.take(free)])
            done = len(record.labels) - queue.n_waiting - (len(rows["x"]) if rows else 0)
            bar.update(done - bar.n)
    return record


class _Queue:
    """Rows that come in chunks, taken in any number."""

    def __init__(self, chunks: Iterator[Rows]):
        self.chunks, self.waiting = chunks, None

    @property
    def n_waiting(self) -> int:
        return 0 if self.waiting is None else len(self.waiting["x"])

    def take(self, n: int) -> Rows | None:
        """The next n rows, fewer at the end, None after it."""
        while self.n_waiting < n and (chunk := next(self.chunks, None)) is not None:
            self.waiting = _joined([self.waiting, chunk])
        if not self.n_waiting:
            return None
        taken = {name: values[:n] for name, values in self.waiting.items()}
        self.waiting = {name: values[n:] for name, values in self.waiting.items()}
        return taken


def _victims(model: nn.Module, loader: Iterable[Batch], rule: Rule, plan: Plan, record: Record) -> Iterator[Rows]:
    """The images to attack, as rows at the first start of the first radius; their clean facts go into the record."""
    for batch in loader:
        check_images(batch.pixels, batch.labels)
        with torch.no_grad():
            logits = model(batch.pixels).float()
        check_logits(logits, batch.labels, batch.sample_ids)
        zeros = torch.zeros_like(batch.labels)
        facts = facts_of(logits, batch.labels)
        rows = {
            "position": record.append(batch, facts | {"distance": zeros, "n_evaluations": zeros + 1}),
            "id": batch.sample_ids,
            "y": batch.labels,
            "clean": batch.pixels,
            "best": batch.pixels,
            "best_loss": torch.full_like(facts["confidence"], -torch.inf),
            "eps": torch.full_like(facts["confidence"], plan.eps_grid[0]),
            "radius": zeros,
            "start": zeros,
            "step": zeros,
            "best_n_evaluations": zeros,
        } | {f"best_{name}": values for name, values in facts.items()}
        rows |= rule.prepare(rows, logits)
        if plan.early_stop:
            standing = facts["label_rank"] < plan.k
            rows = {name: values[standing] for name, values in rows.items()}
        if len(rows["id"]):
            yield rows | rule.start(rows)


def _advance(model: nn.Module, rows: Rows, rule: Rule, plan: Plan, record: Record) -> Rows:
    """Evaluate every row at its point, write down what ends, and move the others on; the rows that stay."""
    last_radius = rows["radius"] == len(plan.eps_grid) - 1
    start_ends = rows["step"] == rule.steps
    radius_ends = start_ends & (rows["start"] == rule.n_starts - 1)
    widens = radius_ends & ~last_radius & plan.warm_start
    moves = ~start_ends | widens

    # where a radius begins warm, the move that follows is the first of its first start: so is the loss it climbs
    judged = rows | {"start": torch.where(widens, 0, rows["start"])}
    logits, loss, gradient = _evaluate(model, judged, rule, plan, moves)
    check_logits(logits, rows["y"], rows["id"])
    facts = facts_of(logits, rows["y"])
    if plan.early_stop and plan.dtype != "float32":
        facts = _confirmed(model, rows, facts, plan.k)
    rows = _keep_best(rows, facts, loss, plan.k)

    broken = (rows["best_label_rank"] >= plan.k) & plan.early_stop
    ends = broken | radius_ends
    if bool(ends.any()):
        _write_down(model, {name: values[ends] for name, values in rows.items()}, broken[ends], rule, plan, record)
        stays = (~broken & ~(radius_ends & last_radius)).nonzero()[:, 0]
        rows = {name: values[stays] for name, values in rows.items()}
        loss, moves, widens, start_ends, radius_ends = (
            values[stays] for values in (loss, moves, widens, start_ends, radius_ends)
        )
        gradient = None if gradient is None else gradient[stays]

    rows = _begin_radius(rows, radius_ends, plan)
    rows["start"] = torch.where(radius_ends, 0, rows["start"] + (start_ends & ~radius_ends).long())
    rows["step"] = torch.where(start_ends, 0, rows["step"])
    rows = _changed(rows, widens, rule.widen)
    rows = _changed(rows, moves, rule.move, loss, gradient)
    rows["step"] = rows["step"] + moves
    return _changed(rows, ~moves, rule.start)


def _evaluate(model, rows: Rows, rule: Rule, plan: Plan, moves: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits, loss and, where a move follows, the gradient at every row's "x"; those that end get no backward pass."""
    if not rule.uses_gradient or not bool(moves.any()):
        return _forward(model, rows, rule, plan)
    if bool(moves.all()):
        return _forward_backward(model, rows, rule, plan)
    moving, ending = ({name: values[mask] for name, values in rows.items()} for mask in (moves, ~moves))
    parts = _forward_backward(model, moving, rule, plan), _forward(model, ending, rule, plan)
    order = torch.cat([moves.nonzero()[:, 0], (~moves).nonzero()[:, 0]]).argsort()
    logits, loss = (torch.cat([part[i] for part in parts])[order] for i in (0, 1))
    gradient = torch.zeros_like(rows["x"])
    gradient[moves] = parts[0][2]
    return logits, loss, gradient


def _forward(model: nn.Module, rows: Rows, rule: Rule, plan: Plan) -> tuple[Tensor, Tensor, None]:
    with torch.no_grad(), _autocast(rows, plan):
        logits = model(rows["x"]).float()
        return logits, rule.loss(logits, rows), None


def _forward_backward(model: nn.Module, rows: Rows, rule: Rule, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    with _autocast(rows, plan):
        return input_gradient(model, rows["x"], lambda logits: rule.loss(logits, rows))


def _autocast(rows: Rows, plan: Plan) -> torch.autocast:
    return torch.autocast(rows["x"].device.type, torch.bfloat16, enabled=plan.dtype == "bfloat16")


def _write_down(model: nn.Module, rows: Rows, broken: Tensor, rule: Rule, plan: Plan, record: Record) -> None:
    """Put the best points of rows that end into the record; what is broken counts at all larger radii too."""
    if not plan.early_stop and plan.dtype != "float32":
        with torch.no_grad():
            facts = facts_of(model(rows["best"]).float(), rows["y"])
        rows = rows | {f"best_{name}": values for name, values in facts.items()}
    rows = rows | {"best_distance": distance(rows["best"], rows["clean"], rule.norm)}
    record.write(rows, inherit=broken)


@torch.no_grad()
def _confirmed(model: nn.Module, rows: Rows, facts: Rows, k: int) -> Rows:
    """The facts with every success that reduced precision claims looked at again in float32."""
    claimed = (facts["label_rank"] >= k).nonzero()[:, 0]
    if not len(claimed):
        return facts
    sure = facts_of(model(rows["x"][claimed]).float(), rows["y"][claimed])
    return {name: values.index_put((claimed,), sure[name]) for name, values in facts.items()}


def _keep_best(rows: Rows, facts: Rows, loss: Tensor, k: int) -> Rows:
    """Rows whose best point is the new one where that breaks the image and the old did not, or has a higher loss."""
    broken, was_broken = facts["label_rank"] >= k, rows["best_label_rank"] >= k
    better = (broken & ~was_broken) | ((broken == was_broken) & (loss > rows["best_loss"]))
    new = {f"best_{name}": values for name, values in facts.items()} | {"best_loss": loss}
    chosen = {name: torch.where(better, values, rows[name]) for name, values in new.items()}
    chosen["best"] = torch.where(better[:, None, None, None], rows["x"], rows["best"])
    return rows | chosen | {"best_n_evaluations": rows["best_n_evaluations"] + 1}


def _begin_radius(rows: Rows, begins: Tensor, plan: Plan) -> Rows:
    """Rows at their next radius where one begins; what was best in the smaller ball counts on after a warm start."""
    radius = rows["radius"] + begins
    eps = torch.tensor(plan.eps_grid, device=radius.device, dtype=rows["eps"].dtype)[radius]
    changed = {"radius": radius, "eps": eps}
    changed["best_n_evaluations"] = torch.where(begins, 0, rows["best_n_evaluations"])
    if not plan.warm_start:
        changed["best_loss"] = torch.where(begins, -torch.inf, rows["best_loss"])
        changed["best_label_rank"] = torch.where(begins, -1, rows["best_label_rank"])
    return rows | changed


def _changed(rows: Rows, mask: Tensor, function: Callable[..., Rows], *inputs: Tensor | None) -> Rows:
    """The rows with `function` applied to those of the mask."""
    if not bool(mask.any()):
        return rows
    if bool(mask.all()):
        return rows | function(rows, *inputs)
    some = function(
        {name: values[mask] for name, values in rows.items()}, *(None if x is None else x[mask] for x in inputs)
    )
    return rows | {name: rows[name].index_put((mask,), values) for name, values in some.items()}


def _joined(parts: list[Rows | None]) -> Rows | None:
    parts = [part for part in parts if part is not None and len(part["x"])]
    if len(parts) < 2:
        return parts[0] if parts else None
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
