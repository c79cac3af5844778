"""A rise of the rate in front of any schedule (Goyal et al. 2017, section 2.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from search.errors import UsageError
from search.train.schedules.curve import Curve
from search.train.schedules.durations import Budget, Unit


def warmed(budget: Budget, warmup: float, unit: Unit, main: Callable[[Budget], Curve]) -> Curve:
    """Return the curve of `main` for what `warmup` leaves of the budget, after a straight rise to its first rate.

    Of w steps the first has 1/(w+1) of that rate, the last w/(w+1): none is wasted on a rate of 0. A rise that is
    longer than the run is cut off. Raises UsageError where `warmup` is below 0, or a fraction of 1 and more.
    """
    if warmup < 0 or (unit == "budget" and warmup >= 1):
        allowed = "a fraction of the budget, from 0 to below 1" if unit == "budget" else f"{unit}, at least 0"
        raise UsageError(f"schedule.warmup={warmup}: must be {allowed}")
    rise = round(warmup * budget.of_one(unit))
    curve = main(dataclasses.replace(budget, steps=max(1, budget.steps - rise)))
    if rise == 0:
        return curve
    ramp = np.arange(1, rise + 1) / (rise + 1)
    ends = [end + rise for end in curve.cycle_ends]
    return Curve(
        np.concatenate([ramp * curve.rates[0], curve.rates])[: budget.steps],
        None if curve.momenta is None else np.r_[np.full(rise, curve.momenta[0]), curve.momenta][: budget.steps],
        tuple(end for end in ends if end <= budget.steps),
    )
