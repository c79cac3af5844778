"""Learning-rate schedules: pure functions of the position in a run, multiplied onto the base rate by the loop.

The position is the fraction of the run that lies behind the middle of the step, in (0, 1), so that neither a rise from
zero nor a fall to zero wastes a step.
"""

from __future__ import annotations

import math


def constant(position: float) -> float:
    """Return 1 everywhere."""
    del position
    return 1.0


def cosine(position: float, warmup: float, final: float) -> float:
    """Return half a cosine from 1 to `final` after a linear rise (Loshchilov and Hutter 2017, one cycle).

    `warmup` is the fraction of the run that rises.
    """
    if position < warmup:
        return position / warmup
    progress = (position - warmup) / (1.0 - warmup)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))
