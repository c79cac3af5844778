"""Samples that hold rare classes, and how far one can tell anything from what they hold."""

from __future__ import annotations

import math

import numpy as np

from search.checks.bench import Bench
from search.train.data.arrays import Array, Examples

RARE = 0.1
"""Of an even share of the examples: a class with less is rare."""
MOST_RARE = 0.25
"""Part of a sample that rare classes may be given: validation splits have seldom more of them."""
FEW = 20
"""Examples that are not of the largest class, without which nothing said of a classifier is clear ..."""
NEARLY_ALL = 0.1
"""... where they are less than this part of all."""


def sample(bench: Bench, part: str, most: int, each: int | None = None) -> Array:
    """Return indices of a part as `Bench.sample` does, with `each` examples of each rare class, or all of them.

    They are a quarter of the sample at most. An even draw of 500 examples has one of a class of one in 500.
    """
    chosen = bench.sample(part, most)
    indices = bench.split.of(part)
    if not bench.classifies or len(chosen) == len(indices):
        return chosen
    targets, rare = bench.examples.targets[indices], rare_classes(bench)
    room = max(1, int(MOST_RARE * most / max(1, len(rare))))
    number = room if each is None else min(each, room)
    added = [indices[targets == label] for label in rare]
    draw = bench.generator("rare", part, most)
    more = [a if len(a) <= number else draw.choice(a, number, replace=False) for a in added]
    return np.unique(np.concatenate([chosen, *more]))


def spread(bench: Bench, order: Array, number: int) -> Array:
    """Return the order with the examples of rare classes in turn among so many chunks of equal size."""
    targets = bench.examples.targets[order]
    is_rare = np.isin(targets, rare_classes(bench)) if bench.classifies else np.zeros(len(order), dtype=bool)
    if not is_rare.any():
        return order
    size = max(2, math.ceil(len(order) / number))
    places = np.arange(len(order))
    places = places[np.lexsort((places // size, places % size))]  # the first place of each chunk, then the second ...
    found = np.empty_like(order)
    found[places] = np.concatenate([order[is_rare][np.argsort(targets[is_rare], kind="stable")], order[~is_rare]])
    return found


def rare_classes(bench: Bench) -> Array:
    """Return the classes that have far less than an even share of the training examples."""
    return bench.once("rare classes", lambda: _rare_classes(bench))


def _rare_classes(bench: Bench) -> Array:
    counts = np.bincount(bench.examples.targets[bench.split.train], minlength=bench.examples.num_outputs)
    return np.flatnonzero((counts > 0) & (counts < RARE * counts.sum() / len(counts)))


def others(examples: Examples, indices: Array) -> int:
    """Return how many of these examples are not of their largest class; of a regression, all."""
    if examples.task == "regression" or not len(indices):
        return len(indices)
    return len(indices) - int(np.bincount(examples.targets[indices]).max())


def too_few(examples: Examples, indices: Array) -> bool:
    """Tell whether nearly all of these examples are of one class, and too few of others to tell anything by."""
    number = others(examples, indices)
    return number < FEW and number < NEARLY_ALL * len(indices)
