"""Data with more to train on: the validation examples, or inputs without labels that a teacher knows."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from search.train.data.arrays import Array, Dataset, Examples


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


def _as(dtype: np.dtype[Any], inputs: Array) -> Array:
    whole = np.issubdtype(dtype, np.integer) and not np.issubdtype(inputs.dtype, np.integer)
    return (np.rint(inputs) if whole else inputs).astype(dtype)
