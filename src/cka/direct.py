"""CKA of two matrices of activations, from Gram matrices, kernels and HSIC."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

SMALLEST_BATCH = 4  # the unbiased estimator divides by n - 3
FEATURES_AT_ONCE, ROWS_AT_ONCE = 4096, 32  # a block of products stays in the cache
ROUNDING = 8  # units in the last place of a mean


def gram(x: Float[Tensor, "n p"], *, centre: bool = True) -> Float[Tensor, "n n"]:
    """X Xᵀ in float64; `centre` first subtracts each feature's mean: CKA does not see it, and float32 gains digits.

    Products of some thousand features are made at a time in the precision of x, on and above the diagonal, and summed
    in float64.  Where centring leaves rounding alone, all is 0.  Values that are not finite are seen in the result
    (`check_finite`): a look through x takes as long.
    """
    n, p = x.shape
    total, level = torch.zeros(n, n, dtype=torch.float64, device=x.device), 0
    step = ROWS_AT_ONCE if x.device.type == "cpu" else n
    for first in range(0, p, FEATURES_AT_ONCE):
        part = x[:, first : first + FEATURES_AT_ONCE]
        if part.dtype not in (torch.float32, torch.float64):
            part = part.float()
        if centre:
            means = part.mean(0)
            part, level = part - means, level + (ROUNDING * torch.finfo(part.dtype).eps * means.double()).square().sum()
        for row in range(0, n, step):
            total[row : row + step, row:] += part[row : row + step] @ part[row:].T
    total = total * ~(total.diagonal().amax() <= level)  # a NaN stays one
    return total.triu() + total.triu(1).T


def check_finite(names: Iterable[str], parts: Iterable[Tensor]) -> None:
    """Raise ValueError, by its name, for the first part that is not finite; the device is waited for once."""
    finite = torch.stack([part.isfinite().all() for part in parts]).tolist()
    for name, all_finite in zip(names, finite, strict=True):
        if not all_finite:
            raise ValueError(f"{name}: activations are not finite")


def cosine_kernel(x: Float[Tensor, "n p"]) -> Float[Tensor, "n n"]:
    """Cosines of the angles between examples, as in the 2023 report; they change when features are shifted."""
    products = gram(x, centre=False)
    length = products.diagonal().clamp(min=0).sqrt()
    return products / (length[:, None] * length).clamp(min=torch.finfo(torch.float64).tiny)


def rbf_kernel(x: Float[Tensor, "n p"], *, threshold: float = 0.5) -> Float[Tensor, "n n"]:
    """exp(-d² / 2σ²), where σ² is threshold² times the median of all d² (Kornblith et al. 2019, section 3)."""
    products = gram(x)
    own = products.diagonal()
    squares = (own[:, None] + own - 2 * products).clamp(min=0).fill_diagonal_(0)
    ordered = squares.flatten().sort().values
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return torch.exp(-squares / (2 * threshold**2 * middle).clamp(min=torch.finfo(torch.float64).tiny))


# name -> activations [n, p] -> kernel matrix [n, n], float64
KERNELS = {"linear": gram, "rbf": rbf_kernel, "cosine": cosine_kernel}


def linear_cka(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, unbiased: bool = True) -> float:
    """CKA with a linear kernel: 1 for the same up to rotation and scale; about 0 for unrelated ones if `unbiased`.

    The unbiased estimate may be a little negative, and is not cut off. NaN where one side does not vary.
    Raises ValueError for fewer than 4 examples, different numbers of them, and values that are not finite.
    Source: Kornblith et al. 2019, eq. 3 and 4; unbiased: Song et al. 2012, eq. 5; Nguyen et al. 2021, eq. 3.

    >>> x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0], [4.0, 4.0], [0.0, 2.0]])
    >>> round(linear_cka(x, 3 * x.flip(1) + 1), 6), round(linear_cka(x, x[:, :1]), 2)
    (1.0, 0.54)
    """
    return _cka(x, y, gram, unbiased)


def rbf_cka(
    x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, threshold: float = 0.5, unbiased: bool = True
) -> float:
    """`linear_cka` with a Gaussian kernel, whose width is `threshold` times the median distance."""
    return _cka(x, y, partial(rbf_kernel, threshold=threshold), unbiased)


def cosine_cka(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, unbiased: bool = True) -> float:
    """`linear_cka` of examples scaled to length 1, as in the 2023 report's figures."""
    return _cka(x, y, cosine_kernel, unbiased)


def _cka(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor], unbiased: bool) -> float:
    kernels = of_both(x, y, kernel)
    return float(cka_of(*map(Pieces.of, kernels), unbiased=unbiased))


def cka_of(a: "Pieces", b: "Pieces", *, unbiased: bool = True) -> Float[Tensor, "l m"]:
    """CKA of every kernel with every one of b; NaN where one of them does not vary."""
    own = a.own_hsic(unbiased=unbiased)[:, None] * b.own_hsic(unbiased=unbiased)
    return torch.where(own > 0, a.hsic(b, unbiased=unbiased) / own.sqrt(), torch.nan)


