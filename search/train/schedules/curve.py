"""A schedule's curve: what the loop looks up at each step."""

from __future__ import annotations

from dataclasses import dataclass

from search.train.data.arrays import Array


@dataclass(frozen=True, eq=False)
class Curve:
    """A whole run's schedule.

    `rates` float64 (steps,) are factors of the optimiser's own rate. `momenta` (steps,) are values for `momentum` or
    `betas[0]`; None: left as they are. `cycle_ends` are the numbers of steps done at the end of each whole cycle,
    rising; () where there are no cycles.
    """

    rates: Array
    momenta: Array | None = None
    cycle_ends: tuple[int, ...] = ()
