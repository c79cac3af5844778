"""What each member would make of an ensemble, were it added: the inner loop of greedy selection.

Every kind gives the figures of the plain one; those of accuracy to the bit, those of log loss but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from search.post.pool import Pool, as_losses
from search.train.metrics import TINY, Array, Metric

_BLOCK_BYTES = 1 << 20
"""What is worked on at a time: it should stay in a core's cache."""
_FACTORS = 16
"""Probabilities of which one logarithm is taken: 16 of at least 1e-12 are far from what float64 takes for 0."""
_SURE = 1e-6
"""A lead that is larger is one, however float32 rounded it."""


class Scores:
    """The plain way, for any metric: the metric of each mean."""

    def __init__(self, pool: Pool, metric: Metric) -> None:
        self._predictions, self._targets, self._metric = pool.predictions, pool.targets, metric
        self.clear()

    def clear(self) -> None:
        """Begin with an ensemble of nobody."""
        self._total = np.zeros(self._predictions.shape[1:])
        self._size = 0

    def add(self, row: int) -> None:
        """Add a member to the ensemble, once more where it is in already."""
        self._total += self._predictions[row]
        self._size += 1

    def losses(self, rows: Array) -> Array:
        """Return how bad the ensemble would be with each of these members added (len(rows),)."""
        means = ((self._total + self._predictions[row]) / (self._size + 1) for row in rows)
        return as_losses(self._metric, [self._metric(mean, self._targets) for mean in means])

    def _blocks(self, rows: Array, bytes_each: int) -> Iterator[slice]:
        step = max(1, _BLOCK_BYTES // max(1, bytes_each))
        return (slice(start, start + step) for start in range(0, len(rows), step))


class LogLossScores(Scores):
    """For log loss: the true class's probability is all that counts, and a mean of logarithms is one of a product."""

    def __init__(self, pool: Pool, metric: Metric) -> None:
        num_members, size, classes = pool.predictions.shape
        places = np.arange(size) * classes + pool.targets
        self._true = np.empty((num_members, size))
        for true, member in zip(self._true, pool.predictions, strict=True):
            true[:] = member.take(places)
        super().__init__(pool, metric)

    def clear(self) -> None:
        """Begin with an ensemble of nobody."""
        self._total = np.zeros(self._true.shape[1])
        self._size = 0

    def add(self, row: int) -> None:
        """Add a member to the ensemble, once more where it is in already."""
        self._total += self._true[row]
        self._size += 1

    def losses(self, rows: Array) -> Array:
        """Return how bad the ensemble would be with each of these members added (len(rows),)."""
        losses = np.empty(len(rows))
        for block in self._blocks(rows, self._true[0].nbytes):
            means = self._true[rows[block]]
            means += self._total
            means /= self._size + 1
            np.maximum(means, TINY, out=means)
            losses[block] = -_log_sums(means) / len(self._targets)
        return as_losses(self._metric, losses)


class AccuracyScores(Scores):
    """For accuracy: an example whose class no single member can change any more is counted once for all of them."""

    def __init__(self, pool: Pool, metric: Metric) -> None:
        super().__init__(pool, metric)
        self._examples = np.arange(len(self._targets))
        true = self._targets[:, None]
        least = np.full(self._predictions.shape[1:], np.inf)
        most = -least
        for member in self._predictions:
            lead = np.take_along_axis(member, true, axis=1) - member
            np.minimum(least, lead, out=least)
            np.maximum(most, lead, out=most)
        least[self._examples, self._targets] = np.inf  # its lead before itself settles nothing
        self._least, self._most = least, most

    def losses(self, rows: Array) -> Array:
        """Return how bad the ensemble would be with each of these members added (len(rows),)."""
        right, open_ = self._settled()
        correct = np.full(len(rows), right)
        total, targets = self._total[open_], self._targets[open_]
        everyone = len(open_) == len(self._examples)
        if len(open_):
            for block in self._blocks(rows, total.nbytes):
                means = np.empty((len(rows[block]), *total.shape))
                for mean, row in zip(means, rows[block], strict=True):
                    member = self._predictions[row]
                    np.add(total, member if everyone else member.take(open_, axis=0), out=mean)
                means /= self._size + 1
                correct[block] += (means.argmax(axis=2) == targets).sum(axis=1)
        return as_losses(self._metric, correct / len(self._targets))

    def _settled(self) -> tuple[int, Array]:
        """Return how many examples are right whoever is added, and the indices (K,) of those that are still open."""
        lead = np.take_along_axis(self._total, self._targets[:, None], axis=1) - self._total
        right = (lead + self._least > _SURE).all(axis=1)
        wrong = (lead + self._most < -_SURE).any(axis=1)
        return int(right.sum()), np.flatnonzero(~right & ~wrong)


def scores_of(pool: Pool, metric: Metric) -> Scores:
    """Return the fastest way there is for a metric."""
    fast = {"accuracy": AccuracyScores, "loss": LogLossScores} if metric.task == "classification" else {}
    return fast.get(metric.name, Scores)(pool, metric)


def _log_sums(probabilities: Array) -> Array:
    """Return sums of logarithms over the examples (B,) of (B, N)."""
    width = probabilities.shape[1] // _FACTORS
    products = probabilities[:, :width].copy()
    for factor in range(1, _FACTORS):
        products *= probabilities[:, factor * width : (factor + 1) * width]
    rest = probabilities[:, _FACTORS * width :]
    return np.asarray(np.log(products).sum(axis=1) + np.log(rest).sum(axis=1))
