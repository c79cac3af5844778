"""What an ensemble's members are to each other: how different, and what each is worth to the whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search.post.calibration import tempered
from search.post.contenders import Candidate
from search.post.pool import combine
from search.post.results import Anatomy
from search.train.metrics import Array, Metric


def anatomy(ensemble: Candidate, predictions: Mapping[str, Array], targets: Array, metric: Metric) -> Anatomy:
    """Return the diversity of an ensemble's members and what it would lose without each of them.

    Without one, the others keep their shares of what is left. One member alone has neither.
    """
    stacked, shares = ensemble.stacked(predictions), np.array(list(ensemble.weights.values()))
    if len(shares) == 1:
        return Anatomy(name=ensemble.name, metric=metric.name, contributions={})

    def loss(kept: Array) -> float:
        whole = combine(kept / kept.sum(), stacked)
        value = metric(tempered(whole, ensemble.temperature) if whole.ndim == 2 else whole, targets)
        return -value if metric.maximize else value

    whole = loss(shares)
    without = [loss(np.where(np.arange(len(shares)) == i, 0.0, shares)) for i in range(len(shares))]
    return Anatomy(
        name=ensemble.name,
        metric=metric.name,
        disagreement=disagreement(stacked) if stacked.ndim == 3 else None,
        correlation=correlation_of_errors(stacked, targets) if stacked.ndim == 2 else None,
        contributions={member: each - whole for member, each in zip(ensemble.weights, without, strict=True)},
    )


def disagreement(predictions: Array) -> float:
    """Return the share of examples on which two members (M, N, C) name different classes, the mean over pairs."""
    named = predictions.argmax(axis=2)
    size = len(named)
    votes = np.stack([(named == c).sum(axis=0) for c in range(predictions.shape[2])]).astype(np.float64)
    agreeing = (votes * (votes - 1)).sum(axis=0) / (size * (size - 1))
    return float(1 - agreeing.mean())


def correlation_of_errors(predictions: Array, targets: Array) -> float | None:
    """Return the correlation of two members' errors (M, N), the mean over pairs; None where one does not err."""
    errors = predictions.astype(np.float64) - targets
    if not errors.std(axis=1).all():
        return None
    correlations = np.asarray(np.corrcoef(errors))
    return float(correlations[np.triu_indices(len(errors), 1)].mean())
