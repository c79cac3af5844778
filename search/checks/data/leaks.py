"""Inputs that give the target away: one of them alone tells it, which real measurements hardly ever do."""

from __future__ import annotations

import numpy as np

from search.checks.bench import Bench
from search.checks.data.vectors import feature_names
from search.train.data.arrays import Array

MOST_EXAMPLES = 2000
MOST_COLUMNS = 5000
FEWEST = {True: 200, False: 30}
"""Of classes, and of numbers: few examples of few classes may lie apart along an honest column."""
FEWEST_OF_OTHERS = 20
"""Examples that are not of the most frequent class."""
ALONE = {True: 0.99, False: 0.995}
"""Of classes, and of numbers: how much better than at random neighbours by the input's value are of one class, where 1
is perfect; and the rank correlation. No measurement reaches it: the best single columns of wine, breast_cancer and
diabetes have about 0.6, 0.7 and 0.6.
"""


def leaks(bench: Bench, indices: Array) -> dict[str, float]:
    """Return the inputs of a table that alone tell the target of these examples, each with its strength.

    Of series where the target is a number, too: one step may well be enough to tell two kinds of series apart.
    """
    kinds = ("table",) if bench.classifies else ("table", "series")
    if len(indices) < FEWEST[bench.classifies] or bench.examples.kind not in kinds:
        return {}
    indices = _sampled(bench, indices)
    if bench.classifies:
        counts = np.bincount(bench.examples.targets[indices])
        if counts.sum() - counts.max() < FEWEST_OF_OTHERS:
            return {}
    inputs = bench.examples.inputs[indices]
    flat = inputs.reshape(len(inputs), -1)[:, :MOST_COLUMNS].astype(np.float64)
    order = bench.generator("leaks", "ties").permutation(len(flat))  # equal values tell nothing of their order
    flat, targets = np.nan_to_num(flat[order]), bench.examples.targets[indices][order]
    strengths = _purity(flat, targets) if bench.classifies else _correlation(flat, targets)
    found = np.flatnonzero(strengths >= ALONE[bench.classifies])
    return {_name(bench, int(column)): float(strengths[column]) for column in found}


def _sampled(bench: Bench, indices: Array) -> Array:
    """Return a sample of the indices; of classes as many of each, as far as there are: rare ones would be lost."""
    order = bench.generator("leaks").permutation(indices)
    if len(order) <= MOST_EXAMPLES or not bench.classifies:
        return order[:MOST_EXAMPLES]
    targets = bench.examples.targets[order]
    present = np.unique(targets)
    each = max(1, MOST_EXAMPLES // len(present))
    return np.concatenate([order[targets == c][:each] for c in present])


def _purity(columns: Array, targets: Array) -> Array:
    """Return for each column how much of the possible there is: 0 in random order, 1 with each class in one piece."""
    ordered = targets[np.argsort(columns, axis=0, kind="stable")]
    counts, number = np.bincount(targets).astype(np.float64), len(targets)
    least = np.count_nonzero(counts) - 1
    random = (number - 1) * (1 - float((counts * (counts - 1)).sum()) / (number * (number - 1)))
    changes = np.count_nonzero(np.diff(ordered, axis=0), axis=0)
    return np.asarray(1 - (changes - least) / max(random - least, 1e-9))


def _correlation(columns: Array, targets: Array) -> Array:
    """Return each column's rank correlation with the targets, without sign; 0 for a constant one."""
    from scipy.stats import rankdata

    ranks, wanted = rankdata(columns, axis=0), rankdata(targets)
    ranks, wanted = ranks - ranks.mean(axis=0), wanted - wanted.mean()
    scale = np.sqrt((ranks**2).sum(axis=0) * (wanted**2).sum())
    return np.asarray(np.abs(np.divide(wanted @ ranks, scale, out=np.zeros(len(scale)), where=scale > 0)))


def _name(bench: Bench, column: int) -> str:
    shape = bench.examples.inputs.shape[1:]
    if len(shape) == 1:
        name = feature_names(bench.examples, shape[0])[column]
        return f"column {name}" if bench.examples.table is None else f"column {name!r}"
    channel, step = divmod(column, shape[1])
    return f"channel {channel} at step {step}"
