"""The members' predictions that an ensemble is chosen from, and what is worked out of them once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from search.post.calibration import tempered
from search.train.metrics import Array, Metric

_SAME = 1e-12
"""Two figures that differ by less, relative to their size, differ by how their sums were rounded."""


class Pool:
    """Predictions of M members on N examples, (M, N, C) probabilities or (M, N) values, with the targets (N,)."""

    def __init__(self, predictions: Array, targets: Array) -> None:
        self.predictions = predictions
        self.targets = targets
        self._losses: dict[str, Array] = {}

    def __len__(self) -> int:
        return len(self.predictions)

    def part(self, chosen: Array) -> Pool:
        """Return the pool of the examples that a mask (N,) chooses."""
        kept = np.flatnonzero(chosen)
        return Pool(self.predictions.take(kept, axis=1), self.targets[kept])  # a tenth of the time that a mask takes

    def tempered(self, temperatures: Array) -> Pool:
        """Return the pool of the members' probabilities, each at its temperature (M,)."""
        each = [tempered(p, t) for p, t in zip(self.predictions, temperatures.tolist(), strict=True)]
        return Pool(np.stack(each), self.targets)

    def losses(self, metric: Metric) -> Array:
        """Return how bad each member is (M,)."""
        if metric.name not in self._losses:
            self._losses[metric.name] = as_losses(metric, [metric(one, self.targets) for one in self.predictions])
        return self._losses[metric.name]

    def ranked(self, metric: Metric, rows: Array) -> Array:
        """Return some members' indices from best to worst, of equals the first one first."""
        return np.asarray(rows[np.argsort(self.losses(metric)[rows], kind="stable")])


Method = Callable[[Pool], Array]
"""What chooses an ensemble: weights (M,) that sum to 1."""


def as_losses(metric: Metric, values: Sequence[float] | Array) -> Array:
    """Return figures of merit as figures to be made small, those that are no numbers as infinite."""
    losses = -np.asarray(values) if metric.maximize else np.asarray(values)
    return np.where(np.isnan(losses), np.inf, losses)


def slack(loss: float) -> float:
    """Return by how much another loss has to differ to be another."""
    return _SAME * abs(loss) + 1e-14 if np.isfinite(loss) else 0.0


def distinct(predictions: Array, order: Sequence[int]) -> list[int]:
    """Return the members, rising, that equal none which comes before them in `order`, bit for bit."""
    first: dict[bytes, int] = {}
    for row in order:
        first.setdefault(hashlib.blake2b(predictions[row].tobytes()).digest(), row)
    return sorted(first.values())


def combine(weights: Array, predictions: Array) -> Array:
    """Return the weighted mean (N, ...) of members' predictions (M, N, ...); weights (M,) sum to 1."""
    rows = np.flatnonzero(weights)
    return np.asarray(np.tensordot(weights[rows].astype(np.float64), predictions[rows], axes=1))
