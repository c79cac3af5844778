"""Targets as a user has them, words or numbers, as those that are learned from."""

from __future__ import annotations

import numpy as np
import pandas as pd

from search.errors import UsageError
from search.train.data.arrays import Array, Task

_NUMBERS, _WORDS = "biuf", "OSU"
_KINDS = {**dict.fromkeys("iu", "whole numbers"), **dict.fromkeys(_WORDS, "words"), "b": "truth values", "f": "floats"}


def numbered(targets: Array, task: Task, key: str) -> tuple[Array, tuple[str, ...]]:
    """Return (classes as int64 with their names, or numbers as float32 with none).

    Raises UsageError, which names the `key` that the user gave them by, for what cannot be learned.
    """
    require_targets(targets, key)
    if task == "regression":
        if targets.dtype.kind not in _NUMBERS:
            raise UsageError(f"{key}: words cannot be a regression target; data.task=classification")
        return targets.astype(np.float32), ()
    words = targets.astype(str) if targets.dtype == object else targets  # words beside numbers do not sort
    classes, indices = np.unique(words, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(f"{key}: the targets are of one class only, {classes[0]}")
    return indices.astype(np.int64), tuple(map(str, classes))


def require_targets(targets: Array, key: str) -> None:
    """Raise UsageError for targets that are not (N,) words or numbers, or where one is missing."""
    if targets.ndim != 1:
        raise UsageError(f"{key}: the targets have the shape {targets.shape}; they must be (N,)")
    if missing := int(pd.isna(targets).sum()):
        raise UsageError(f"{key}: {missing} targets are missing or NaN; leave these examples out")
    if targets.dtype.kind not in _NUMBERS + _WORDS:
        raise UsageError(f"{key}: the targets are {targets.dtype}; they must be words or numbers")


def require_same_kind(train: Array, test: Array, task: Task | None, key: str) -> None:
    """Raise UsageError where targets of the test set are of another kind; all numbers are one kind to a regression."""
    for part in (train, test):
        require_targets(part, key)
    if task == "regression" and {train.dtype.kind, test.dtype.kind} <= set(_NUMBERS):
        return
    one, other = _KINDS[train.dtype.kind], _KINDS[test.dtype.kind]
    if one != other:
        raise UsageError(f"{key}: the targets of train are {one}, those of test {other}; must be the same")


def require_known_classes(train: Array, test: Array, classes: tuple[str, ...], key: str) -> None:
    """Raise UsageError for a class (targets are indices of `classes`) that the test set alone has."""
    if unknown := sorted(set(test.tolist()) - set(train.tolist())):
        raise UsageError(f"{key}: test has the class {classes[unknown[0]]}, which train has no example of")
