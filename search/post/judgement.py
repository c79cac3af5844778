"""The final judgement on the test split: each contender's figures, its gain over the single best, the mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.post.results import Figure, Mistake, Mistakes
from search.train.metrics import Array, Metric

_RESAMPLES = 2000
_BLOCK = 50
"""Resamples at a time: 50 of 10,000 examples are 4 MB."""
_WORST = 10
_MOST_CLASSES = 100


def figure(metric: Metric, predictions: Array, targets: Array) -> Figure:
    """Return a figure of merit with its interval."""
    low, high = metric.interval(predictions, targets)
    return Figure(value=metric(predictions, targets), low=low, high=high)


def paired_gains(
    metric: Metric, contenders: Sequence[Array], reference: Array, targets: Array, *, seed: int = 0
) -> list[Figure]:
    """Return by how much each contender's predictions are better than the reference's, over the same examples."""
    sign = 1.0 if metric.maximize else -1.0
    values = _resampled(metric, [reference, *contenders], targets, np.random.default_rng(seed))
    return [_percentiles(sign * (contender - values[:, 0])) for contender in values[:, 1:].T]


def mean_figures(
    metric: Metric, trainings: Sequence[Array], reference: Array, targets: Array, *, seed: int = 0
) -> tuple[Figure, Figure]:
    """Return the mean of what each of the trainings is worth alone, and by how much it is better than the reference.

    Resamples are of the trainings, too: they tell luck from gain, so that theirs belongs into the intervals.
    """
    sign = 1.0 if metric.maximize else -1.0
    generator = np.random.default_rng(seed)
    values = _resampled(metric, [reference, *trainings], targets, generator)
    drawn = generator.integers(1, values.shape[1], (len(values), len(trainings)))
    drawn[0] = np.arange(1, values.shape[1])
    mean = np.take_along_axis(values, drawn, axis=1).mean(axis=1)
    return _percentiles(mean), _percentiles(sign * (mean - values[:, 0]))


def _resampled(metric: Metric, contenders: Sequence[Array], targets: Array, generator: np.random.Generator) -> Array:
    """Return the contenders' values of the metric (1 + R, M): on all examples, then on resamples of them.

    A resample of the examples is one for all contenders (Efron 1979).
    """
    scores = np.stack([metric.score(predictions, targets) for predictions in contenders])

    def values(means: Array, of: Array) -> Array:
        return np.array([metric.finish(mean, of) for mean in means])

    size = len(targets)
    found = [values(scores.mean(axis=1), targets)]
    for start in range(0, _RESAMPLES, _BLOCK):
        samples = generator.integers(0, size, (min(_BLOCK, _RESAMPLES - start), size))
        counts = np.stack([np.bincount(sample, minlength=size) for sample in samples])
        found += [values(mean, targets[s]) for mean, s in zip(counts @ scores.T / size, samples, strict=True)]
    return np.array(found)


def _percentiles(values: Array) -> Figure:
    """Return the first value with the 95 % interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Figure(value=float(values[0]), low=float(low), high=float(high))


def mistakes_of(predictions: Array, targets: Array, indices: Array, classes: Sequence[str]) -> Mistakes:
    """Return where predictions are wrong, the surest or largest errors first.

    `indices` (N,) are those of the examples in the data set. Classes are named; values have none.
    """
    if not classes:
        order = np.argsort(-np.abs(predictions - targets), kind="stable")[:_WORST]
        worst = [Mistake(index=int(indices[i]), true=float(targets[i]), predicted=float(predictions[i])) for i in order]
        return Mistakes(wrong=None, worst=tuple(worst))
    named, sure = predictions.argmax(axis=1), predictions.max(axis=1)
    wrong = np.flatnonzero(named != targets)
    order = wrong[np.argsort(-sure[wrong], kind="stable")][:_WORST]
    worst = [
        Mistake(
            index=int(indices[i]),
            true=classes[targets[i]],
            predicted=classes[named[i]],
            probability=float(sure[i]),
        )
        for i in order
    ]
    return Mistakes(
        wrong=len(wrong),
        worst=tuple(worst),
        classes=tuple(classes),
        confusion=_confusion(named, targets, len(classes)) if len(classes) <= _MOST_CLASSES else None,
    )


def _confusion(named: Array, targets: Array, num_classes: int) -> tuple[tuple[int, ...], ...]:
    counts = np.bincount(targets * num_classes + named, minlength=num_classes**2)
    return tuple(tuple(map(int, row)) for row in counts.reshape(num_classes, num_classes))
