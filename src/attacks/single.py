"""Attacks at one radius: (model, pixels, labels, *, eps, …) -> adversarial pixels.

Shared by all: model is any module from pixels in [0, 1] to logits, and comes back as it was.  pixels [n, c, h, w] and
labels [n] lie on its device.  eps is a radius in pixels of [0, 1], norm "Linf" or "L2"; no result is further away or
outside [0, 1], and eps = 0 gives the pixels back bit for bit.  Random numbers belong to (seed, sample id, restart);
sample_ids are 0, 1, … unless given, so give those of the data set to be independent of batches.  Images that are
misclassified anyway come back unchanged while `early_stop` is on.  ValueError for a radius below 0, an unknown norm,
labels out of range, pixels outside [0, 1] and logits that are not finite.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.attacks import engine
from src.attacks.norms import check_threat, project, random_direction, steepest
from src.attacks.rules import Apgd, Pgd, cross_entropy
from src.attacks.square import Square
from src.data.loaders import Batch
from src.models.access import check_images, check_logits, frozen, input_gradient
from src.seeding import Stream

Pixels = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]

_BATCH_SIZE = 128


def fgsm(model: nn.Module, pixels: Pixels, labels: Labels, *, eps: float, norm: str = "Linf") -> Pixels:
    """Fast gradient sign method, Goodfellow, Shlens & Szegedy 2015: one step of length eps; L2 along the gradient."""
    check_threat(eps, norm)
    batch, parts = Batch(pixels, labels, _ids(pixels, None)), []
    with frozen(model):
        for some in (Batch(*part) for part in zip(*(x.split(_BATCH_SIZE) for x in batch), strict=True)):
            _, direction = fgsm_direction(model, *some, norm=norm)
            parts.append(along(some.pixels, direction, eps, norm))
    return torch.cat(parts)


def fgsm_direction(
    model: nn.Module, pixels: Pixels, labels: Labels, sample_ids: Labels, *, norm: str
) -> tuple[Tensor, Pixels]:
    """Logits of the pixels, and the direction in which their loss grows fastest: all that FGSM needs at any radius."""
    check_images(pixels, labels)
    classes_exist = labels.clamp(min=0)  # an impossible label is reported below, not by an index error in the loss
    logits, _, gradient = input_gradient(
        model, pixels, lambda logits: cross_entropy(logits, {"y": classes_exist.clamp(max=logits.shape[1] - 1)})
    )
    check_logits(logits, labels, sample_ids)
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


def pgd(
    model: nn.Module,
    pixels: Pixels,
    labels: Labels,
    *,
    eps: float,
    norm: str = "Linf",
    steps: int = 10,
    rel_step: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    seed: int = 0,
    sample_ids: Labels | None = None,
    **options,
) -> Pixels:
    """Projected gradient descent, Madry et al. 2018, on the cross-entropy; the strongest iterate is returned.

    rel_step: length of a step as a share of eps, 2.5 / steps unless given.  options: early_stop, batch_size, dtype,
    continuous and k, as in `src.attacks.engine.Plan`.
    """
    rel_step = 2.5 / max(steps, 1) if rel_step is None else rel_step
    rule = Pgd(norm, steps, rel_step, restarts, random_start, seed=seed)
    return _run(rule, model, pixels, labels, eps, sample_ids, options)


def mi_fgsm(
    model: nn.Module,
    pixels: Pixels,
    labels: Labels,
    *,
    eps: float,
    norm: str = "Linf",
    steps: int = 10,
    decay: float = 1.0,
    sample_ids: Labels | None = None,
    **options,
) -> Pixels:
    """Momentum iterative FGSM, Dong et al. 2018: steps of eps / steps along accumulated gradients, which transfer well.

    Other arguments are those of `pgd`.
    """
    rule = Pgd(norm, steps, 1 / max(steps, 1), random_start=False, decay=decay)
    return _run(rule, model, pixels, labels, eps, sample_ids, options)


def apgd(
    model: nn.Module,
    pixels: Pixels,
    labels: Labels,
    *,
    eps: float,
    norm: str = "Linf",
    loss: str = "ce",
    steps: int = 100,
    restarts: int = 1,
    n_targets: int = 9,
    seed: int = 0,
    sample_ids: Labels | None = None,
    **options,
) -> Pixels:
    """Auto-PGD, Croce & Hein 2020: no step size to choose.

    loss: "ce", or "dlr" for the targeted difference of logits ratio towards each of the `n_targets` likeliest other
    classes.  Other arguments are those of `pgd`.
    """
    if loss not in ("ce", "dlr"):
        raise ValueError(f"unknown loss {loss!r} of apgd; choose from ce, dlr")
    rule = Apgd(norm, steps, restarts, n_targets if loss == "dlr" else 0, seed)
    return _run(rule, model, pixels, labels, eps, sample_ids, options)


def square(
    model: nn.Module,
    pixels: Pixels,
    labels: Labels,
    *,
    eps: float,
    norm: str = "Linf",
    queries: int = 1000,
    restarts: int = 1,
    seed: int = 0,
    sample_ids: Labels | None = None,
    **options,
) -> Pixels:
    """Square attack, Andriushchenko et al. 2020: random search with logits alone; Linf.

    Other arguments are those of `pgd`.
    """
    rule = Square(norm, queries, restarts, seed=seed)
    return _run(rule, model, pixels, labels, eps, sample_ids, options)


def _run(rule: engine.Rule, model, pixels, labels, eps: float, sample_ids, options: dict) -> Pixels:
    check_threat(eps, rule.norm)
    plan = engine.Plan((eps or 1.0,), keep_pixels=True, **{"batch_size": _BATCH_SIZE} | options)
    batch = Batch(pixels, labels, _ids(pixels, sample_ids))
    batches = [Batch(*part) for part in zip(*(x.split(plan.batch_size) for x in batch), strict=True)]
    if eps > 0:
        return engine.run(model, batches, rule, plan).pixels
    with frozen(model), torch.no_grad():  # nothing to search, but wrong input is still refused
        for part in batches:
            check_images(*part[:2])
            check_logits(model(part.pixels).float(), *part[1:])
    return pixels.clone()


def _ids(pixels: Pixels, sample_ids: Labels | None) -> Labels:
    return torch.arange(len(pixels), device=pixels.device) if sample_ids is None else sample_ids
