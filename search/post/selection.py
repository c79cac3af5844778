"""Choosing ensembles from predictions alone: no model is loaded for it.

Predictions are stacked as (M, N, C) probabilities or (M, N) values of M members on N examples; an ensemble is a
weight per member, summing to 1, and predicts the weighted mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from search.train.metrics import Array, Metric

Method = Callable[[Array, Array], Array]
"""(predictions (M, N, ...), targets (N,)) -> weights (M,)."""


def combine(weights: Array, predictions: Array) -> Array:
    """Return the ensemble's predictions (N, ...)."""
    return np.asarray(np.tensordot(weights.astype(np.float64), predictions, axes=1))


def single_best(metric: Metric) -> Method:
    """Return the method that takes the best member alone; the first of equals."""
    return lambda predictions, targets: _unit(_ranking(predictions, targets, metric)[:1], len(predictions))


def uniform(metric: Metric, k: int) -> Method:
    """Return the method that averages the k best members."""
    return lambda predictions, targets: _unit(_ranking(predictions, targets, metric)[:k], len(predictions))


def greedy(metric: Metric, picks: int) -> Method:
    """Return greedy selection with replacement (Caruana et al. 2004).

    Each pick adds the member that makes the mean best; of all prefixes the best is kept, the shortest of equals.
    """

    def select(predictions: Array, targets: Array) -> Array:
        num_members = len(predictions)
        total = np.zeros(predictions.shape[1:])
        counts = np.zeros(num_members)
        best_counts, best_value = counts, -np.inf if metric.maximize else np.inf
        for size in range(1, picks + 1):
            values = np.array([metric((total + member) / size, targets) for member in predictions])
            pick = int(values.argmax() if metric.maximize else values.argmin())
            total = total + predictions[pick]
            counts[pick] += 1
            if metric.better(values[pick], best_value):
                best_counts, best_value = counts.copy(), float(values[pick])
        return np.asarray(best_counts / best_counts.sum())

    return select


def snapshots_of_best(metric: Metric, owners: Mapping[int, int]) -> Method:
    """Return the method that averages the snapshots of the best trial that has at least two (Huang et al. 2017).

    `owners` has the index of its trial for each snapshot's.
    """
    several = [trial for trial, count in Counter(owners.values()).items() if count > 1]

    def select(predictions: Array, targets: Array) -> Array:
        best = several[int(_ranking(predictions[several], targets, metric)[0])]
        return _unit(np.array([i for i, trial in owners.items() if trial == best]), len(predictions))

    return select


def among(method: Method, chosen: Sequence[int]) -> Method:
    """Return the method that leaves out all members but those of these indices."""

    def select(predictions: Array, targets: Array) -> Array:
        weights = np.zeros(len(predictions))
        weights[list(chosen)] = method(predictions[list(chosen)], targets)
        return weights

    return select


def cross_fitted(method: Method, predictions: Array, targets: Array, *, folds: int, seed: int) -> Array:
    """Return predictions (N, ...) in which each example's ensemble was chosen without that example."""
    size = predictions.shape[1]
    part = np.random.default_rng(seed).permutation(size) % min(folds, size)
    combined = np.zeros(predictions.shape[1:])
    for fold in range(int(part.max()) + 1):
        held_out = part == fold
        weights = method(predictions[:, ~held_out], targets[~held_out])
        combined[held_out] = combine(weights, predictions[:, held_out])
    return combined


def _ranking(predictions: Array, targets: Array, metric: Metric) -> Array:
    """Return member indices from best to worst."""
    values = np.array([metric(member, targets) for member in predictions])
    return np.argsort(-values if metric.maximize else values, kind="stable")


def _unit(chosen: Array, num_members: int) -> Array:
    weights = np.zeros(num_members)
    weights[chosen] = 1.0 / len(chosen)
    return weights
