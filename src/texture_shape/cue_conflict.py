"""Images whose shape says one class and whose texture another."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from src.texture_shape.frequency import frequency_hybrid, phase_amplitude

Pixels = Float[Tensor, "n c s s"]

# kind -> (shape pixels, texture pixels[, cut-off]) -> pixels.  The third kind, style transfer, is an optimisation:
# src.texture_shape.style_transfer
CONFLICTS: dict[str, Callable[..., Pixels]] = {"phase": phase_amplitude, "hybrid": frequency_hybrid}


def cue_conflict(shape: Pixels, texture: Pixels, *, kind: str = "phase", cutoff: float | None = None) -> Pixels:
    """Each image of `shape` with the texture of the image at its place in `texture`; values in [0, 1].

    kind: "phase" (phases of the one, amplitudes of the other) or "hybrid" (what lies below the cut-off in the
    one, above it in the other).  cutoff: of a hybrid, in cycles per image.
    What a hybrid sets against each other is coarse and fine: to call that shape and texture needs the whole curve over
    the cut-off, as the cut-off alone decides the answer.  Raises ValueError for other kinds, a cut-off that is missing
    or has no use, and images that do not match.
    """
    if kind not in CONFLICTS:
        raise ValueError(f"unknown kind of cue conflict {kind!r}; choose from {', '.join(CONFLICTS)}")
    if (kind == "hybrid") != (cutoff is not None):
        problem = "needs a cutoff, in cycles per image" if cutoff is None else "has no cutoff"
        raise ValueError(f"cue conflict {kind!r} {problem}")
    return CONFLICTS[kind](shape, texture, **({} if cutoff is None else {"cutoff": cutoff}))
