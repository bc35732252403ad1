"""Selective prediction: how the error falls when a model may decline the images it is least sure of."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from src.tables.calibration.bins import check_confidence


def risk_coverage(confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> pd.DataFrame:
    """One row per image, the surest first: coverage (share answered so far), risk (share of them wrong), threshold.

    Images of one confidence cannot be told apart: each counts as the mean of them. Source: El-Yaniv & Wiener 2010.
    """
    confidence, correct = check_confidence(confidence, correct)
    order = np.argsort(-confidence, kind="stable")
    threshold = confidence[order]
    wrong = pd.Series(~correct[order]).astype(float).groupby(-threshold).transform("mean").to_numpy()
    answered = np.arange(1, len(order) + 1)
    return pd.DataFrame(
        {"coverage": answered / len(order), "risk": np.cumsum(wrong) / answered, "threshold": threshold}
    )


def aurc(confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> float:
    """Area under the risk-coverage curve: the mean risk over all coverages (Geifman et al. 2019)."""
    return float(risk_coverage(confidence, correct)["risk"].mean())


def excess_aurc(confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> float:
    """`aurc` less that of the best possible order at the same accuracy: the order alone, 0 is perfect."""
    correct = np.asarray(correct, dtype=bool)
    return aurc(confidence, correct) - aurc(correct.astype(float), correct)
