"""Scalings of logits, fitted on held-out images: temperature, vector and isotonic."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax

from src.tables.calibration.bins import Labels, Probs, check_probs, softmax

Logits = Float[np.ndarray, "n k"]
Corners = tuple[np.ndarray, np.ndarray]  # of a piecewise linear function: places, values


class NoScalingError(ValueError):
    """Held-out images for which no scaling of its kind is the best."""


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature T > 0 whose softmax(logits / T) has the smallest negative log-likelihood.

    Above 1: the model was too sure.  Raises NoScalingError where no such T exists: T runs to 0 when every image is
    right, and to infinity when the logits favour other classes.  Source: Guo et al. 2017, eq. 9.

    >>> logits = np.log([[0.9, 0.1]] * 4)  # sure to nine tenths, right in three of four
    >>> round(fit_temperature(logits, [0, 0, 0, 1]), 3)  # log 9 / log 3
    2.0
    """
    from scipy.optimize import minimize_scalar  # half a second to import

    logits, labels = _checked(logits, labels)
    shifted = logits - logits.max(1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    if own.min() == 0:
        raise NoScalingError(
            f"no temperature fits best: all {len(labels)} images are right, it runs to 0; hold out more"
        )
    if (own - shifted.mean(1)).mean() <= 0:
        raise NoScalingError("no temperature fits best: the logits favour other classes, it runs to infinity")

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float((np.log(np.exp(shifted * inverse).sum(1)) - own * inverse).mean())

    return float(np.exp(minimize_scalar(loss, bracket=(0.0, 1.0), tol=1e-9).x))


def fit_vector(logits: Logits, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """A factor and an offset for each class, (scale [k], offset [k]), for softmax(scale · logits + offset).

    The smallest negative log-likelihood, held from running away on separable images by a weak pull (1e-4) towards
    scale 1 and offset 0.  Source: Guo et al. 2017, section 4.2.

    >>> scale, offset = fit_vector(np.zeros((4, 2)), [0, 0, 0, 1])
    >>> softmax(offset[None]).round(2).tolist()
    [[0.75, 0.25]]
    """
    from scipy.optimize import minimize

    logits, labels = _checked(logits, labels)
    n, k = logits.shape
    one_hot = np.eye(k)[labels]
    identity = np.concatenate([np.ones(k), np.zeros(k)])

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        log_probs, pull = log_softmax(logits * values[:k] + values[k:], axis=1), values - identity
        error = (np.exp(log_probs) - one_hot) / n
        value = 1e-4 * (pull**2).sum() - log_probs[np.arange(n), labels].mean()
        return value, np.concatenate([(error * logits).sum(0), error.sum(0)]) + 2e-4 * pull

    best = minimize(loss, identity, jac=True, method="L-BFGS-B", options=dict(maxiter=1000)).x
    return best[:k], best[k:]


def fit_isotonic(logits: Logits, labels: Labels) -> list[Corners]:
    """A rising function for each class from its softmax to the frequency of the class among the labels, as corners.

    Between corners it is linear, beyond them constant.  Source: Zadrozny & Elkan 2002, one class against the rest;
    `apply_isotonic` normalises the rows again.

    >>> [places.round(2).tolist() + values.tolist() for places, values in fit_isotonic(np.zeros((4, 2)), [0, 0, 0, 1])]
    [[0.5, 0.75], [0.5, 0.25]]
    """
    from scipy.optimize import isotonic_regression

    logits, labels = _checked(logits, labels)
    probs, functions = softmax(logits).round(12), []  # what differs by rounding alone is one corner
    for k in range(probs.shape[1]):
        places, of, counts = np.unique(probs[:, k], return_inverse=True, return_counts=True)
        frequency = np.bincount(of, labels == k) / counts
        functions.append((places, isotonic_regression(frequency, weights=counts).x))
    return functions


def apply_isotonic(functions: list[Corners], logits: Logits) -> Probs:
    """Probabilities by `fit_isotonic`; a row in which every class got 0 keeps its softmax.

    >>> apply_isotonic(fit_isotonic(np.zeros((4, 2)), [0, 0, 0, 1]), np.zeros((1, 2))).tolist()
    [[0.75, 0.25]]
    """
    probs = softmax(logits)
    mended = np.stack([np.interp(probs[:, k], *corners) for k, corners in enumerate(functions)], axis=1)
    sums = mended.sum(1, keepdims=True)
    return np.where(sums > 0, mended / np.where(sums > 0, sums, 1), probs)


def _by_vector(scale, offset, logits: Logits) -> Probs:
    return softmax(np.asarray(logits, dtype=np.float64) * scale + offset)


# name -> (held-out logits [n, k], labels [n]) -> function from logits to probabilities
SCALINGS: dict[str, Callable[..., Callable[[np.ndarray], np.ndarray]]] = {
    "none": lambda logits, labels: softmax,
    "temperature": lambda logits, labels: partial(_by_vector, 1 / fit_temperature(logits, labels), 0),
    "vector": lambda logits, labels: partial(_by_vector, *fit_vector(logits, labels)),
    "isotonic": lambda logits, labels: partial(apply_isotonic, fit_isotonic(logits, labels)),
}


def _checked(logits: Logits, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    logits = np.asarray(logits, dtype=np.float64)
    _, labels = check_probs(softmax(logits), labels)
    return logits, labels
