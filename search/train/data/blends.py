"""Inputs without labels, made of the training examples, for a teacher to label."""

from __future__ import annotations

import numpy as np

from search.keyed import keyed_int
from search.train.data.arrays import Array, Dataset


def blends(dataset: Dataset, number: int, seed: int) -> Array:
    """Return so many blends of two training examples each, float32 (number, *shape).

    Shares are uniform in 0 to 1, as in mixup with alpha 1 (Zhang et al. 2018): between examples the teacher tells more
    of itself than on those that its members have learned by heart.
    """
    generator = np.random.default_rng(keyed_int(seed, "blends"))
    train, inputs = dataset.split.train, dataset.examples.inputs
    first, second = (generator.choice(train, number) for _ in range(2))
    share = generator.random((number, *[1] * (inputs.ndim - 1)), dtype=np.float32)
    made: Array = share * inputs[first].astype(np.float32) + (1 - share) * inputs[second].astype(np.float32)
    return made
