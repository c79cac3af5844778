"""How sure predictions are against how often they are right, and the one number that mends most of it.

Guo et al., "On Calibration of Modern Neural Networks", 2017: temperature scaling, the expected calibration error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from search.post.results import Calibration
from search.train.metrics import TINY, Array, metrics_of

_BINS = 15
_FURTHEST = math.log(10)
_PRIOR = 0.5
"""How far the logarithm of a temperature strays: a few examples, all of them right, would ask for one of 0."""
_LOG_LOSS = metrics_of("classification")["loss"]


def tempered(probabilities: Array, temperature: float) -> Array:
    """Return probabilities (N, C) with their logarithms divided by a temperature; the order of classes stays."""
    if temperature == 1.0:
        return probabilities
    from scipy.special import softmax

    return np.asarray(softmax(_logarithms(probabilities) / temperature, axis=1))


def fitted_temperature(probabilities: Array, targets: Array) -> float:
    """Return the temperature of the least log loss; the fewer the examples, the closer to 1."""
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    logarithms, examples = _logarithms(probabilities), np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        scaled = logarithms * math.exp(-log_temperature)
        fit = np.mean(logsumexp(scaled, axis=1) - scaled[examples, targets])
        return float(fit + (log_temperature / _PRIOR) ** 2 / (2 * len(targets)))

    found = minimize_scalar(loss, bounds=(-_FURTHEST, _FURTHEST), method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x)


def cross_tempered(probabilities: Array, targets: Array, folds: Sequence[Array]) -> Array:
    """Return the probabilities with the temperature of each fold, a mask (N,), fitted on the others."""
    scaled = probabilities.astype(np.float64)
    for held_out in folds if len(folds) > 1 else ():
        temperature = fitted_temperature(probabilities[~held_out], targets[~held_out])
        scaled[held_out] = tempered(probabilities[held_out], temperature)
    return scaled


def calibration(before: Array, after: Array, targets: Array) -> Calibration:
    """Return what the temperature did: predictions before and after it."""
    return Calibration(
        error_before=expected_calibration_error(before, targets),
        error=expected_calibration_error(after, targets),
        loss_before=_LOG_LOSS(before, targets),
        loss=_LOG_LOSS(after, targets),
    )


def expected_calibration_error(probabilities: Array, targets: Array) -> float:
    """Return the mean distance of confidence and accuracy over 15 bins of equal width."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(targets))


def _logarithms(probabilities: Array) -> Array:
    return np.asarray(np.log(np.maximum(probabilities.astype(np.float64), TINY)))
