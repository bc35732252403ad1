"""Mending confidences on held-out logits: each fit returns a function from logits [n, k] to probabilities [n, k]."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import isotonic_regression, minimize, minimize_scalar

from src.tables.calibration.bins import check_probs, softmax

Scaling = Callable[[np.ndarray], np.ndarray]
Steps = tuple[np.ndarray, np.ndarray]  # corners of a function: places, values


def fit_temperature(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """The temperature T > 0 whose softmax(logits / T) has the smallest negative log-likelihood.

    Above 1: the model was too sure. Raises ValueError where no such T exists: T runs to 0 when every image is right,
    and to infinity when the logits favour other classes.  Source: Guo et al. 2017, eq. 9.
    """
    logits, labels = _checked(logits, labels)
    top = logits.max(1)
    shifted = logits - top[:, None]
    own = shifted[np.arange(len(labels)), labels]
    if own.min() == 0:
        raise ValueError(f"no temperature fits best: all {len(labels)} images are right, it runs to 0; hold out more")
    if (own - shifted.mean(1)).mean() <= 0:
        raise ValueError("no temperature fits best: the logits favour other classes, it runs to infinity")

    def loss(log_temperature: float) -> float:
        scaled = shifted * np.exp(-log_temperature)
        return float((np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(labels)), labels]).mean())

    return float(np.exp(minimize_scalar(loss, bracket=(0.0, 1.0), tol=1e-9).x))


def fit_vector(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """A factor and an offset for each class, (scale [k], offset [k]), for softmax(scale · logits + offset).

    The smallest negative log-likelihood, held from running away on separable images by a weak pull (1e-4) towards
    scale 1 and offset 0.  Source: Guo et al. 2017, section 4.2.
    """
    logits, labels = _checked(logits, labels)
    n, k = logits.shape
    one_hot = np.eye(k)[labels]
    identity = np.concatenate([np.ones(k), np.zeros(k)])

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = logits * values[:k] + values[k:]
        top = scaled.max(1, keepdims=True)
        log_sum = np.log(np.exp(scaled - top).sum(1)) + top[:, 0]
        error = (np.exp(scaled - log_sum[:, None]) - one_hot) / n
        pull = values - identity
        value = (log_sum - scaled[np.arange(n), labels]).mean() + 1e-4 * (pull**2).sum()
        return value, np.concatenate([(error * logits).sum(0), error.sum(0)]) + 2e-4 * pull

    found = minimize(loss, identity, jac=True, method="L-BFGS-B", options=dict(maxiter=1000))
    return found.x[:k], found.x[k:]


def fit_isotonic(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> list[Steps]:
    """A rising function for each class from its softmax to the frequency of the class among the labels, as corners.

    Between corners it is linear, beyond them constant.  Source: Zadrozny & Elkan 2002, one class against the rest;
    `apply_isotonic` normalises the rows again.
    """
    logits, labels = _checked(logits, labels)
    probs, steps = softmax(logits).round(12), []  # what differs by rounding alone is one corner
    for k in range(probs.shape[1]):
        corners, place, counts = np.unique(probs[:, k], return_inverse=True, return_counts=True)
        frequency = np.bincount(place, labels == k) / counts
        steps.append((corners, isotonic_regression(frequency, weights=counts).x))
    return steps


def apply_isotonic(steps: list[Steps], logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Probabilities by `fit_isotonic`; a row in which every class got 0 keeps its softmax."""
    probs = softmax(logits)
    mended = np.stack([np.interp(probs[:, k], *corners) for k, corners in enumerate(steps)], axis=1)
    sums = mended.sum(1, keepdims=True)
    return np.where(sums > 0, mended / np.where(sums > 0, sums, 1), probs)


def _by_temperature(logits, labels) -> Scaling:
    temperature = fit_temperature(logits, labels)
    return lambda new: softmax(np.asarray(new, dtype=np.float64) / temperature)


def _by_vector(logits, labels) -> Scaling:
    scale, offset = fit_vector(logits, labels)
    return lambda new: softmax(np.asarray(new, dtype=np.float64) * scale + offset)


def _by_isotonic(logits, labels) -> Scaling:
    steps = fit_isotonic(logits, labels)
    return lambda new: apply_isotonic(steps, new)


# name -> (held-out logits [n, k], labels [n]) -> function from logits to probabilities
SCALINGS: dict[str, Callable[..., Scaling]] = {
    "none": lambda logits, labels: softmax,
    "temperature": _by_temperature,
    "vector": _by_vector,
    "isotonic": _by_isotonic,
}


def _checked(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    logits = np.asarray(logits, dtype=np.float64)
    _, labels = check_probs(softmax(logits), labels)
    return logits, labels
