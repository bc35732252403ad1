"""Iterated attacks on a stream of images: an image that is fooled leaves the batch, the next one takes its place.

PGD itself is six lines. The rest of this module does them for a batch of rows, each at its own radius, start and step:

    x = random_start(images, eps, norm, sample_ids, ...)
    for _ in range(steps):
        gradient = gradient of the loss at x
        x = x + rel_step * eps * steepest(gradient, norm)
        x = project(x, images, eps, norm)
    return x

An attack is a `Rule`: how to start, what to maximise, how to move. All rows share a forward and a backward pass, and of
the points that a row visits the strongest counts. It goes through the radii in ascending order: what breaks an image at
one radius breaks it at every larger one, so the image is done; if it holds, it goes on from the point it reached (a
warm start), whose gradient is known already.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from src.attacks.norms import check_threat, distance, pick
from src.attacks.plan import Plan
from src.attacks.record import WRITTEN, Record, Rows, facts_of, joined, logits_of, rows_at
from src.attacks.rules import Rule
from src.data.batches import Batch
from src.models.access import device_of, forward, forward_in_parts, frozen, in_halves, input_gradient
from src.models.checks import check_gradient, check_images, check_logits, checked_together
from src.models.folding import folded
from src.runtime import check_dtype, sent, tf32


def run(
    model: nn.Module,
    loader: Iterable[Batch],
    rule: Rule,
    plan: Plan,
    *,
    only: Collection[int] | None = None,
    advance: Callable[[int], object] = lambda n: None,
) -> Record:
    """Attack every image of the loader at every radius of the plan; `advance` is told how many images are done.

    only: sample ids of the images to attack, others are left out; all if not given.
    """
    for eps in plan.eps_grid:
        check_threat(eps, rule.norm)
    check_dtype(plan.dtype, device_of(model))
    record, n_done = Record(keep_pixels=plan.keep_pixels), 0
    with frozen(model), folded(model), checked_together():
        queue = _Queue(_victims(model, loader, rule, plan, record, only))
        rows = queue.take(plan.batch_size)
        while rows is not None:
            rows = _advance(model, rows, rule, plan, record)
            free = plan.batch_size - len(rows["x"])
            if free and (plan.continuous or free == plan.batch_size):
                rows = joined([rows, queue.take(free)])
            last, n_done = n_done, record.n_images - queue.n_waiting - (len(rows["x"]) if rows else 0)
            advance(n_done - last)
    advance(record.n_images - n_done)
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
            self.waiting = joined([self.waiting, chunk])
        if not self.n_waiting:
            return None
        taken, self.waiting = rows_at(self.waiting, slice(n)), rows_at(self.waiting, slice(n, None))
        return taken


def _victims(
    model: nn.Module, loader: Iterable[Batch], rule: Rule, plan: Plan, record: Record, only: Collection[int] | None
) -> Iterator[Rows]:
    """The images to attack, as rows at the first start of the first radius; their clean facts go into the record."""
    for batch in loader:
        check_images(batch.pixels, batch.labels)
        if only is not None:
            chosen = torch.tensor([i in only for i in batch.sample_ids.tolist()]).nonzero()[:, 0]
            if not len(chosen):
                continue
            batch = Batch(**rows_at(batch._asdict(), chosen))
        logits = logits_of(model, batch.pixels, batch, getattr(loader, "n_classes", None))
        # a label that no class has may be reported late, see `checked_together`; a GPU would end at it before
        labels = batch.labels.clamp(0, logits.shape[1] - 1)
        facts = facts_of(logits, labels)
        position = record.add_clean(batch, facts)
        rows = dict.fromkeys(("radius", "start", "step", "n_evaluations"), torch.zeros_like(position))
        rows |= {
            "position": position,
            "id": batch.sample_ids,
            "y": labels,
            "clean": batch.pixels,
            "best": batch.pixels,
            "best_loss": torch.full_like(facts["confidence"], -torch.inf),
            "eps": torch.full_like(facts["confidence"], plan.eps_grid[0]),
        } | {f"best_{name}": values for name, values in facts.items()}
        rows |= rule.prepare(rows, logits)
        if plan.early_stop:
            rows = rows_at(rows, (facts["label_rank"] < plan.k).cpu().nonzero()[:, 0])
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
    facts, broken = _look(model, rows, logits, plan)
    rows = _keep_best(rows, facts, loss, plan.k)
    now = dict(loss=loss, moves=moves, widens=widens, start_ends=start_ends, radius_ends=radius_ends)
    now |= {} if gradient is None else {"gradient": gradient}
    if bool((broken | radius_ends).any()):
        _write_down(model, rows, (broken | radius_ends).nonzero()[:, 0], rule, plan, record)
        leaves = broken | (radius_ends & last_radius)
        if bool(leaves.any()):
            rows, now = (rows_at(part, (~leaves).nonzero()[:, 0]) for part in (rows, now))
    return _move_on(rows, now, rule, plan) if len(rows["x"]) else rows


def _move_on(rows: Rows, now: Rows, rule: Rule, plan: Plan) -> Rows:
    """The rows at the point to try next: after a move, at a new start, or in a wider ball."""
    if bool(now["start_ends"].any()):
        rows = _begin_radius(rows, now["radius_ends"], plan)
        rows["start"] = torch.where(now["radius_ends"], 0, rows["start"] + now["start_ends"].long())
        rows["step"] = torch.where(now["start_ends"], 0, rows["step"])
        rows = _changed(rows, now["widens"], rule.widen)
    rows = _changed(rows, now["moves"], rule.move, now["loss"], now.get("gradient"))
    rows["step"] = rows["step"] + now["moves"]
    return _changed(rows, ~now["moves"], rule.start)


def _evaluate(model, rows: Rows, rule: Rule, plan: Plan, moves: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits, loss and, where a move follows, the gradient at every row's "x"; those that end get no backward pass."""
    if not rule.uses_gradient or not bool(moves.any()) or bool(moves.all()):
        return _pass(model, rows, rule, plan, backward=rule.uses_gradient and bool(moves.all()))
    places = [mask.nonzero()[:, 0] for mask in (moves, ~moves)]
    parts = [_pass(model, rows_at(rows, some), rule, plan, backward=some is places[0]) for some in places]
    order, first = (sent(some, rows["x"].device) for some in (torch.cat(places).argsort(), places[0]))
    logits, loss = (torch.cat([part[i] for part in parts])[order] for i in (0, 1))
    return logits, loss, torch.zeros_like(rows["x"]).index_copy_(0, first, parts[0][2])


