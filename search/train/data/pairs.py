"""Inputs and their targets, as arrays or a DataFrame, as examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from search.errors import UsageError
from search.train.data.arrays import Array, Examples, Task
from search.train.data.table import TableEncoder, without_decimals
from search.train.data.targets import numbered, require_known_classes, require_same_kind

Pair = tuple[Any, Array]
"""Inputs, an array or a DataFrame, and targets (N,)."""


def with_test(train: Pair, test: Pair, name: str, key: str, task: Task | None = None) -> Examples:
    """Return both as examples, the latter as their test set.

    Raises UsageError as `examples_of_pair` does, for targets of two kinds, and for a class of the test set alone.
    """
    own = np.arange(len(train[1]), len(train[1]) + len(test[1]), dtype=np.int64)
    for part, (x, y) in {"train": train, "test": test}.items():
        if len(x) != len(y):
            raise UsageError(f"{key}: {part} has {len(x)} inputs but {len(y)} targets")
    require_same_kind(train[1], test[1], task, key)
    both = _joined(train[0], test[0], key), np.concatenate([train[1], test[1]])
    examples = examples_of_pair(both, name, key, task, own)
    if examples.task == "classification":
        require_known_classes(examples.targets[: len(train[1])], examples.targets[own], examples.classes, key)
    return examples


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
        inputs = without_decimals(inputs)
        encoder = TableEncoder.fit(inputs)
        columns = {str(c): inputs[c].to_numpy() for c in inputs.columns}
        array, table = encoder.encode(inputs), encoder.to_plain()
    else:
        array = inputs
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise UsageError(f"{key}: the inputs are {array.dtype} {array.shape}; they must be numbers (N, ...)")
    numbers, classes = numbered(targets, task or ("regression" if targets.dtype.kind == "f" else "classification"), key)
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
