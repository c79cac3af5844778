"""Members to choose ensembles from."""

import numpy as np

from search.train.metrics import Array


def noisy(
    qualities: Array | list[float], num_examples: int = 300, classes: int = 3, seed: int = 0
) -> tuple[Array, Array]:
    """Return probabilities of members that lean to the truth as far as their quality says, and the targets."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, num_examples)
    logits = generator.normal(size=(len(qualities), num_examples, classes))
    logits[:, np.arange(num_examples), targets] += np.asarray(qualities)[:, None]
    odds = np.exp(logits)
    return odds / odds.sum(axis=2, keepdims=True), targets


def coarse(predictions: Array) -> Array:
    """Return probabilities on a grid of quarters, where figures tie all the time."""
    counts = np.floor(predictions * 4)
    counts[..., 0] += 4 - counts.sum(axis=-1)
    return np.asarray(counts / 4, dtype=np.float32)
