"""Figures of merit over predictions, in numpy: means over examples, so that intervals and ensembles are cheap.

Predictions are class probabilities (N, C) or values (N,); targets are class indices (N,) or values (N,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.errors import UsageError

Array = np.ndarray[Any, Any]
TINY = 1e-12
"""A probability below it counts as this one in log loss."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of merit: `finish(mean(score of each example), targets)`.

    `score(predictions, targets)` gives (N,); `maximize` says which way is better.
    """

    name: str
    task: str | None
    maximize: bool
    score: Callable[[Array, Array], Array]
    finish: Callable[[Array, Array], Array] = lambda mean, _: mean
    share: bool = False
    """Scores are 0 or 1, and the figure is the share of ones."""

    def __call__(self, predictions: Array, targets: Array) -> float:
        """Return the figure over all examples."""
        return float(self.finish(self.score(predictions, targets).mean(), targets))

    def better(self, a: float, b: float) -> bool:
        """Tell whether a is strictly better than b."""
        return a > b if self.maximize else a < b

    def interval(
        self, predictions: Array, targets: Array, *, seed: int = 0, num_resamples: int = 2000
    ) -> tuple[float, float]:
        """Return the 95 % interval over examples: Wilson's (1927) for shares, else the percentile bootstrap's."""
        scores = self.score(predictions, targets)
        if self.share:
            return _wilson(float(scores.mean()), len(scores))
        generator = np.random.default_rng(seed)
        size = len(scores)
        samples = (generator.integers(0, size, size) for _ in range(num_resamples))
        low, high = np.quantile([self.finish(scores[s].mean(), targets[s]) for s in samples], [0.025, 0.975])
        return float(low), float(high)


def _wilson(share: float, size: int, z: float = 1.96) -> tuple[float, float]:
    centre = share + z**2 / (2 * size)
    half = z * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    scale = 1 + z**2 / size
    return float(max(0.0, (centre - half) / scale)), float(min(1.0, (centre + half) / scale))


def _correct(predictions: Array, targets: Array) -> Array:
    return np.asarray(predictions.argmax(axis=1) == targets, dtype=np.float64)


def _log_loss(predictions: Array, targets: Array) -> Array:
    true = predictions[np.arange(len(targets)), targets]
    return np.asarray(-np.log(np.clip(true.astype(np.float64), TINY, None)))


def _squared(predictions: Array, targets: Array) -> Array:
    return np.asarray((predictions.astype(np.float64) - targets) ** 2)


def _absolute(predictions: Array, targets: Array) -> Array:
    return np.asarray(np.abs(predictions.astype(np.float64) - targets))


_METRICS = (
    Metric(name="accuracy", task="classification", maximize=True, score=_correct, share=True),
    Metric(name="loss", task="classification", maximize=False, score=_log_loss),
    Metric(name="loss", task="regression", maximize=False, score=_squared),
    Metric(name="rmse", task="regression", maximize=False, score=_squared, finish=lambda mean, _: np.sqrt(mean)),
    Metric(name="mae", task="regression", maximize=False, score=_absolute),
    Metric(
        name="r2",
        task="regression",
        maximize=True,
        score=_squared,
        finish=lambda mean, targets: 1 - mean / max(float(np.var(targets)), TINY),
    ),
)
_DEFAULT = {"classification": "accuracy", "regression": "rmse"}


def metrics_of(task: str) -> dict[str, Metric]:
    """Return every metric of a task by its name."""
    return {m.name: m for m in _METRICS if m.task == task}


def objective(name: str | None, mode: str | None, task: str, key: str = "metric.name") -> Metric:
    """Return the metric to compare by; raise UsageError, naming `key`, for one that does not fit the task."""
    metrics = metrics_of(task)
    chosen = name or _DEFAULT[task]
    if chosen not in metrics:
        raise UsageError(f"{key}={chosen}: does not fit {task}; allowed: {', '.join(metrics)}")
    metric = metrics[chosen]
    natural = "max" if metric.maximize else "min"
    if mode is not None and mode != natural:
        raise UsageError(f"metric.mode={mode}: {chosen} is better the other way; leave it out or set {natural}")
    return metric
