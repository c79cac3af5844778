"""Dividing examples into train, validation and test."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from search.errors import UsageError
from search.train.data.arrays import Array, Examples, Split


def divide(examples: Examples, config: Mapping[str, Any]) -> Split:
    """Divide as `config` (the `split` node) says: the same seed gives the same parts.

    Data with a test set of its own keeps it, and the other two fractions share the rest. Raises UsageError where
    a part would be empty or the named column does not exist.
    """
    train_share, validation_share, test_share = config["fractions"]
    everything = np.arange(len(examples))
    order = _Order(examples, config)
    if examples.test is None:
        rest, test = order.cut(everything, test_share, salt=0)
    else:
        test = examples.test
        rest = np.setdiff1d(everything, test)
    train, validation = order.cut(rest, validation_share / (train_share + validation_share), salt=1)
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        if not len(part):
            raise UsageError(
                f"split.fractions={list(config['fractions'])}: no example left for {name} ({len(examples)})"
            )
    return Split(train=train, validation=validation, test=test)


class _Order:
    """Cuts the last share off a set of indices: by time, by group, or at random."""

    def __init__(self, examples: Examples, config: Mapping[str, Any]) -> None:
        self._seed = int(config["seed"])
        self._time = _moments(config["time"], _column(examples, "split.time", config["time"]))
        self._group = _column(examples, "split.group", config["group"])
        stratify = config["stratify"] and examples.task == "classification"
        self._strata = examples.targets if stratify else None

    def cut(self, indices: Array, share: float, salt: int) -> tuple[Array, Array]:
        """Return (kept, cut off), both sorted; about `share` of the indices are cut off."""
        if self._time is not None:
            return _cut_future(indices, self._time[indices], share)
        generator = np.random.default_rng([self._seed, salt])
        if self._group is not None:
            return _cut_groups(indices, self._group[indices], share, generator)
        chosen = _stratified(indices, self._strata, share, generator)
        return np.setdiff1d(indices, chosen), np.sort(chosen)


def _column(examples: Examples, key: str, name: str | None) -> Array | None:
    if name is None:
        return None
    if name not in examples.columns:
        allowed = ", ".join(examples.columns) or "none, this data has no columns"
        raise UsageError(f"{key}={name}: no such column; allowed: {allowed}")
    column = examples.columns[name]
    gaps = sum(value is None or value != value for value in column.tolist())
    if gaps:
        raise UsageError(f"{key}={name}: {gaps} rows have no value there")
    return column


def _moments(name: str | None, column: Array | None) -> Array | None:
    """Return values that sort by time: numbers as they are, words read as dates."""
    if column is None or np.issubdtype(column.dtype, np.number):
        return column
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Parsing dates in")  # day first, which it has understood
            warnings.filterwarnings("error", message="Could not infer format")  # else each is read on its own
            moments: Array = pd.to_datetime(pd.Series(column)).to_numpy()
    except (ValueError, TypeError, UserWarning) as error:
        raise UsageError(f"split.time={name}: not numbers and not dates ({str(error).splitlines()[0]})") from error
    return moments


def _cut_future(indices: Array, moments: Array, share: float) -> tuple[Array, Array]:
    """Cut the latest off, between two distinct moments."""
    if not len(indices):
        return indices, indices
    edge = np.sort(moments)[len(indices) - max(1, round(share * len(indices)))]
    future = moments >= edge
    return np.sort(indices[~future]), np.sort(indices[future])


def _stratified(indices: Array, strata: Array | None, share: float, generator: np.random.Generator) -> Array:
    """Return about `share` of the indices, the same share of each class, so that their total is exact."""
    labels = np.zeros(len(indices), dtype=np.int64) if strata is None else strata[indices]
    shuffled = generator.permutation(len(indices))
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Examples lie class by class; taking those where the running share passes a whole number spreads the rounding.
    total = round(share * len(indices))
    marks = np.floor(np.arange(len(indices) + 1) * (total / max(len(indices), 1)) + 1e-9)
    return np.asarray(indices[shuffled[np.diff(marks) > 0]])


def _cut_groups(indices: Array, groups: Array, share: float, generator: np.random.Generator) -> tuple[Array, Array]:
    names, sizes = np.unique(groups, return_counts=True)
    order = generator.permutation(len(names))
    filled = np.cumsum(sizes[order])
    num_cut = int(np.searchsorted(filled, share * len(indices))) + 1
    cut = np.isin(groups, names[order[:num_cut]])
    return np.sort(indices[~cut]), np.sort(indices[cut])


def folds_of(size: int, folds: int, seed: int) -> list[Array]:
    """Return a mask (N,) of each fold: every example is in one of them."""
    part = np.random.default_rng(seed).permutation(size) % min(folds, size)
    return [part == fold for fold in range(int(part.max()) + 1)]
