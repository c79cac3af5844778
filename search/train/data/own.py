"""Data as the user has it: arrays, a table, tensors, a map-style Dataset, or Examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from search.config.build import accepted, factory
from search.errors import UsageError
from search.files import no_room
from search.traces import told
from search.train.data.arrays import Array, Examples
from search.train.data.pairs import examples_of_pair, with_test

_ALLOWED = (
    "a pair (inputs, targets) of arrays, tensors, lists or a DataFrame; {'train': pair, 'test': pair}; "
    "a map-style Dataset of (input, target); or search.Examples"
)
_SHIPPED = "search."
"""Begins the names of our own data sources: a traceback of theirs is for us."""


def load(node: Mapping[str, Any]) -> Examples:
    """Call the data source that `node` names and return what it gave; `name` is passed to one that takes it.

    Raises UsageError where it fails, in one line that names the line of the user's code, or gives something else.
    """
    target = str(node.get("_target_"))
    name = str(node.get("name") or target.rpartition(".")[2])
    given = {key: value for key, value in node.items() if key != "name"}
    source = factory(given, "data")
    try:
        return examples_of(source(**accepted(given, {"name": name})), name)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        if no_room(error) or target.startswith(_SHIPPED):
            raise
        raise UsageError(f"data._target_={target}: {told(error)}") from error


def examples_of(made: Any, name: str) -> Examples:
    """Return what a data source gave as Examples named `name`.

    Targets that are words, truth values or whole numbers are classes, other numbers a regression. Pictures are
    (N, C, H, W), series (N, C, L), tables (N, F) or a DataFrame, whose words become one-hot columns. Raises UsageError
    for anything else.
    """
    if isinstance(made, Examples):
        return made
    if isinstance(made, Mapping) and set(made) == {"train", "test"}:
        return with_test(_pair(made["train"]), _pair(made["test"]), name, "data._target_")
    return examples_of_pair(_pair(made), name, "data._target_")


def _pair(made: Any) -> tuple[Any, Array]:
    """Return (inputs, which stay a DataFrame if they are one; targets)."""
    if isinstance(made, tuple | list) and len(made) == 2 and all(_is_column(part) for part in made):
        inputs, targets = made
        return inputs if isinstance(inputs, pd.DataFrame) else _array(inputs), _array(targets)
    is_dataset = hasattr(made, "__getitem__") and hasattr(made, "__len__") and not hasattr(made, "shape")
    if is_dataset and not isinstance(made, tuple | list | Mapping | str):
        return _stacked(made)
    raise UsageError(f"data._target_: gives {_described(made)}; it must give {_ALLOWED}")


def _is_column(part: Any) -> bool:
    """Tell whether it has an entry an example; a tuple is more likely a pair of its own."""
    return hasattr(part, "shape") or isinstance(part, list)


def _described(made: Any) -> str:
    """Return a value's type, with those of its parts."""
    name = type(made).__name__
    if isinstance(made, Mapping):
        return f"{name} with {', '.join(map(str, made)) or 'nothing'}"
    if isinstance(made, tuple | list) and len(made) <= 4:
        return f"{name} of {', '.join(type(part).__name__ for part in made) or 'nothing'}"
    return name


def _stacked(dataset: Any) -> tuple[Array, Array]:
    """Return all items of a map-style Dataset: they are trained on from memory."""
    name = type(dataset).__name__
    items = [dataset[i] for i in range(len(dataset))]
    if not all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
        raise UsageError(f"data._target_: the items of {name} must be pairs (input, target)")
    inputs, targets = [_array(x) for x, _ in items], [_array(y) for _, y in items]
    for what, arrays in (("inputs", inputs), ("targets", targets)):
        shapes = sorted({array.shape for array in arrays})
        if len(shapes) > 1:
            raise UsageError(f"data._target_: the {what} of {name} have different shapes, {shapes[0]} and {shapes[1]}")
    return np.array(inputs), np.array(targets)


def _array(value: Any) -> Array:
    """Return a value as an array; a picture of PIL's as (C, H, W)."""
    if hasattr(value, "getbands"):
        array = np.asarray(value)
        return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    if hasattr(value, "detach"):  # a tensor, wherever it is
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()  # NumPy has no such type
    return np.asarray(value)
