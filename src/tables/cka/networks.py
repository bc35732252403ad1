"""Agreement of whole networks: means of CKA over pairs of layers."""

import numpy as np
import pandas as pd

from src.tables.cka.hsic import EXAMPLE, estimates  # noqa: F401 -- EXAMPLE is of the docstrings


def drawn_mean(hsic: pd.DataFrame, *, n_resamples: int = 1000, seed: int = 0) -> tuple[float, np.ndarray]:
    """Mean CKA over all pairs of layers in the table, and that of minibatches drawn anew, [n_resamples].

    One seed draws the same minibatches for tables that have the same, so that differences of two are paired.

    >>> value, drawn = drawn_mean(pd.DataFrame(EXAMPLE), n_resamples=2)
    >>> round(value, 2), drawn.shape
    (0.4, (2,))
    """
    _, cka, drawn, _ = estimates(hsic, n_resamples, seed)
    return float(np.nanmean(cka)), np.nanmean(drawn, axis=1)
