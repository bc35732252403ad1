"""Centred kernel alignment (Kornblith et al. 2019): of two matrices, and of all layers of two networks in one pass."""

from src.cka.direct import KERNELS, cosine_cka, linear_cka, rbf_cka
from src.cka.layers import choose_layers, layer_names
from src.cka.networks import LABELS, cka_matrix, hsic_rows, hsic_table, merge

__all__ = [
    "KERNELS",
    "LABELS",
    "choose_layers",
    "cka_matrix",
    "cosine_cka",
    "hsic_rows",
    "hsic_table",
    "layer_names",
    "linear_cka",
    "merge",
    "rbf_cka",
]
