"""Similarity of layers: centred kernel alignment (Kornblith et al. 2019) of many networks in one pass, and others.

hsic, null = hsic_table(zoo, loader)              # HSIC of all pairs of layers, for `tables.cka.cka_table`
choices_table(zoo, loader)                        # the same at matched depth, by what "the layers" are
cka_matrix(model_a, model_b, loader)              # CKA of the layers of two networks, with intervals
linear_cka(x, y)                                  # of two matrices of activations
"""

from src.cka.choices import choices_table
from src.cka.direct import cosine_cka, linear_cka, rbf_cka
from src.cka.networks import cka_matrix, hsic_table, merge
from src.cka.other_measures import measure_table, mutual_knn, procrustes_similarity, svcca

__all__ = [
    "choices_table",
    "cka_matrix",
    "cosine_cka",
    "hsic_table",
    "linear_cka",
    "measure_table",
    "merge",
    "mutual_knn",
    "procrustes_similarity",
    "rbf_cka",
    "svcca",
]


def __dir__() -> list[str]:
    return __all__