def of_both(x: Tensor, y: Tensor, function: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """`function` of x and of y `as_matrix`.

    Raises ValueError unless they are of one length, and, naming the side, for results that are not finite.
    """
    if len(x) != len(y):
        raise ValueError(f"x and y must have the same examples, not {len(x)} and {len(y)}")
    results = []
    for name, values in (("x", x), ("y", y)):
        with about(name):
            results.append(function(as_matrix(values)))
    check_finite("xy", results)
    return results


def as_matrix(x: Tensor) -> Float[Tensor, "n p"]:
    """One row an example, detached. Raises ValueError for fewer than 4 examples."""
    x = torch.as_tensor(x).detach().flatten(1)
    if len(x) < SMALLEST_BATCH:
        raise ValueError(f"CKA needs at least {SMALLEST_BATCH} examples at a time, not {len(x)}")
    return x


@contextmanager
def about(name: str) -> Iterator[None]:
    """ValueErrors of the block begin with `name`."""
    try:
        yield
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from None


@lru_cache(maxsize=4)
def _above_diagonal(n: int, device: torch.device) -> Int[Tensor, "2 pairs"]:
    return torch.triu_indices(n, n, offset=1, device=device)


@dataclass(frozen=True)
class Pieces:
    """Parts of kernel matrices that HSIC needs, one row per layer, float64.

    triangle: [l, n (n - 1) / 2], strictly above the diagonal.  rows: [l, n], sums of the rows without the diagonal.
    diagonal: [l, n].
    """

    triangle: Float[Tensor, "l pairs"]
    rows: Float[Tensor, "l n"]
    diagonal: Float[Tensor, "l n"]

    @classmethod
    def of(cls, kernels: Float[Tensor, "*l n n"]) -> "Pieces":
        """The pieces of one kernel matrix, or of several."""
        kernels = kernels.view(-1, *kernels.shape[-2:])
        i, j = _above_diagonal(kernels.shape[-1], kernels.device)
        diagonal = kernels.diagonal(dim1=1, dim2=2).clone()
        return cls(kernels[:, i, j], kernels.sum(2) - diagonal, diagonal)

    @classmethod
    def stack(cls, parts: list["Pieces"]) -> "Pieces":
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("triangle", "rows", "diagonal")))

    def permuted(self, orders: Int[Tensor, "p n"]) -> "Pieces":
        """The pieces of the same kernels with their examples in other orders, all of the first kernel first."""
        n = orders.shape[1]
        i, j = _above_diagonal(n, orders.device)
        first, second = orders[:, i], orders[:, j]
        first, second = torch.minimum(first, second), torch.maximum(first, second)
        place = first * (2 * n - first - 1) // 2 + second - first - 1  # in the triangle, which goes row by row
        turned = ((self.triangle, place), (self.rows, orders), (self.diagonal, orders))
        return Pieces(*(values[:, places].flatten(0, 1) for values, places in turned))

    def hsic(self, other: "Pieces", *, unbiased: bool = True) -> Float[Tensor, "l m"]:
        """HSIC of every kernel with every one of `other`, unbiased (Song et al. 2012, eq. 5) or biased."""
        products = 2 * self.triangle @ other.triangle.T  # tr(KL), less the diagonals
        own, others = self.rows, other.rows
        if not unbiased:
            products = products + self.diagonal @ other.diagonal.T
            own, others = own + self.diagonal, others + other.diagonal
        sums = own.sum(1)[:, None] * others.sum(1)  # 1ᵀK1 · 1ᵀL1
        return _hsic(products, own @ others.T, sums, self.rows.shape[1], unbiased)

    def own_hsic(self, *, unbiased: bool = True) -> Float[Tensor, " l"]:
        """HSIC of every kernel with itself; 0 where its entries are all one but for rounding."""
        products, rows = 2 * _squares(self.triangle), self.rows
        if not unbiased:
            products, rows = products + _squares(self.diagonal), rows + self.diagonal
        found = _hsic(products, _squares(rows), rows.sum(1).square(), self.rows.shape[1], unbiased)
        return found.masked_fill(found.abs() <= 1e-13 * products / self.rows.shape[1] ** 2, 0)


def _hsic(products: Tensor, crossed: Tensor, sums: Tensor, n: int, unbiased: bool) -> Tensor:
    """products: tr(KL).  crossed: 1ᵀKL1.  sums: 1ᵀK1 · 1ᵀL1.  n: examples."""
    if unbiased:
        return (products + sums / ((n - 1) * (n - 2)) - 2 * crossed / (n - 2)) / (n * (n - 3))
    return (products - 2 * crossed / n + sums / n**2) / (n - 1) ** 2


def _squares(x: Float[Tensor, "l p"]) -> Float[Tensor, " l"]:
    return torch.einsum("lp,lp->l", x, x)
