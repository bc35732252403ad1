"""Other measures of similarity of layers than CKA, on the same activations: does the picture depend on the measure?"""

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations_with_replacement

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from src.cka.activations import looked_at
from src.cka.direct import Pieces, check_finite, cka_of, gram, of_both
from src.cka.networks import with_keys
from src.data.inputs import as_batches
from src.models.access import as_zoo, device_of
from src.seeding import Stream, uniform
from src.tables.cka.hsic import SIDE_A, SIDE_B

NEIGHBOURS = 10
VALUES_AT_ONCE = 2**24  # of the products that a GPU is given

Layers, Values = Float[Tensor, "l n r"], Float[Tensor, " pairs"]
Places = Int[Tensor, " pairs"]  # of layers
PAIR = torch.zeros(2, 1, dtype=torch.long)  # the places of two layers alone


def mutual_knn(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, neighbours: int = NEIGHBOURS) -> float:
    """Share of the nearest neighbours of an example that it has in both, the mean over examples; in [0, 1].

    Distances are Euclidean; of unrelated layers neighbours / (n - 1) are shared.  Raises ValueError unless there are
    more examples than neighbours.  Source: Huh et al. 2024, "The Platonic representation hypothesis", appendix A.
    """
    x, y = of_both(x, y, Tensor.double)
    if not 0 < neighbours < len(x):
        raise ValueError(f"neighbours must be between 1 and {len(x) - 1} for {len(x)} examples, not {neighbours}")
    return float(_share_in_both(_nearest(x[None], neighbours), _nearest(y[None], neighbours), *PAIR))


