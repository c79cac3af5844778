"""How long a training step takes, and what checks leave out where it is long."""

from __future__ import annotations

import time

from search.checks.bench import Bench, minibatches, train

AFFORDED = 20.0
"""Seconds that a short run may take: with slower steps it has fewer."""
FEWEST = 20
"""Mini-batches that a short run has in any case."""
SLOW = 0.1
"""Seconds a step from which on runs that only tell why another one shows nothing are left out."""
TRIES = 3
"""Steps that are timed where the first one was slow: something else may have held it up."""


def seconds_per_step(bench: Bench) -> float:
    """Return what a training step takes, after one that warms up; measured once for all checks."""
    return bench.once("seconds per step", lambda: _seconds_per_step(bench))


def _seconds_per_step(bench: Bench) -> float:
    setup = bench.setup(key="pace")
    batches = minibatches(setup, 1 + TRIES)
    train(setup, batches, most=1)
    least = float("inf")
    for _ in range(TRIES):
        began = time.perf_counter()
        train(setup, batches, most=1)
        least = min(least, time.perf_counter() - began)
        if least < SLOW:
            break
    return least