def _pass(model, rows: Rows, rule: Rule, plan: Plan, *, backward: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    once = partial(_pass_at_once, model, rule=rule, plan=plan, backward=backward)
    return in_halves(lambda some: once(rows_at(rows, some)), len(rows["x"]))


def _pass_at_once(model, rows: Rows, rule: Rule, plan: Plan, backward: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    with torch.autocast(rows["x"].device.type, torch.bfloat16, enabled=plan.dtype == "bfloat16"), tf32(plan.dtype):
        if backward:
            logits, loss, gradient = input_gradient(model, rows["x"], lambda logits: rule.loss(logits, rows))
            check_gradient(gradient, logits)
            return logits, loss, gradient
        with torch.no_grad():
            logits = forward(model, rows["x"])
            return logits, rule.loss(logits, rows), None


@torch.no_grad()
def _look(model: nn.Module, rows: Rows, logits: Tensor, plan: Plan) -> tuple[Rows, Tensor]:
    """The facts, and on the CPU which rows are to stop as broken: the one time in a step that the device is waited for.

    Where none stops early it is not.  Successes that reduced precision claims are looked at again in float32.
    """
    facts = facts_of(logits, rows["y"])
    if not plan.early_stop:
        check_logits(logits, rows["y"], rows["id"])
        return facts, torch.zeros(len(logits), dtype=torch.bool)
    broken, finite = torch.stack([facts["label_rank"] >= plan.k, logits.isfinite().all(1)]).cpu()
    if not bool(finite.all()):
        check_logits(*(values.cpu() for values in (logits, rows["y"], rows["id"])))
    if plan.dtype != "float32" and bool(broken.any()):
        claimed = broken.nonzero()[:, 0]
        some = rows_at({name: rows[name] for name in ("x", "y")}, claimed)
        sure, there = facts_of(forward_in_parts(model, some["x"]), some["y"]), sent(claimed, logits.device)
        facts = {name: values.index_copy(0, there, sure[name]) for name, values in facts.items()}
        broken = (facts["label_rank"] >= plan.k).cpu()
    return facts, broken


def _write_down(model: nn.Module, rows: Rows, ended: Tensor, rule: Rule, plan: Plan, record: Record) -> None:
    """Put the best points of the rows that ended into the record."""
    rows = rows_at({name: rows[name] for name in WRITTEN}, ended)
    facts = {name: rows[f"best_{name}"] for name in ("prediction", "confidence", "label_rank")}
    if not plan.early_stop and plan.dtype != "float32":
        with torch.no_grad():
            facts = facts_of(forward_in_parts(model, rows["best"]), rows["y"])
    reached = distance(rows["best"], rows["clean"], rule.norm)
    ids = dict(position=rows["position"], radius=rows["radius"] + 1, sample_id=rows["id"], label=rows["y"])
    record.add(**ids, **facts, distance=reached, n_evaluations=rows["n_evaluations"])
    if plan.keep_pixels:
        record.pixels[sent(rows["position"], reached.device)] = rows["best"]


def _keep_best(rows: Rows, facts: Rows, loss: Tensor, k: int) -> Rows:
    """Rows whose best point is the new one where that breaks the image and the old did not, or has a higher loss."""
    broken, was_broken = facts["label_rank"] >= k, rows["best_label_rank"] >= k
    better = (broken & ~was_broken) | ((broken == was_broken) & (loss > rows["best_loss"]))
    new = {f"best_{name}": values for name, values in facts.items()} | {"best_loss": loss}
    chosen = {name: torch.where(better, values, rows[name]) for name, values in new.items()}
    chosen["best"] = pick(better, rows["x"], rows["best"])
    return rows | chosen | {"n_evaluations": rows["n_evaluations"] + 1}


def _begin_radius(rows: Rows, begins: Tensor, plan: Plan) -> Rows:
    """Rows at their next radius where one begins; what was best in the smaller ball counts on after a warm start."""
    radius, device = rows["radius"] + begins, rows["eps"].device
    eps = sent(torch.tensor(plan.eps_grid, dtype=rows["eps"].dtype)[radius], device)
    changed = {"radius": radius, "eps": eps, "n_evaluations": torch.where(begins, 0, rows["n_evaluations"])}
    if not plan.warm_start:
        for name, value in (("best_loss", -torch.inf), ("best_label_rank", -1)):
            changed[name] = rows[name].masked_fill(sent(begins, device), value)
    return rows | changed


def _changed(rows: Rows, mask: Tensor, function: Callable[..., Rows], *inputs: Tensor | None) -> Rows:
    """The rows with `function` applied to those of the mask, which is on the CPU."""
    if not bool(mask.any()):
        return rows
    if bool(mask.all()):
        return rows | function(rows, *inputs)
    chosen = mask.nonzero()[:, 0]
    there = sent(chosen, rows["x"].device)
    some = function(rows_at(rows, chosen), *(None if x is None else x.index_select(0, there) for x in inputs))
    return rows | {name: rows[name].index_copy(0, there, values) for name, values in some.items()}