def procrustes_similarity(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> float:
    """How well the best rotation maps x to y, both centred and scaled to norm 1: 1 for the same up to both, above 0.

    It is 1 - d² / 2 of the orthogonal Procrustes distance d, the sum of the singular values of XᵀY.  It grows with the
    number of features, so hold it against that of shuffled examples.  NaN where a side does not vary.
    Source: Ding, Denain & Steinhardt 2021, "Grounding representation similarity", section 3.
    """
    x, y = of_both(x, y, Tensor.double)
    return float(_sums_of_singular_values(_unit(x[None]), _unit(y[None]), *PAIR))


def svcca(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, variance: float = 0.99) -> float:
    """Mean canonical correlation of the principal components that hold a share `variance` of either; in [0, 1].

    The mean is over as many correlations as the smaller side has components.  Few examples make it large for unrelated
    layers too, so hold it against that of shuffled examples.  NaN where a side does not vary.
    Source: Raghu et al. 2017, "SVCCA", section 2.1.
    """
    if not 0 < variance <= 1:
        raise ValueError(f"variance must be in (0, 1], not {variance}")
    x, y = (coordinates(values)[None] for values in of_both(x, y, lambda values: gram(values.double())))
    return float(_mean_correlations(_components(x, variance), _components(y, variance), *PAIR))


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
    for number, (batch, seen) in enumerate(looked_at(models, batches, layers, gram, **options)):
        n = len(batch.labels)
        if n <= NEIGHBOURS:
            raise ValueError(f"measures need more than {NEIGHBOURS} images at a time, not {n}")
        order = uniform(batch.sample_ids, seed, Stream.PERMUTATION_OF_BATCH, draws=1)[:, 0].argsort()
        made = {(*key, name, i): x for key, of in seen.items() for i, (name, x) in enumerate(of.items())}
        check_finite([f"layer {key[3]}" for key in made], made.values())
        x = coordinates(torch.stack([*made.values()]))
        first, second = torch.triu_indices(len(x), len(x), device=x.device)
        values = []  # of each measure, and of it with the images of b shuffled: [pairs]
        for turn, compare in (MEASURES[name] for name in measures):
            own = turn(x)
            values += [compare(own, other, first, second) for other in (own, turn(x[:, order]))]
        pairs = combinations_with_replacement(made, 2)
        for (a, b), found in zip(pairs, torch.stack(values, 1).tolist(), strict=True):
            rows += [(*a, *b, name, number, n, *found[2 * i : 2 * i + 2]) for i, name in enumerate(measures)]
    return with_keys(pd.DataFrame(rows, columns=[*SIDE_A, *SIDE_B, "measure", "batch", "n", "value", "null"]))


def coordinates(grams: Float[Tensor, "*l n n"]) -> Float[Tensor, "*l n n"]:
    """Centred examples in the basis of their principal components, largest first: all that rotations leave.

    grams: XXᵀ of centred examples, of one layer or several.  Components that do not vary are 0.
    """
    values, vectors = torch.linalg.eigh(grams)
    values, vectors = values.flip(-1), vectors.flip(-1)
    least = values[..., :1].clamp(min=torch.finfo(values.dtype).tiny) * 1e-10  # below it is rounding of the Gram
    return vectors * torch.where(values > least, values, 0).sqrt()[..., None, :]


# Of several layers [l, n, r] at once: what each is turned into, and the similarity of those at `first` with `second`


def _nearest(x: Layers, neighbours: int = NEIGHBOURS) -> Float[Tensor, "l n n"]:
    """1 where the second example is among the nearest ones of the first, else 0."""
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return torch.zeros_like(distances).scatter_(2, distances.topk(neighbours, largest=False).indices, 1)


def _share_in_both(near_x: Tensor, near_y: Tensor, first: Places, second: Places) -> Values:
    return (near_x.flatten(1) @ near_y.flatten(1).T)[first, second] / near_x.sum((1, 2))[first]


def _unit(x: Layers) -> Layers:
    """Centred and of Frobenius norm 1; zeros where nothing varies."""
    x = x - x.mean(1, keepdim=True)
    return x / x.norm(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


def _components(x: Layers, variance: float = 0.99) -> Layers:
    """Of principal coordinates those that hold the share `variance`, the first ones, at length 1; 0 for others."""
    values = x.square().sum(1, keepdim=True)
    before = (values.cumsum(2) - values) / values.sum(2, keepdim=True)
    return torch.where((before < variance - 1e-12) & (values > 0), x / values.sqrt(), 0)


def _sums_of_singular_values(x: Layers, y: Layers, first: Places, second: Places) -> Values:
    """Of XᵀY, whose norm is at most 1; NaN where a side is 0.  One pair at a time on a CPU, many on a GPU."""
    widths = torch.stack([_width(x)[first], _width(y)[second]])
    wide = widths.tolist()
    at_once = 1 if x.device.type == "cpu" else max(1, VALUES_AT_ONCE // (x.shape[2] * y.shape[2]))
    sums = []
    for some in (slice(i, i + at_once) for i in range(0, len(first), at_once)):
        a, b = (v[places[some], :, : max(w[some])] for v, places, w in zip((x, y), (first, second), wide, strict=True))
        sums.append(torch.linalg.svdvals(a.mT @ b).clamp(max=1).sum(1))
    return torch.where(widths.amin(0) > 0, torch.cat(sums), torch.nan)


def _mean_correlations(x: Layers, y: Layers, first: Places, second: Places) -> Values:
    return _sums_of_singular_values(x, y, first, second) / torch.minimum(_width(x)[first], _width(y)[second])


def _width(x: Layers) -> Int[Tensor, " l"]:
    """Number of columns up to the last that is not 0."""
    return ((x != 0).any(1) * torch.arange(1, x.shape[2] + 1, device=x.device)).amax(1)


# name -> (what layers are turned into, similarity of pairs of them from it)
MEASURES: dict[str, tuple[Callable[[Tensor], object], Callable[..., Tensor]]] = {
    "CKA": (lambda x: Pieces.of(x @ x.mT), lambda x, y, first, second: cka_of(x, y)[first, second]),
    "mutual kNN": (_nearest, _share_in_both),
    "Procrustes": (_unit, _sums_of_singular_values),
    "SVCCA": (_components, _mean_correlations),
}
