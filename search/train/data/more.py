"""Data with more to train on: the validation examples, or inputs without labels that a teacher knows."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from search.train.data.arrays import Array, Dataset, Examples, require_shape


def with_validation(dataset: Dataset) -> Dataset:
    """Return the data with its validation examples among those for training."""
    split = dataset.split
    train = np.sort(np.concatenate([split.train, split.validation]))
    return dataclasses.replace(dataset, split=dataclasses.replace(split, train=train))


def with_transfer(dataset: Dataset, inputs: Array) -> Dataset:
    """Return the data with inputs (T, *shape) behind its own, for training too; their targets are of no use.

    Statistics of the data are no longer those of its training split: what needs them is built before.
    """
    examples = dataset.examples
    more = dataclasses.replace(
        examples,
        inputs=np.concatenate([examples.inputs, _as(examples.inputs.dtype, inputs)]),
        targets=np.concatenate([examples.targets, np.repeat(examples.targets[:1], len(inputs))]),
        columns={},
    )
    train = np.concatenate([dataset.split.train, len(examples) + np.arange(len(inputs))])
    return dataclasses.replace(dataset, examples=more, split=dataclasses.replace(dataset.split, train=train))


def inputs_alone(examples: Examples, inputs: Array) -> Examples:
    """Return examples with other inputs (T, *shape) in place of their own; their targets are of no use."""
    targets = np.repeat(examples.targets[:1], len(inputs))
    given = _as(examples.inputs.dtype, inputs)
    return dataclasses.replace(examples, inputs=given, targets=targets, columns={}, test=None)


def like(shape: tuple[int, ...], dtype: np.dtype[Any], inputs: Array) -> Array:
    """Return inputs (T, *shape) in the type of the data's; raise ValueError for others, and what that cannot hold.

    Pictures of 0 to 1, say, where the data's are of 0 to 255, would all be black.
    """
    require_shape(inputs, shape)
    fits, wanted = _fits(dtype, inputs)
    if not fits.all():
        raise ValueError(f"inputs hold {inputs[~fits][0]:g}; must be {wanted}")
    return inputs.astype(dtype)


def _fits(dtype: np.dtype[Any], values: Array) -> tuple[Array, str]:
    """Return which values can be of that type as they are, bool of the same shape, and what they must be."""
    if dtype.kind == "f":
        return np.isnan(values) | (np.abs(values) <= np.finfo(dtype).max), "finite, or NaN"
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    fits = (values >= low) & (values <= high) & (values == np.rint(values))
    return fits, f"whole numbers from {low} to {high}, as the data's"


def _as(dtype: np.dtype[Any], inputs: Array) -> Array:
    whole = np.issubdtype(dtype, np.integer) and not np.issubdtype(inputs.dtype, np.integer)
    return (np.rint(inputs) if whole else inputs).astype(dtype)
