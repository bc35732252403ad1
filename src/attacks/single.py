"""Attacks at one radius: (model, pixels, labels, *, eps, …) -> adversarial pixels.

model: any module from pixels in [0, 1] to logits, which comes back as it was.  pixels [n, c, h, w] and labels [n] lie
on its device.  eps: a radius in pixels of [0, 1].  norm: "Linf" or "L2".  No result is further away or outside [0, 1],
and eps = 0 gives the pixels back bit for bit.
seed, sample_ids: random numbers belong to (seed, sample id, restart); sample_ids are 0, 1, … unless given, so give
those of the data set to be independent of batches.
early_stop, batch_size, dtype, continuous, k: of iterated attacks, as in `Plan`.  Images that are misclassified
anyway come back unchanged while `early_stop` is on.
ValueError for a radius outside [0, 1] (for L2 below 0), an unknown norm or option, labels out of range, pixels outside
[0, 1], and for logits or gradients that are none or not finite.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.attacks import engine
from src.attacks.norms import check_threat, project, random_direction, steepest
from src.attacks.plan import Plan, set_up
from src.attacks.record import in_chunks, logits_of
from src.attacks.rules import Apgd, Pgd, Rule, check_targets
from src.attacks.square import with_queries
from src.data.batches import Batch
from src.models.access import frozen, in_halves, input_gradient, part_of
from src.models.checks import check_gradient, check_images, check_logits
from src.models.folding import folded
from src.seeding import Stream

Pixels = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]


def fgsm(model: nn.Module, pixels: Pixels, labels: Labels, *, eps: float, norm: str = "Linf") -> Pixels:
    """Fast gradient sign method, Goodfellow, Shlens & Szegedy 2015: one step of length eps; L2 along the gradient."""
    check_threat(eps, norm)
    parts = []
    with frozen(model), folded(model):
        for some in in_chunks(Batch(pixels, labels, _ids(pixels, None)), Plan.batch_size):
            _, direction = fgsm_direction(model, *some, norm=norm)
            parts.append(along(some.pixels, direction, eps, norm))
    return torch.cat(parts)


def fgsm_direction(
    model: nn.Module, pixels: Pixels, labels: Labels, sample_ids: Labels, *, norm: str, n_classes: int | None = None
) -> tuple[Tensor, Pixels]:
    """Logits of the pixels, and the direction in which their loss grows fastest: all that FGSM needs at any radius."""
    check_images(pixels, labels)

    def gradient_of(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        def loss(logits: Tensor) -> Tensor:  # an impossible label is reported below, not by an index error here
            return F.cross_entropy(logits, part_of(labels, rows).clamp(0, logits.shape[1] - 1), reduction="none")

        return input_gradient(model, part_of(pixels, rows), loss)

    logits, _, gradient = in_halves(gradient_of, len(pixels))
    check_logits(logits, labels, sample_ids, n_classes)
    check_gradient(gradient, logits)
    return logits, steepest(gradient, norm)


def along(pixels: Pixels, direction: Pixels, eps: float, norm: str) -> Pixels:
    """The pixels moved by eps along a direction of length 1, within the ball and [0, 1]."""
    return project(pixels + eps * direction, pixels, pixels.new_full((len(pixels),), eps), norm)


def random_noise(
    model: nn.Module | None,
    pixels: Pixels,
    labels: Labels | None,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    sample_ids: Labels | None = None,
) -> Pixels:
    """A random sign for every value (Linf) or a random direction (L2), of length eps: the control of every attack.

    It looks at neither model nor labels.
    """
    check_threat(eps, norm)
    sample_ids = _ids(pixels, sample_ids)
    check_images(pixels, sample_ids if labels is None else labels)
    return along(pixels, random_direction(pixels, norm, sample_ids, seed, Stream.SIGNS), eps, norm)


def pgd(model: nn.Module, pixels: Pixels, labels: Labels, *, eps: float, **options) -> Pixels:
    """Projected gradient descent, Madry et al. 2018, on the cross-entropy; the strongest iterate is returned.

    options: steps (10), rel_step (length of a step as a share of eps, 2.5 / steps), restarts (1), random_start (True),
    decay (None); and, as of all attacks (see above), norm, seed, sample_ids, k, early_stop, continuous, batch_size and
    dtype.
    """
    return _run("pgd", Pgd, model, pixels, labels, eps, options)


def mi_fgsm(
    model: nn.Module, pixels: Pixels, labels: Labels, *, eps: float, steps: int = 10, decay: float = 1.0, **options
) -> Pixels:
    """Momentum iterative FGSM, Dong et al. 2018: steps of eps / steps along accumulated gradients, which transfer well.

    options: restarts, and, as of all attacks (see above), norm, seed, sample_ids, k, early_stop, continuous, batch_size
    and dtype.
    """
    rule = partial(Pgd, steps=steps, rel_step=1 / max(steps, 1), random_start=False, decay=decay)
    return _run("mi_fgsm", rule, model, pixels, labels, eps, options)


def apgd(
    model: nn.Module, pixels: Pixels, labels: Labels, *, eps: float, loss: str = "ce", n_targets: int = 9, **options
) -> Pixels:
    """Auto-PGD, Croce & Hein 2020: no step size to choose.

    loss: "ce", or "dlr" for the targeted difference of logits ratio towards each of the `n_targets` likeliest other
    classes.  options: steps (100), restarts (1); and, as of all attacks (see above), norm, seed, sample_ids, k,
    early_stop, continuous, batch_size and dtype.
    """
    if loss not in ("ce", "dlr"):
        raise ValueError(f"unknown loss {loss!r} of apgd; choose from ce, dlr")
    check_targets(n_targets)
    rule = partial(Apgd, n_targets=n_targets if loss == "dlr" else 0)
    return _run("apgd", rule, model, pixels, labels, eps, options)


def square(model: nn.Module, pixels: Pixels, labels: Labels, *, eps: float, **options) -> Pixels:
    """Square attack, Andriushchenko et al. 2020: random search with logits alone; Linf.

    options: queries (1000), restarts (1), p_init (0.8); and, as of all attacks (see above), norm, seed, sample_ids, k,
    early_stop, continuous, batch_size and dtype.
    """
    return _run("square", with_queries, model, pixels, labels, eps, options)


def _run(attack: str, make_rule: Callable[..., Rule], model, pixels, labels, eps: float, options: dict) -> Pixels:
    sample_ids = _ids(pixels, options.pop("sample_ids", None))
    check_threat(eps, options.get("norm", "Linf"))
    rule, plan = set_up(attack, make_rule, [eps or 1.0], options, keep_pixels=True)
    batches = in_chunks(Batch(pixels, labels, sample_ids), plan.batch_size)
    if eps > 0:
        return engine.run(model, batches, rule, plan).pixels
    with frozen(model):  # nothing to search, but wrong input is still refused
        for part in batches:
            check_images(*part[:2])
            logits_of(model, part.pixels, part)
    return pixels.clone()


def _ids(pixels: Pixels, sample_ids: Labels | None) -> Labels:
    return torch.arange(len(pixels), device=pixels.device) if sample_ids is None else sample_ids
