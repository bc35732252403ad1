"""Calibration error without bins."""

import numpy as np
from jaxtyping import Float, Int
from scipy.fft import dct, idct
from scipy.optimize import brentq

from src.tables.calibration.bins import check_confidence, confidence_and_correct

N_CELLS = 4096  # of the grid on [0, 1]: far finer than any width of the kernel that is found


def smooth_ece(probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """The smooth calibration error of the confidence, in [0, 1]: no bins, and continuous in the confidences.

    The residuals are smoothed by a Gaussian reflected at 0 and 1, and their absolute value is integrated; the kernel's
    width is the one that equals the result. Source: Błasiok & Nakkiran 2023, definitions 2 and 3.
    """
    return smooth_gap(*confidence_and_correct(probs, labels))


def smooth_gap(confidence, correct) -> float:
    """`smooth_ece` from confidences [n] in [0, 1] and verdicts [n]."""
    confidence, correct = check_confidence(confidence, correct)
    waves = dct(_residuals(confidence, correct), type=2)
    narrowest = 1e-6
    if (least := _integral(waves, narrowest)) <= narrowest:  # as good as perfect
        return least
    return float(brentq(lambda width: _integral(waves, width) - width, narrowest, 1.0, xtol=1e-9))


def _residuals(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """The sum of (correct − confidence) / n in each cell; an image counts in the two cells nearest to it."""
    place = confidence * N_CELLS - 0.5
    left = np.floor(place).astype(np.intp)
    share, weights = place - left, (correct - confidence) / len(confidence)
    # the outermost half cells mirror each other's neighbour, as the kernel does
    cells = np.bincount(np.clip(left, 0, None), weights * (1 - share), N_CELLS)
    return cells + np.bincount(np.clip(left + 1, None, N_CELLS - 1), weights * share, N_CELLS)


def _integral(waves: np.ndarray, width: float) -> float:
    """∫ |smoothed residual|: a reflected Gaussian damps each cosine of the grid by a factor of its own."""
    damping = np.exp(-((np.pi * width * np.arange(len(waves))) ** 2) / 2)
    return float(np.abs(idct(waves * damping, type=2)).sum())
