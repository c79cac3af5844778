"""Where a champion is wrong on test, as figures to be drawn: its confusion, how sure it is, its surest mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.checks.evidence import Curves, Figure, Matrix, Pictures
from search.post.calibration import reliability
from search.post.results import Mistake, Mistakes
from search.train.metrics import Array

_BINS = 15


def figures_of(champion: str, predictions: Array, targets: Array, mistakes: Mistakes, inputs: Array) -> list[Figure]:
    """Return what can be drawn of a champion's predictions, (N, C) or (N,), and of `inputs`, those of all examples."""
    figures: list[Figure] = []
    if mistakes.confusion is not None:
        figures.append(
            Matrix(
                name="confusion",
                title=f"{champion}: {mistakes.wrong} of {len(targets)} wrong on test",
                x=f"taken for{_names(mistakes.classes)}",
                y="class",
                values=np.array(mistakes.confusion),
            )
        )
    if predictions.ndim == 2:
        confidence, right, _ = reliability(predictions, targets)
        figures.append(
            Curves(
                name="reliability",
                title=f"{champion}: how often it is right on test, by how sure it is",
                x="probability of the class that it names",
                y="share that is right",
                lines={"champion": np.stack([confidence, right]), "as sure as it is right": np.array([[0, 1], [0, 1]])},
            )
        )
    if predictions.ndim == 1:
        order = np.array_split(np.argsort(targets, kind="stable"), min(_BINS, len(targets)))
        means = np.array([(targets[some].mean(), predictions[some].mean()) for some in order]).T
        figures.append(
            Curves(
                name="values",
                title=f"{champion}: what it predicts on test, by the true value",
                x="true value, mean of a bin",
                y="predicted, mean of the bin",
                lines={"champion": means, "as it is": np.stack([means[0], means[0]])},
            )
        )
    if mistakes.worst and inputs.ndim in (3, 4):
        figures.append(
            Pictures(
                name="mistakes",
                title=f"{champion}: its worst mistakes on test",
                inputs=inputs[[mistake.index for mistake in mistakes.worst]],
                captions=tuple(_caption(mistake) for mistake in mistakes.worst),
            )
        )
    return figures


def _names(classes: Sequence[str]) -> str:
    """Return what the numbers of classes stand for, where they have other names."""
    named = [f"{i} {name}" for i, name in enumerate(classes) if name != str(i)]
    return f" ({', '.join(named)})" if named else ""


def _caption(mistake: Mistake) -> str:
    if mistake.probability is None:
        return f"{mistake.index}: {mistake.true:.4g} taken for {mistake.predicted:.4g}"
    return f"{mistake.index}: {mistake.true} taken for {mistake.predicted} ({mistake.probability:.3f})"
