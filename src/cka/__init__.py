"""How alike layers are: centred kernel alignment (Kornblith et al. 2019) of networks in one pass, and others."""

from src.cka.direct import KERNELS, cosine_cka, linear_cka, rbf_cka
from src.cka.networks import LABELS, cka_matrix, hsic_rows, hsic_table, merge
from src.cka.other_measures import MEASURES, measure_table, mutual_knn, procrustes_similarity, svcca

__all__ = [
    "KERNELS",
    "LABELS",
    "MEASURES",
    "cka_matrix",
    "cosine_cka",
    "hsic_rows",
    "hsic_table",
    "linear_cka",
    "measure_table",
    "merge",
    "mutual_knn",
    "procrustes_similarity",
    "rbf_cka",
    "svcca",
]
