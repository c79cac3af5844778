"""Smaller inputs: pictures and series of fewer points, tables of the features that tell most alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from search.errors import UsageError
from search.train.data.arrays import Array, Dataset
from search.train.data.table import encoded

_SCORED_EXAMPLES = 20_000  # enough to rank features; a pass over millions would delay the start
_ENLARGED = {1: "linear", 2: "bilinear"}


class Resampled(nn.Module):
    """Pictures (N, C, H, W) as (N, C, size, size), series (N, C, L) as (N, C, size).

    Sides that become smaller are averaged over areas, so that no point is lost; then those that become larger are
    interpolated.
    """

    def __init__(self, shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        channels, *sides = shape
        self.shape = (channels, *(size for _ in sides))
        self._sides = self.shape[1:]
        self._areas = tuple(min(size, side) for side in sides)
        self._shrinks, self._enlarges = self._areas != tuple(sides), self._areas != self._sides
        self._mode = _ENLARGED[len(sides)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs (N, *shape) in the size that they are to have."""
        if self._shrinks:
            inputs = functional.interpolate(inputs, self._areas, mode="area")
        return functional.interpolate(inputs, self._sides, mode=self._mode) if self._enlarges else inputs


class Selected(nn.Module):
    """Rows (N, F) with the given features alone: (N, number of them)."""

    features: Tensor

    def __init__(self, features: Array) -> None:
        """`features` are their indices, int64, rising."""
        super().__init__()
        self.shape = (len(features),)
        self.register_buffer("features", torch.as_tensor(features))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the chosen features."""
        return inputs[:, self.features]


Reduction = Resampled | Selected


def reduction_of(
    node: Mapping[str, Any] | None, dataset: Dataset, mean: Tensor, std: Tensor, key: str = "inputs"
) -> Reduction | None:
    """Return what makes standardised inputs smaller as an `inputs` node says; None where they stay as they are.

    `resolution` is the height and width of pictures, or the length of series; `features` how many columns of a
    table are kept, those with the best F-test against the targets on the training split, whose `mean` and `std` inputs
    are standardised with; a column of words is kept with all its indicators, or not at all. The result's `shape` is
    that of an input after it. Raises UsageError for a number that the data does not have, or a key for data of another
    kind.
    """
    resolution, features = (None if node is None else node.get(name) for name in ("resolution", "features"))
    examples = dataset.examples
    shape = tuple(examples.inputs.shape[1:])
    if resolution is not None:
        if examples.kind not in ("picture", "series"):
            raise UsageError(f"{key}.resolution={resolution}: is for pictures and series, not for a {examples.kind}")
        _require_between(f"{key}.resolution", resolution, None)
    if features is not None:
        if examples.kind != "table":
            raise UsageError(f"{key}.features={features}: is for tables, not for a {examples.kind}")
        columns = encoded(examples).number
        _require_between(f"{key}.features", features, columns)
        if features < columns:
            return Selected(_best(dataset, features, mean, std))
    if resolution is not None and any(side != resolution for side in shape[1:]):
        return Resampled(shape, resolution)
    return None


def _require_between(key: str, value: Any, most: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
        allowed = "at least 1" if most is None else f"1 to {most}, the table's columns"
        raise UsageError(f"{key}={value}: must be a whole number, {allowed}")


def _best(dataset: Dataset, number: int, mean: Tensor, std: Tensor) -> Array:
    """Return the indices of the features of so many columns, the best by scikit-learn's F-test, rising.

    A column of words counts as its best indicator; ties go to later columns.
    """
    from sklearn.feature_selection import f_classif, f_regression

    examples, train = dataset.examples, dataset.split.train
    some = train[:: max(1, len(train) // _SCORED_EXAMPLES)]
    standardised = np.nan_to_num((examples.inputs[some] - mean.numpy()) / std.numpy())
    score = f_classif if examples.task == "classification" else f_regression
    with warnings.catch_warnings():  # of features that are always the same: they come last
        warnings.simplefilter("ignore")
        scores = np.nan_to_num(score(standardised, examples.targets[some])[0], nan=-1.0)
    columns = encoded(examples)
    best = np.full(columns.number, -1.0)
    np.maximum.at(best, columns.of, scores)
    chosen = np.argsort(best, kind="stable")[-number:]
    return np.flatnonzero(np.isin(columns.of, chosen)).astype(np.int64)
