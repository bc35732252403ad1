"""Other measures of similarity of layers than CKA, on the same activations: does the picture depend on the measure?"""

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations_with_replacement

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from src.cka.activations import looked_at
from src.cka.direct import Pieces, cka_of, gram, of_both
from src.cka.networks import with_keys
from src.data.inputs import as_batches
from src.models.access import as_zoo, device_of
from src.seeding import Stream, uniform
from src.tables.cka.hsic import SIDE_A, SIDE_B

NEIGHBOURS = 10


def mutual_knn(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, neighbours: int = NEIGHBOURS) -> float:
    """Share of the nearest neighbours of an example that it has in both, the mean over examples; in [0, 1].

    Distances are Euclidean; of unrelated layers neighbours / (n - 1) are shared.  Raises ValueError unless there are
    more examples than neighbours.  Source: Huh et al. 2024, "The Platonic representation hypothesis", appendix A.
    """
    x, y = of_both(x, y, _finite)
    if not 0 < neighbours < len(x):
        raise ValueError(f"neighbours must be between 1 and {len(x) - 1} for {len(x)} examples, not {neighbours}")
    return _share_in_both(_nearest(x, neighbours), _nearest(y, neighbours))


def procrustes_similarity(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> float:
    """How well the best rotation maps x to y, both centred and scaled to norm 1: 1 for the same up to both, above 0.

    It is 1 - d² / 2 of the orthogonal Procrustes distance d, the sum of the singular values of XᵀY.  It grows with the
    number of features, so hold it against that of shuffled examples.  NaN where a side does not vary.
    Source: Ding, Denain & Steinhardt 2021, "Grounding representation similarity", section 3.
    """
    x, y = of_both(x, y, _finite)
    return _sum_of_singular_values(_unit(x), _unit(y))


def svcca(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, variance: float = 0.99) -> float:
    """Mean canonical correlation of the principal components that hold a share `variance` of either; in [0, 1].

    The mean is over as many correlations as the smaller side has components.  Few examples make it large for unrelated
    layers too, so hold it against that of shuffled examples.  NaN where a side does not vary.
    Source: Raghu et al. 2017, "SVCCA", section 2.1.
    """
    if not 0 < variance <= 1:
        raise ValueError(f"variance must be in (0, 1], not {variance}")
    x, y = of_both(x, y, _finite)
    return _mean_correlation(_components(x, variance), _components(y, variance))


def measure_table(
    networks: Mapping,
    loader: Iterable,
    *,
    measures: Iterable[str] = ("CKA", "mutual kNN", "Procrustes", "SVCCA"),
    layers: Mapping[str, object] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Every measure of all pairs of layers of all networks, on each batch, and for shuffled images.

    networks (trained), layers, loader, progress: as in `hsic_table`, but in batches of one size, some hundred images
    each, as these measures depend on how many there are; a last one of no more than 10 is passed over.
    Rows: model_a, kind_a, seed_a, layer_a, index_a, the same for b (a pair once), measure, batch, n, value, null, the
    value when the images of b are shuffled, and those of `with_keys`.
    Raises ValueError for unknown measures, and for batches of no more than 10 images.
    """
    measures = list(measures)
    for name in measures:
        if name not in MEASURES:
            raise ValueError(f"unknown measure {name!r}; choose from {', '.join(MEASURES)}")
    models, rows = {(name, "trained", number): model for (name, number), model in as_zoo(networks).items()}, []
    batches = as_batches(loader, device=device_of(*models.values()))
    options = dict(progress=progress, least=NEIGHBOURS + 1)
    for number, (batch, seen) in enumerate(looked_at(models, batches, layers, coordinates, **options)):
        if len(batch.labels) <= NEIGHBOURS:
            raise ValueError(f"measures need more than {NEIGHBOURS} images at a time, not {len(batch.labels)}")
        order = uniform(batch.sample_ids, seed, Stream.PERMUTATION_OF_BATCH, draws=1)[:, 0].argsort()
        made = [
            ((*key, layer, index), {name: (MEASURES[name][0](x), MEASURES[name][0](x[order])) for name in measures})
            for key, of_layers in seen.items()
            for index, (layer, x) in enumerate(of_layers.items())
        ]
        for (a, made_a), (b, made_b) in combinations_with_replacement(made, 2):
            for name in measures:
                value, null = (MEASURES[name][1](made_a[name][0], other) for other in made_b[name])
                rows.append((*a, *b, name, number, len(batch.pixels), value, null))
    return with_keys(pd.DataFrame(rows, columns=[*SIDE_A, *SIDE_B, "measure", "batch", "n", "value", "null"]))


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


def _nearest(x: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
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


def _finite(x: Tensor) -> Tensor:
    if not bool(x.isfinite().all()):
        raise ValueError("activations are not finite")
    return x.double()


# name -> (what a layer is turned into once, similarity of two layers from it)
MEASURES: dict[str, tuple[Callable[[Tensor], object], Callable[[object, object], float]]] = {
    "CKA": (lambda x: Pieces.of(gram(x)), cka_of),
    "mutual kNN": (_nearest, _share_in_both),
    "Procrustes": (_unit, _sum_of_singular_values),
    "SVCCA": (_components, _mean_correlation),
}
