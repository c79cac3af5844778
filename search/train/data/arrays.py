"""Examples in memory, and how they are divided."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from search.errors import UsageError

Task = Literal["classification", "regression"]
Array = np.ndarray[Any, Any]
_KINDS = {1: "table", 2: "series", 3: "picture"}


def digest_of(*arrays: Array) -> str:
    """Return 16 hexadecimal digits that change when any of the arrays does."""
    hasher = hashlib.blake2b(digest_size=8)
    for array in arrays:
        hasher.update(f"{array.dtype}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def require_shape(inputs: Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError for inputs other than (N, *shape)."""
    if inputs.shape[1:] != shape or not inputs.ndim:
        wanted = ", ".join(map(str, ("N", *shape)))
        raise ValueError(f"inputs have the shape {inputs.shape}; must be ({wanted}{',' if not shape else ''})")


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Inputs (N, *shape) of any number type with targets: class indices int64 (N,) or numbers float32 (N,).

    `test` holds the indices of the data's own test set, where it has one. `columns` are further values of each
    example that a split may use; `table` describes how a row of a table became an input (see `TableEncoder`).
    """

    name: str
    inputs: Array
    targets: Array
    task: Task
    classes: tuple[str, ...] = ()
    test: Array | None = None
    columns: Mapping[str, Array] = field(default_factory=dict)
    table: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for arrays that do not belong together or targets that cannot be learned from."""
        if len(self.inputs) != len(self.targets):
            raise UsageError(f"data: {len(self.inputs)} inputs but {len(self.targets)} targets")
        if self.targets.ndim != 1:
            raise UsageError(f"data: targets must have one dimension, not the shape {self.targets.shape}")
        if self.task == "classification":
            if self.targets.dtype != np.int64 or len(self.classes) < 2:
                raise UsageError("data: classes must be int64 indices with at least two names")
            if len(self.targets) and not 0 <= self.targets.min() <= self.targets.max() < len(self.classes):
                raise UsageError(f"data: class indices must lie in 0 to {len(self.classes) - 1}")
        elif not np.isfinite(self.targets).all():
            raise UsageError("data: targets must be finite numbers")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def kind(self) -> str:
        """What an input is, by its dimensions: table (F,), series (C, L) or picture (C, H, W)."""
        return _KINDS.get(self.inputs.ndim - 1, "other")

    @property
    def num_outputs(self) -> int:
        """Size of a model's output: the number of classes, or 1."""
        return len(self.classes) if self.task == "classification" else 1

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change when any example does."""
        return digest_of(self.inputs, self.targets)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Indices of the three parts, int64."""

    train: Array
    validation: Array
    test: Array

    def of(self, part: str) -> Array:
        """Return the indices of "train", "validation" or "test"."""
        indices: Array = getattr(self, part)
        return indices


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Examples with their split: what a search trains, selects and is judged on."""

    examples: Examples
    split: Split
