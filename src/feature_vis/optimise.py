"""Adam on many pictures at once, each on its own: one that is done leaves the batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from src.feature_vis.parameterisations import Parameterisation

GOING, REACHED, CONVERGED, DEAD, BROKEN = range(5)  # states of a picture
STOPS = {GOING: "all steps done", REACHED: "reached", CONVERGED: "converged"}
PATIENCE = 20  # steps in a row after which a score that has not moved in its last bit will not move
LOOK_EVERY = 10  # steps of a GPU, which is waited for at each look; pictures that end meanwhile are kept as they were


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


# (pixels of the active pictures, their positions on the device and on the host, step) -> value for the history, score
# that falls, penalty; [m] each
Objective = Callable[[Tensor, Tensor, list[int], int], tuple[Tensor, Tensor, Tensor]]


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
    rows, places = torch.arange(n, device=x.device), list(range(n))  # of the active pictures
    final, history = x.detach().clone(), torch.full((n, steps), torch.nan, device=x.device)
    state, n_steps = torch.zeros_like(rows), torch.full_like(rows, steps)
    first = last = torch.full((n,), torch.nan, device=x.device)
    same = held = torch.zeros_like(rows)
    look_every = 1 if x.device.type == "cpu" else LOOK_EVERY
    for step in range(steps):
        advance(1)
        optimiser.zero_grad()
        with torch.enable_grad():
            value, score, penalty = objective(how.draw(x[rows]), rows, places, step)
            if not score.requires_grad:
                raise ValueError("the response does not depend on the pixels in a way that can be differentiated")
            (score + penalty).sum().backward()
        value, score = value.detach(), score.detach()
        history[rows, step] = value.float()
        first, same = (score if step == 0 else first), torch.where(score == last, same + 1, 0)
        last = score
        held = torch.where(reached(value), held + 1, 0) if reached else held
        finite = value.isfinite() & score.isfinite() & x.grad[rows].flatten(1).isfinite().all(1)
        now = _states(finite, held >= hold, same >= PATIENCE, score == first)
        ends = (state[rows] == GOING) & (now != GOING)
        for kept, new in ((state, now), (n_steps, torch.full_like(rows, step)), (final, x.detach()[rows])):
            kept[rows] = torch.where(ends.view(-1, *[1] * (kept.ndim - 1)), new, kept[rows])
        if (step + 1) % look_every == 0 or step == steps - 1:
            states = state[rows].tolist()
            if BROKEN in states:
                _refuse(state, n_steps, names)
            if any(states):
                going = [i for i, each in enumerate(states) if each == GOING]
                places, left = [places[i] for i in going], torch.tensor(going, dtype=torch.long, device=x.device)
                rows, first, last, same, held = (part[left] for part in (rows, first, last, same, held))
            if not places:
                break
        optimiser.step()
        cosine.step()
        with torch.no_grad():
            x[rows] = how.project(x[rows])
    advance(steps - step - 1)
    final[rows] = x.detach()[rows]
    with torch.no_grad():
        images = how.draw(final).clamp(0, 1)
    n_steps, history = n_steps.cpu(), history.cpu()
    history.masked_fill_(torch.arange(steps) > n_steps[:, None], torch.nan)  # what a GPU went on to do
    return Pictures(images, history, _stops(state, n_steps, history, names), n_steps)


def _states(finite: Tensor, reached: Tensor, still: Tensor, as_at_first: Tensor) -> Int[Tensor, " m"]:
    """The state of each picture: not finite before all else, and good enough before stuck."""
    stuck = torch.where(still, torch.where(as_at_first, DEAD, CONVERGED), GOING)
    return torch.where(finite, torch.where(reached, REACHED, stuck), BROKEN)


def _stops(state: Tensor, n_steps: Tensor, history: Tensor, names: list[str]) -> list[str]:
    """Why each picture ended, in words."""
    stops = [STOPS.get(each, "") for each in state.tolist()]
    for i in (i for i, stop in enumerate(stops) if not stop):
        value = float(history[i, n_steps[i]])
        stops[i] = f"dead: {names[i]} stayed at {value:g} for {PATIENCE} steps, without a gradient"
    return stops


def _refuse(state: Tensor, n_steps: Tensor, names: list[str]) -> None:
    step, row = min((step, i) for i, step in enumerate(n_steps.tolist()) if state[i] == BROKEN)
    raise ValueError(
        f"{names[row]} (picture {row}) has a response or gradient that is not finite at step {step}; "
        "try a smaller lr, and look whether the model is finite on such pictures"
    )
