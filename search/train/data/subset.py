"""The first so many training examples of a random order, each smaller set a part of every larger one."""

from __future__ import annotations

import dataclasses

import numpy as np

from search.errors import UsageError
from search.keyed import keyed_int
from search.train.data.arrays import Dataset


def with_fewer(dataset: Dataset, number: int | None, seed: int) -> Dataset:
    """Return the data with so many training examples, validation and test as they were; None: all of them.

    Classes keep their shares, but each has an example at least. Raises UsageError where there are not so many, or fewer
    than there are classes.
    """
    train = dataset.split.train
    if number is None:
        return dataset
    examples = dataset.examples
    least = len(examples.classes) if examples.task == "classification" else 2
    if not least <= number <= len(train):
        raise UsageError(f"trainer.examples={number}: must be {least} to {len(train)}, the examples for training")
    classes = examples.targets[train] if examples.task == "classification" else np.zeros(len(train), dtype=np.int64)
    generator = np.random.default_rng(keyed_int(seed, "examples"))
    # In the order of (place within its class) / (size of it), each beginning has the classes' shares; the
    # first of each class stands before all others.
    place = np.empty(len(train))
    for c in np.unique(classes):
        of_class = np.flatnonzero(classes == c)
        rank = generator.permutation(len(of_class))
        place[of_class] = np.where(rank == 0, -1.0, (rank + generator.random()) / len(of_class))
    chosen = np.sort(train[np.argsort(place, kind="stable")[:number]])
    return dataclasses.replace(dataset, split=dataclasses.replace(dataset.split, train=chosen))
