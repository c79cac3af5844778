"""Learning-rate schedules: pure functions of the position in a run, multiplied onto the base rate by the loop."""

from __future__ import annotations

import math


def constant(position: float) -> float:
    """Return 1 everywhere."""
    del position
    return 1.0


def cosine(position: float, warmup: float, final: float) -> float:
    """Return half a cosine from 1 to `final` after a linear rise (Loshchilov and Hutter 2017, one cycle).

    `position` is the fraction of the run's steps that were taken, in [0, 1); `warmup` the fraction that rises.
    """
    if position < warmup:
        return position / warmup
    progress = (position - warmup) / (1.0 - warmup)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))
