"""How sure predictions are against how often they are right, and the one number that mends most of it.

Guo et al., "On Calibration of Modern Neural Networks", 2017: temperature scaling, the expected calibration error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from search.post.results import Calibration
from search.train.metrics import Array, metrics_of

LEAST = 1e-30
"""A probability that counts; a float32 still holds it. Of smaller ones it is not known how much smaller they are."""
_BINS = 15
_FURTHEST = math.log(10)
_ENOUGH = 2000
"""Examples for one number."""
_LOG_LOSS = metrics_of("classification")["loss"]


def tempered(probabilities: Array, temperature: float) -> Array:
    """Return probabilities (N, C) with their logarithms divided by a temperature; the order of classes stays."""
    if temperature == 1.0:
        return probabilities
    logarithms = _logarithms(probabilities)
    logarithms -= logarithms.max(axis=1, keepdims=True)
    logarithms /= temperature
    powers = np.exp(logarithms, out=logarithms)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def fitted_temperature(probabilities: Array, targets: Array) -> float:
    """Return the temperature of the least log loss.

    One example in N + 2 counts as any class (Platt 1999): some that are all right would ask for a temperature of 0.
    """
    return _fitted(_logarithms(probabilities.astype(np.float64)), targets)


def own_temperatures(predictions: Array, targets: Array, folds: Sequence[Array]) -> Array:
    """Return each member's temperature, (1 + F, M): fitted on all examples, then without each fold, a mask (N,).

    Of probabilities (M, N, C) for targets (N,); of very many examples some are looked at.
    """
    some = np.arange(0, len(targets), max(1, len(targets) // _ENOUGH))
    targets, rests = targets[some], [np.flatnonzero(~fold[some]) for fold in folds]
    found = np.ones((1 + len(folds), len(predictions)))
    for member, probabilities in enumerate(predictions):
        logarithms = _logarithms(probabilities[some].astype(np.float64))
        whole = found[0, member] = _fitted(logarithms, targets)
        for fold, rest in enumerate(rests):
            found[1 + fold, member] = _fitted(logarithms[rest], targets[rest]) if len(rest) else whole
    return found


def _fitted(logarithms: Array, targets: Array) -> float:
    """Return the temperature for logarithms of probabilities (N, C), at most ten times as large or small as 1."""
    from scipy.optimize import brentq

    size = len(targets)
    relative = logarithms - logarithms[np.arange(size), targets][:, None]
    if not relative.any():  # no class is preferred anywhere, at any temperature
        return 1.0
    towards_any = float(relative.mean()) / (size + 2)

    def slope(sharpness: float) -> float:
        """Return the derivative of the loss by the inverse temperature, of which `sharpness` is the logarithm."""
        scaled = math.exp(sharpness) * relative
        shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return float(np.einsum("nc,nc->", shares, relative)) / size - towards_any

    if slope(-_FURTHEST) >= 0:
        return math.exp(_FURTHEST)
    if slope(_FURTHEST) <= 0:
        return math.exp(-_FURTHEST)
    return math.exp(-brentq(slope, -_FURTHEST, _FURTHEST, xtol=1e-7))  # the loss is convex: there is one


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
    confidence, right, sizes = reliability(probabilities, targets)
    return float((np.abs(confidence - right) * sizes).sum() / len(targets))


def reliability(probabilities: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Return the mean confidence, the share that is right and the number of examples of each bin that has some."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    sizes = np.bincount(bins, minlength=_BINS)
    filled = sizes > 0
    sums = (np.bincount(bins, weights=values, minlength=_BINS)[filled] for values in (confidence, right))
    sure, hits = (total / sizes[filled] for total in sums)
    return sure, hits, sizes[filled]


def _logarithms(probabilities: Array) -> Array:
    return np.asarray(np.log(np.maximum(probabilities, LEAST)))
