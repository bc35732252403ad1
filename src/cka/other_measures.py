"""Other ways to say how alike two layers are, on the same activations: does the picture depend on the measure?"""

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations_with_replacement

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.cka.activations import look_at
from src.cka.direct import Pieces, as_matrices, cka_of, gram
from src.models.access import choose_layers
from src.seeding import Stream, uniform


def mutual_knn(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, neighbours: int = 10) -> float:
    """Share of the nearest neighbours of an example that it has in both, the mean over examples; in [0, 1].

    Distances are Euclidean; of unrelated layers neighbours / (n - 1) are shared.  Raises ValueError unless there are
    more examples than neighbours.  Source: Huh et al. 2024, "The Platonic representation hypothesis", appendix A.
    """
    x, y = _pair(x, y)
    if not 0 < neighbours < len(x):
        raise ValueError(f"neighbours must be between 1 and {len(x) - 1} for {len(x)} examples, not {neighbours}")
    return _share_in_both(_nearest(x, neighbours), _nearest(y, neighbours))


def procrustes_similarity(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> float:
    """How well the best rotation maps x to y, both centred and scaled to norm 1: 1 for the same up to both, above 0.

    It is 1 - d² / 2 of the orthogonal Procrustes distance d, the sum of the singular values of XᵀY.  It grows with the
    number of features, so hold it against that of shuffled examples.  NaN where a side does not vary.
    Source: Ding, Denain & Steinhardt 2021, "Grounding representation similarity", section 3.
    """
    x, y = _pair(x, y)
    return _sum_of_singular_values(_unit(x), _unit(y))


def svcca(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, variance: float = 0.99) -> float:
    """Mean canonical correlation of the principal components that hold a share `variance` of either; in [0, 1].

    The mean is over as many correlations as the smaller side has components.  Few examples make it large for unrelated
    layers too, so hold it against that of shuffled examples.  NaN where a side does not vary.
    Source: Raghu et al. 2017, "SVCCA", section 2.1.
    """
    if not 0 < variance <= 1:
        raise ValueError(f"variance must be in (0, 1], not {variance}")
    x, y = _pair(x, y)
    return _mean_correlation(_components(x, variance), _components(y, variance))


def measure_table(
    networks: Mapping[tuple[str, int], nn.Module],
    loader: Iterable,
    *,
    measures: Iterable[str] = ("CKA", "mutual kNN", "Procrustes", "SVCCA"),
    layers: Mapping[str, object] | None = None,
    seed: int = 0,
    progress: str | None = None,
) -> pd.DataFrame:
    """Every measure of all pairs of layers of all networks, on each batch, and for shuffled images.

    networks, layers: as in `hsic_table`.  loader: batches of one size, some hundred images each, as these measures
    depend on how many there are.  Rows: model_a, seed_a, layer_a, index_a, the same for b (a pair once), measure,
    batch, n, value, and null, the value when the images of b are shuffled.  Raises ValueError for unknown measures.
    """
    measures = list(measures)
    for name in measures:
        if name not in MEASURES:
            raise ValueError(f"unknown measure {name!r}; choose from {', '.join(MEASURES)}")
    rows, names = [], {}
    for number, batch in enumerate(tqdm(loader, desc=progress, disable=progress is None, leave=False)):
        order = uniform(batch.sample_ids, seed, Stream.PERMUTATION_OF_BATCH, draws=1)[:, 0].argsort()
        seen = []
        for key, model in networks.items():
            if key not in names:
                names[key] = choose_layers(model, batch.pixels[:2], (layers or {}).get(key[0]))
            found = look_at(model, batch.pixels, names[key], coordinates)
            for index, layer in enumerate(names[key]):
                x = found[layer]
                made = {name: (MEASURES[name][0](x), MEASURES[name][0](x[order])) for name in measures}
                seen.append(((*key, layer, index), made))
        for (a, made_a), (b, made_b) in combinations_with_replacement(seen, 2):
            for name in measures:
                value, null = (MEASURES[name][1](made_a[name][0], other) for other in made_b[name])
                rows.append((*a, *b, name, number, len(batch.pixels), value, null))
    sides = [f"{what}_{side}" for side in "ab" for what in ("model", "seed", "layer", "index")]
    return pd.DataFrame(rows, columns=[*sides, "measure", "batch", "n", "value", "null"])


def coordinates(x: Float[Tensor, "n p"]) -> Float[Tensor, "n r"]:
    """The centred examples in the basis of their principal components, largest first: all that rotations leave."""
    values, vectors = _principal(x)
    return vectors * values.sqrt()


def _principal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Variances [r], the largest first, and orthonormal components [n, r] of the centred examples; r is 0 if flat."""
    values, vectors = torch.linalg.eigh(gram(x))
    values, vectors = values.flip(0), vectors.flip(1)
    kept = values > values[0].clamp(min=torch.finfo(values.dtype).tiny) * 1e-10  # below it is rounding of the Gram
    return values[kept], vectors[:, kept]


def _nearest(x: Tensor, neighbours: int = 10) -> Tensor:
    """[n, n], True where the second example is among the nearest ones of the first."""
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    nearest = distances.topk(neighbours, largest=False).indices
    return torch.zeros_like(distances, dtype=torch.bool).scatter_(1, nearest, True)


def _share_in_both(near_x: Tensor, near_y: Tensor) -> float:
    return float((near_x & near_y).sum()) / float(near_x.sum())


def _unit(x: Tensor) -> Tensor:
    """Centred and of Frobenius norm 1; zeros where nothing varies."""
    x = x - x.mean(0)
    return x / x.norm().clamp(min=torch.finfo(x.dtype).tiny)


def _sum_of_singular_values(x: Tensor, y: Tensor) -> float:
    return float(torch.linalg.svdvals(x.T @ y).sum()) if x.any() and y.any() else float("nan")


def _components(x: Tensor, variance: float = 0.99) -> Tensor:
    """An orthonormal basis [n, r] of the leading components that hold the share `variance`; r is 0 for a flat x."""
    values, vectors = _principal(x)
    before = (values.cumsum(0) - values) / values.sum()
    return vectors[:, before < variance - 1e-12]


def _mean_correlation(x: Tensor, y: Tensor) -> float:
    return float(torch.linalg.svdvals(x.T @ y).clamp(max=1).mean()) if x.shape[1] and y.shape[1] else float("nan")


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = (values.double() for values in as_matrices(x, y))
    for name, values in (("x", x), ("y", y)):
        if not bool(values.isfinite().all()):
            raise ValueError(f"{name}: activations are not finite")
    return x, y


# name -> (what is made of a layer once, similarity of two layers from it)
MEASURES: dict[str, tuple[Callable[[Tensor], object], Callable[[object, object], float]]] = {
    "CKA": (lambda x: Pieces.of(gram(x)), cka_of),
    "mutual kNN": (_nearest, _share_in_both),
    "Procrustes": (_unit, _sum_of_singular_values),
    "SVCCA": (_components, _mean_correlation),
}
