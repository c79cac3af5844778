"""Inputs that give the target away: one of them alone tells it, which real measurements hardly ever do."""

from __future__ import annotations

import numpy as np

from search.checks.bench import Bench
from search.train.data.arrays import Array

MOST_EXAMPLES = 2000
MOST_COLUMNS = 5000
FEWEST = {True: 200, False: 30}
"""Of classes, and of numbers: few examples of few classes may lie apart along an honest column."""
ALONE = 0.995
"""Rank correlation, or share of neighbours by the input's value that are of one class, at which it is no measurement.

The best single columns of iris, wine, breast_cancer and diabetes reach 0.93, 0.71, 0.87 and 0.61.
"""


def leaks(bench: Bench, indices: Array) -> dict[str, float]:
    """Return the inputs of a table that alone tell the target of these examples, each with its strength.

    Of series where the target is a number, too: one step may well be enough to tell two kinds of series apart.
    """
    kinds = ("table",) if bench.classifies else ("table", "series")
    if len(indices) < FEWEST[bench.classifies] or bench.examples.kind not in kinds:
        return {}
    if len(indices) > MOST_EXAMPLES:
        indices = bench.generator("leaks").choice(indices, MOST_EXAMPLES, replace=False)
    inputs = bench.examples.inputs[indices]
    flat = inputs.reshape(len(inputs), -1)[:, :MOST_COLUMNS].astype(np.float64)
    order = bench.generator("leaks", "ties").permutation(len(flat))  # equal values tell nothing of their order
    flat, targets = np.nan_to_num(flat[order]), bench.examples.targets[indices][order]
    strengths = _purity(flat, targets) if bench.classifies else _correlation(flat, targets)
    found = np.flatnonzero(strengths >= ALONE)
    return {_name(inputs.shape[1:], int(column)): float(strengths[column]) for column in found}


def _purity(columns: Array, targets: Array) -> Array:
    """Return for each column the share of neighbours in its order that are of one class, beyond the least changes."""
    ordered = targets[np.argsort(columns, axis=0, kind="stable")]
    changes = np.count_nonzero(np.diff(ordered, axis=0), axis=0) - (len(np.unique(targets)) - 1)
    return np.asarray(1 - changes / max(1, len(targets) - 1))


def _correlation(columns: Array, targets: Array) -> Array:
    """Return each column's rank correlation with the targets, without sign; 0 for a constant one."""
    from scipy.stats import rankdata

    ranks, wanted = rankdata(columns, axis=0), rankdata(targets)
    ranks, wanted = ranks - ranks.mean(axis=0), wanted - wanted.mean()
    scale = np.sqrt((ranks**2).sum(axis=0) * (wanted**2).sum())
    return np.asarray(np.abs(np.divide(wanted @ ranks, scale, out=np.zeros(len(scale)), where=scale > 0)))


def _name(shape: tuple[int, ...], column: int) -> str:
    if len(shape) == 1:
        return f"feature {column}"
    channel, step = divmod(column, shape[1])
    return f"channel {channel} at step {step}"
