"""Adam on many pictures at once, each on its own: one that is done leaves the batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from src.feature_vis.parameterisations import Parameterisation

DONE, REACHED, CONVERGED = "all steps done", "reached", "converged"
PATIENCE = 20  # steps in a row after which a score that has not moved in its last bit will not move


@dataclass(frozen=True)
class Pictures:
    """What an optimisation gave.

    images: [n, 3, h, w] in [0, 1].  history: [n, steps], the value of each step before it is taken, NaN after the last.
    stops: why each picture ended: "all steps done", "reached", "converged", or "dead: …".  n_steps: taken by each.
    """

    images: Float[Tensor, "n 3 h w"]
    history: Float[Tensor, "n s"]
    stops: list[str]
    n_steps: Int[Tensor, " n"]


# (pixels of the active pictures, their positions, step) -> value for the history, score that falls, penalty; [m] each
Objective = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]


def optimise(
    how: Parameterisation,
    objective: Objective,
    *,
    steps: int,
    lr: float | None = None,
    reached: Callable[[Tensor], Tensor] = lambda value: torch.zeros_like(value, dtype=torch.bool),
    hold: int = 1,
    names: list[str],
) -> Pictures:
    """Lower score + penalty of each picture by Adam, its step shrinking to a twentieth along a cosine.

    lr: None for what suits the parameterisation.  reached: of the values, which are good enough; a picture stops when
    they have been for `hold` steps in a row.  names: of the pictures, for messages.
    A picture whose score does not change in 20 steps stops: "dead" if it never did, else "converged".
    Raises ValueError at the first step where a value or gradient is not finite, naming picture and step.
    """
    lr = how.lr if lr is None else lr
    if steps < 1 or not lr > 0:
        raise ValueError(f"steps must be at least 1 and lr above 0, not {steps} and {lr}")
    n = len(how.start)
    x, rows = how.start.detach().clone(), torch.arange(n, device=how.start.device)
    mean, square = torch.zeros_like(x), torch.zeros_like(x)  # Kingma & Ba 2015
    final, n_steps, stops = x.clone(), torch.full((n,), steps), [DONE] * n
    history = torch.full((n, steps), torch.nan)
    first = last = torch.full((n,), torch.nan, device=x.device)
    same = held = torch.zeros(n, dtype=torch.long, device=x.device)
    for step in range(steps):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value, score, penalty = objective(how.draw(x), rows, step)
            loss = score + penalty
            if not loss.requires_grad:
                raise ValueError("the response does not depend on the pixels in a way that can be differentiated")
            (gradient,) = torch.autograd.grad(loss.sum(), x, allow_unused=True, materialize_grads=True)
        value, score = value.detach(), score.detach()
        _check_finite(value, score, gradient, rows, step, names)
        history[rows.cpu(), step] = value.float().cpu()
        first, same = (score if step == 0 else first), torch.where(score == last, same + 1, 0)
        last = score
        held = torch.where(reached(value), held + 1, 0)
        over = held >= hold
        stuck = (same >= PATIENCE) & ~over
        if bool((over | stuck).any()):
            for i in (over | stuck).nonzero()[:, 0].tolist():
                row = int(rows[i])
                dead = f"dead: {names[row]} stayed at {float(value[i]):g} for {PATIENCE} steps, without a gradient"
                stops[row] = REACHED if over[i] else dead if score[i] == first[i] else CONVERGED
                n_steps[row] = step
            final[rows] = x.detach()
            left = ~(over | stuck)
            x, rows, mean, square, gradient = (part[left] for part in (x, rows, mean, square, gradient))
            first, last, same, held = first[left], last[left], same[left], held[left]
            if not len(rows):
                break
        mean = mean.lerp(gradient, 0.1)
        square = square.lerp(gradient.square(), 0.001)
        length = lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        direction = mean / (1 - 0.9 ** (step + 1)) / ((square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        x = how.project(x.detach() - length * direction)
    final[rows] = x.detach()
    with torch.no_grad():
        images = how.draw(final).clamp(0, 1)
    return Pictures(images, history, stops, n_steps)


def _check_finite(value: Tensor, score: Tensor, gradient: Tensor, rows: Tensor, step: int, names: list[str]) -> None:
    finite = value.isfinite() & score.isfinite() & gradient.flatten(1).isfinite().all(1)
    if not bool(finite.all()):
        row = int(rows[~finite][0])
        raise ValueError(
            f"{names[row]} (picture {row}) has a response or gradient that is not finite at step {step}; "
            "try a smaller lr, and look whether the model is finite on such pictures"
        )
