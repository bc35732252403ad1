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
    """The pictures of an optimisation, and how it went.

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
    reached: Callable[[Tensor], Tensor] | None = None,
    hold: int = 1,
    names: list[str],
    advance: Callable[[int], object] = lambda n: None,
) -> Pictures:
    """Pictures of lowest score + penalty, each by Adam, its step shrinking to a twentieth along a cosine.

    lr: None for what suits the parameterisation.  reached: of the values, which are good enough; a picture stops when
    they have been for `hold` steps in a row.  names: of the pictures, for messages.  advance: is told of each step.
    A picture whose score does not change in 20 steps stops: "dead" if it never did, else "converged".
    Raises ValueError at the first step where a value or gradient is not finite, naming picture and step.
    """
    lr = how.lr if lr is None else lr
    if steps < 1 or not lr > 0:
        raise ValueError(f"steps must be at least 1 and lr above 0, not {steps} and {lr}")
    n, x = len(how.start), how.start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([x], lr=lr)
    cosine = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    rows = torch.arange(n, device=x.device)  # of the active pictures
    final, n_steps, stops = x.detach().clone(), torch.full((n,), steps), [DONE] * n
    history = torch.full((n, steps), torch.nan)
    first = last = torch.full((n,), torch.nan, device=x.device)
    same = held = torch.zeros(n, dtype=torch.long, device=x.device)
    for step in range(steps):
        advance(1)
        optimiser.zero_grad()
        with torch.enable_grad():
            value, score, penalty = objective(how.draw(x[rows]), rows, step)
            if not score.requires_grad:
                raise ValueError("the response does not depend on the pixels in a way that can be differentiated")
            (score + penalty).sum().backward()
        value, score = value.detach(), score.detach()
        _check_finite(value, score, x.grad[rows], rows, step, names)
        history[rows.cpu(), step] = value.float().cpu()
        first, same = (score if step == 0 else first), torch.where(score == last, same + 1, 0)
        last = score
        good = reached(value) if reached else torch.zeros_like(same, dtype=torch.bool)
        held = torch.where(good, held + 1, 0)
        over, stuck = held >= hold, same >= PATIENCE
        if bool((over | stuck).any()):
            for i in (over | stuck).nonzero()[:, 0].tolist():
                row = int(rows[i])
                dead = f"dead: {names[row]} stayed at {float(value[i]):g} for {PATIENCE} steps, without a gradient"
                stops[row] = REACHED if over[i] else dead if score[i] == first[i] else CONVERGED
                n_steps[row] = step
            final[rows] = x.detach()[rows]
            left = ~(over | stuck)
            rows, first, last, same, held = (part[left] for part in (rows, first, last, same, held))
            if not len(rows):
                break
        optimiser.step()
        cosine.step()
        with torch.no_grad():
            x[rows] = how.project(x[rows])
    advance(steps - step - 1)
    final[rows] = x.detach()[rows]
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
