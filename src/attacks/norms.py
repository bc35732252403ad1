"""Linf and L2: distances, projections, steepest directions and random starts of each example."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from src.seeding import uniform

NORMS = ("Linf", "L2")


def check_threat(eps: float, norm: str) -> None:
    """Raise ValueError for an unknown norm, and a radius that is negative, no number, or, in Linf, above 1."""
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; choose from {', '.join(NORMS)}")
    if norm == "Linf" and not 0 <= eps <= 1:
        hint = f"; did you mean {eps:g}/255?" if 1 < eps <= 255 else ""
        raise ValueError(f"eps must be in [0, 1], not {eps:g}{hint}")
    if not 0 <= eps < float("inf"):
        raise ValueError(f"eps must be a finite radius of at least 0, in pixels of [0, 1], not {eps:g}")


def check_255(eps_255: float) -> None:
    """Raise ValueError for a radius in 1/255 that leaves [0, 255]."""
    if not 0 <= eps_255 <= 255:
        raise ValueError(f"eps_255 is a radius in 1/255, from 0 to 255, not {eps_255:g}")


def distance(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"], norm: str) -> Float[Tensor, " n"]:
    """Distance of each pair of images, in units of pixels in [0, 1]."""
    difference = (a - b).flatten(1)
    return difference.abs().amax(1) if norm == "Linf" else difference.norm(dim=1)


def project(
    x: Float[Tensor, "n c h w"], centre: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"], norm: str
) -> Float[Tensor, "n c h w"]:
    """The nearest point to x in the ball of radius eps around `centre`, clipped to [0, 1].

    An L2 ball is clipped after the scaling: the point stays inside, as both sets are convex and hold `centre`.
    """
    eps = wide(eps)
    if norm == "Linf":
        return x.clamp(centre - eps, centre + eps).clamp_(0, 1)
    delta = x - centre
    return (centre + delta * (eps / _length(delta).clamp(min=1e-12)).clamp(max=1)).clamp_(0, 1)


def steepest(gradient: Float[Tensor, "n c h w"], norm: str) -> Float[Tensor, "n c h w"]:
    """The direction of length 1 in which a linear function of this gradient grows fastest; 0 for a zero gradient."""
    if norm == "Linf":
        return gradient.sign()
    # scaled by the largest entry first: the squares of tiny gradients would underflow
    gradient = gradient / wide(gradient.abs().flatten(1).amax(1).clamp(min=1e-38))
    return gradient / _length(gradient).clamp(min=1e-12)


def random_start(
    centre: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"], norm: str, sample_ids: Int[Tensor, " n"], *keys
) -> Float[Tensor, "n c h w"]:
    """Uniform in the ball around `centre`, clipped to [0, 1]; drawn from (keys, sample id)."""
    n_values = centre[0].numel()
    draws = uniform(sample_ids, *keys, draws=n_values + 1)
    if norm == "Linf":
        return project(centre + wide(eps) * (2 * draws[:, 1:] - 1).view_as(centre), centre, eps, norm)
    length = draws[:, :1] ** (1 / n_values)
    return project(centre + wide(eps * length[:, 0]) * _gaussian_direction(draws[:, 1:], centre), centre, eps, norm)


def random_direction(
    centre: Float[Tensor, "n c h w"], norm: str, sample_ids: Int[Tensor, " n"], *keys
) -> Float[Tensor, "n c h w"]:
    """A random direction of length 1: random signs (Linf), or uniform on the sphere (L2)."""
    draws = uniform(sample_ids, *keys, draws=centre[0].numel())
    if norm == "Linf":
        return torch.where(draws < 0.5, -1.0, 1.0).view_as(centre)
    return _gaussian_direction(draws, centre)


def _gaussian_direction(draws: Float[Tensor, "n d"], like: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    inside = (draws + 2**-25).clamp(max=1 - 2**-24)  # draws may be exactly 0, and the largest sum rounds to 1
    return steepest(torch.special.ndtri(inside).view_as(like), "L2")


def _length(delta: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 1 1"]:
    return wide(delta.flatten(1).norm(dim=1))


def pick(
    chosen: Bool[Tensor, " n"], a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """Each image of `a` where it is chosen, of `b` elsewhere, exactly; all finite. Twice as fast as torch.where.

    >>> pick(torch.tensor([True, False]), torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)).flatten()
    tensor([1., 0.])
    """
    return torch.lerp(b, a, wide(chosen.to(a.dtype)))


def wide(values: Float[Tensor, " n"]) -> Float[Tensor, "n 1 1 1"]:
    """One value per example, in a shape that multiplies images."""
    return values[:, None, None, None]
