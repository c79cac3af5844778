"""From a `schedule` node to its curve, whoever wrote what it names."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from search.config.build import factory, target_of
from search.errors import UsageError
from search.traces import told
from search.train.data.arrays import Array
from search.train.schedules.curve import Curve
from search.train.schedules.durations import Budget
from search.train.schedules.torchs import of_users


def curve_of(node: Mapping[str, Any], budget: Budget) -> Curve:
    """Return the curve that a `schedule` node describes for a run of that length.

    Its target is one of the shipped schedules, another function of (budget, **settings) that gives a Curve or the
    factors alone, or a scheduler of `torch.optim.lr_scheduler` (see `torchs.of_users`). Raises UsageError for
    settings that cannot be, and for what is no curve of that length.
    """
    return _curve(json.dumps(node, sort_keys=True), budget)


@lru_cache(maxsize=64)
def _curve(written: str, budget: Budget) -> Curve:
    """Return the curve of a node as JSON: trials draw few different ones, and one takes as long as an epoch."""
    node = json.loads(written)
    target = target_of(node, "schedule")
    place = f"schedule._target_={node['_target_']}"
    try:
        found = of_users(target, node, budget) if inspect.isclass(target) else factory(node, "schedule")(budget)
    except UsageError:
        raise
    except Exception as error:  # code of the user's own may raise anything
        raise UsageError(f"{place}: {told(error)}") from error
    curve = found if isinstance(found, Curve) else Curve(found)
    return _whole(curve, budget.steps, place)


def _whole(curve: Curve, steps: int, place: str) -> Curve:
    """Return the curve with its figures as float64; raise UsageError where it is none for so many steps."""
    rates = _line(curve.rates, steps, f"{place}: gives factors")
    if rates.min() < 0:
        raise UsageError(f"{place}: gives the factor {rates.min():g}; none may lie below 0")
    momenta = None if curve.momenta is None else _line(curve.momenta, steps, f"{place}: gives momenta")
    if momenta is not None and not (momenta.min() >= 0 and momenta.max() < 1):
        raise UsageError(f"{place}: gives momenta from {momenta.min():g} to {momenta.max():g}; must be in 0 to below 1")
    ends = tuple(map(int, curve.cycle_ends))
    if list(ends) != sorted({end for end in ends if 0 < end <= steps}):
        raise UsageError(f"{place}: gives cycle_ends={list(ends)}; must rise, and lie in 1 to {steps}")
    return Curve(rates, momenta, ends)


def _line(values: Any, steps: int, what: str) -> Array:
    try:
        line = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} that are no numbers ({type(values).__name__}); must be ({steps},)") from error
    if line.shape != (steps,):
        raise UsageError(f"{what} {line.shape}; must be ({steps},), one for each step")
    if not np.isfinite(line).all():
        raise UsageError(f"{what} that are not all finite")
    return line
