"""Data as the user has it: arrays, a table, tensors, a map-style Dataset, or Examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from search.errors import UsageError
from search.train.data.arrays import Array, Examples
from search.train.data.table import TableEncoder

_ALLOWED = (
    "a pair (inputs, targets) of arrays, tensors or a DataFrame; {'train': pair, 'test': pair}; "
    "a Dataset of (input, target); or search.Examples"
)


def examples_of(made: Any, name: str) -> Examples:
    """Return what a data source gave as Examples named `name`.

    Targets that are words, truth values or whole numbers are classes, other numbers a regression. Pictures are
    (N, C, H, W), series (N, C, L), tables (N, F) or a DataFrame, whose words become one-hot columns. Raises UsageError
    for anything else.
    """
    if isinstance(made, Examples):
        return made
    if isinstance(made, Mapping) and set(made) == {"train", "test"}:
        return _with_test(_pair(made["train"]), _pair(made["test"]), name)
    inputs, targets = _pair(made)
    return _examples(inputs, targets, name)


def _pair(made: Any) -> tuple[Any, Any]:
    if isinstance(made, tuple | list) and len(made) == 2 and all(hasattr(part, "shape") for part in made):
        return made[0], made[1]
    if isinstance(made, tuple) and len(made) == 2 and hasattr(made[0], "shape") and isinstance(made[1], list):
        return made[0], np.asarray(made[1])
    if hasattr(made, "__getitem__") and hasattr(made, "__len__") and not isinstance(made, tuple | list | Mapping | str):
        return _stacked(made)
    raise UsageError(f"data._target_: gives {type(made).__name__}; it must give {_ALLOWED}")


def _stacked(dataset: Any) -> tuple[Array, Array]:
    """Return all items of a map-style Dataset: they are trained on from memory."""
    items = [dataset[i] for i in range(len(dataset))]
    if not items or not all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
        raise UsageError(f"data._target_: the items of {type(dataset).__name__} must be pairs (input, target)")
    inputs = [_array(x) for x, _ in items]
    shapes = {x.shape for x in inputs}
    if len(shapes) > 1:
        different = " and ".join(map(str, sorted(shapes)[:2]))
        raise UsageError(f"data._target_: the inputs of {type(dataset).__name__} have different shapes, {different}")
    return np.stack(inputs), np.asarray([_scalar(y) for _, y in items])


def _scalar(target: Any) -> Any:
    return target.item() if hasattr(target, "item") else target


def _array(value: Any) -> Array:
    """Return a value as an array; a picture of PIL's as (C, H, W)."""
    if hasattr(value, "getbands"):
        array = np.asarray(value)
        return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    if hasattr(value, "detach"):  # a tensor, wherever it is
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def _with_test(train: tuple[Any, Any], test: tuple[Any, Any], name: str) -> Examples:
    if isinstance(train[0], pd.DataFrame):
        inputs: Any = pd.concat([train[0], test[0]], ignore_index=True)
    else:
        inputs = np.concatenate([_array(train[0]), _array(test[0])])
    targets = np.concatenate([_array(train[1]), _array(test[1])])
    own = np.arange(len(train[1]), len(targets), dtype=np.int64)
    return _examples(inputs, targets, name, test=own)


def _examples(inputs: Any, targets: Any, name: str, test: Array | None = None) -> Examples:
    columns: dict[str, Array] = {}
    table = None
    if isinstance(inputs, pd.DataFrame):
        encoder = TableEncoder.fit(inputs)
        columns = {str(c): inputs[c].to_numpy() for c in inputs.columns}
        array, table = encoder.encode(inputs), encoder.to_plain()
    else:
        array = _array(inputs)
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise UsageError(f"data._target_: the inputs are {array.dtype} {array.shape}; they must be numbers (N, ...)")
    numbers, classes = _targets(_array(targets))
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


def _targets(targets: Array) -> tuple[Array, tuple[str, ...]]:
    """Return (targets, names of the classes; none for numbers)."""
    if targets.ndim != 1:
        raise UsageError(f"data._target_: the targets have the shape {targets.shape}; they must be (N,)")
    if targets.dtype.kind == "f":
        return targets.astype(np.float32), ()
    words = targets.astype(str) if targets.dtype == object else targets
    classes, indices = np.unique(words, return_inverse=True)
    if len(classes) < 2:
        raise UsageError("data._target_: the targets are of one class only")
    return indices.astype(np.int64), tuple(map(str, classes))
