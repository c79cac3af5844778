"""Inputs and their targets, as arrays or a DataFrame, as examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from search.errors import UsageError
from search.train.data.arrays import Array, Examples, Task
from search.train.data.table import TableEncoder

Pair = tuple[Any, Array]
"""Inputs, an array or a DataFrame, and targets (N,)."""


def with_test(train: Pair, test: Pair, name: str, key: str, task: Task | None = None) -> Examples:
    """Return both as examples, the latter as their test set; raises UsageError as `examples_of_pair` does."""
    own = np.arange(len(train[1]), len(train[1]) + len(test[1]), dtype=np.int64)
    for part, (x, y) in {"train": train, "test": test}.items():
        if len(x) != len(y):
            raise UsageError(f"{key}: {part} has {len(x)} inputs but {len(y)} targets")
    both = _joined(train[0], test[0], key), np.concatenate([train[1], test[1]])
    return examples_of_pair(both, name, key, task, own)


def _joined(train: Any, test: Any, key: str) -> Any:
    """Return the inputs of both; raise UsageError where they are of different kinds."""
    tables = isinstance(train, pd.DataFrame), isinstance(test, pd.DataFrame)
    if all(tables):
        if odd := sorted(map(str, set(train.columns) ^ set(test.columns))):
            raise UsageError(f"{key}: train and test must have the same columns; {odd[0]} stands in one alone")
        return pd.concat([train, test], ignore_index=True)
    if any(tables) or train.shape[1:] != test.shape[1:]:
        raise UsageError(
            f"{key}: an input of train is {train.shape[1:]}, one of test {test.shape[1:]}; must be the same"
        )
    return np.concatenate([train, test])


def examples_of_pair(pair: Pair, name: str, key: str, task: Task | None = None, test: Array | None = None) -> Examples:
    """Return inputs and targets as examples, those at the indices `test` as their test set.

    Without `task`, words, truth values and whole numbers are classes, other numbers a regression. Raises UsageError,
    which names the `key` that the user gave them by, for what cannot be learned from.
    """
    inputs, targets = pair
    if not len(inputs):
        raise UsageError(f"{key}: gives no examples")
    columns: dict[str, Array] = {}
    table = None
    if isinstance(inputs, pd.DataFrame):
        encoder = TableEncoder.fit(inputs)
        columns = {str(c): inputs[c].to_numpy() for c in inputs.columns}
        array, table = encoder.encode(inputs), encoder.to_plain()
    else:
        array = inputs
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise UsageError(f"{key}: the inputs are {array.dtype} {array.shape}; they must be numbers (N, ...)")
    numbers, classes = _targets(targets, task, key)
    return Examples(
        name=name,
        inputs=array,
        targets=numbers,
        task="classification" if classes else "regression",
        classes=classes,
        test=test,
        columns=columns,
        table=table,
    )


def _targets(targets: Array, task: Task | None, key: str) -> tuple[Array, tuple[str, ...]]:
    """Return (targets, names of the classes; none for numbers)."""
    if targets.ndim != 1:
        raise UsageError(f"{key}: the targets have the shape {targets.shape}; they must be (N,)")
    if missing := int(pd.isna(targets).sum()):
        raise UsageError(f"{key}: {missing} targets are missing or NaN; leave these examples out")
    if targets.dtype.kind not in "biufOSU":
        raise UsageError(f"{key}: the targets are {targets.dtype}; they must be words or numbers")
    if (task or ("regression" if targets.dtype.kind == "f" else "classification")) == "regression":
        if targets.dtype.kind not in "biuf":
            raise UsageError(f"{key}: words cannot be a regression target; data.task=classification")
        return targets.astype(np.float32), ()
    words = targets.astype(str) if targets.dtype == object else targets
    classes, indices = np.unique(words, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(f"{key}: the targets are of one class only, {classes[0]}")
    return indices.astype(np.int64), tuple(map(str, classes))
