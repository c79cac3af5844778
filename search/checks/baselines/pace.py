"""How long a training step takes, and what checks leave out where it is long."""

from __future__ import annotations

import itertools
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
    train(setup, itertools.islice(batches, 1))
    least = float("inf")
    for _ in range(TRIES):
        began = time.perf_counter()
        train(setup, itertools.islice(batches, 1))
        least = min(least, time.perf_counter() - began)
        if least < SLOW:
            break
    return least


def mini_batches(bench: Bench) -> int:
    """Return how many mini-batches a short run has: `settings["steps"]`, or fewer where one takes long."""
    wanted = int(bench.settings["steps"])
    seconds = seconds_per_step(bench)
    return wanted if wanted * seconds <= AFFORDED else min(wanted, max(FEWEST, int(AFFORDED / seconds)))


def in_words(bench: Bench, number: int) -> str:
    """Return so many mini-batches in words, and why they are fewer than the settings ask for."""
    fewer = number < int(bench.settings["steps"]) and mini_batches(bench) < int(bench.settings["steps"])
    return f"{number} mini-batches" + (f" (as one takes {seconds_per_step(bench):.2g} s)" if fewer else "")


def left_out(bench: Bench) -> str:
    """Return why further runs are left out, in words; empty where they are made."""
    seconds = seconds_per_step(bench)
    return f"not looked at: a step takes {seconds:.2g} s" if seconds >= SLOW else ""
