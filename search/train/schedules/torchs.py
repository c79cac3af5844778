"""PyTorch's own schedulers as curves: run to the end on an optimiser that optimises nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from search.config.build import accepted, factory
from search.errors import UsageError
from search.train.schedules.curve import Curve
from search.train.schedules.durations import Budget
from search.train.schedules.warmup import warmed

_MOMENTUM = 0.123456789
"""Which no schedule asks for: it tells whether one sets momentum at all."""
_OURS = ("unit", "warmup")


def stepped(make: Callable[[torch.optim.Optimizer], LRScheduler], steps: int) -> Curve:
    """Return what a scheduler does in so many steps to an optimiser whose rate is 1: its rates are factors."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0, momentum=_MOMENTUM)
    scheduler = make(optimizer)
    optimizer.step()  # else the scheduler warns that it went first
    rates, momenta = np.empty(steps), np.empty(steps)
    group = optimizer.param_groups[0]
    for i in range(steps):
        if i > 0:
            scheduler.step()
        rates[i], momenta[i] = group["lr"], group["momentum"]
    return Curve(rates, None if (momenta == _MOMENTUM).all() else momenta)


def of_users(target: type, node: Mapping[str, Any], budget: Budget) -> Curve:
    """Return the curve of a scheduler that a node names by its class.

    It sees an optimiser with the rate 1, so rates among its settings (`eta_min`, `max_lr`, ...) are factors. It is
    stepped after each step of the optimiser; with the key `unit: epochs` after each epoch, as in PyTorch's examples.
    `T_max` and `total_steps` need not be given. `warmup`, in the same unit, puts a rise before it. Raises UsageError
    for a class that is none, and for one that follows a figure: its curve is not known before training.
    """
    place = f"schedule._target_={node['_target_']}"
    if not issubclass(target, LRScheduler):
        raise UsageError(f"{place}: is a class, but none of torch.optim.lr_scheduler; take one, or a function")
    if issubclass(target, ReduceLROnPlateau):
        raise UsageError(f"{place}: follows a figure, and a schedule must be known before training; use another one")
    unit = node.get("unit", "steps")
    if unit not in ("steps", "epochs"):
        raise UsageError(f"schedule.unit={unit}: must be steps or epochs with a scheduler of PyTorch's")
    each = round(budget.of_one(unit))
    settings = {key: value for key, value in node.items() if key not in _OURS}

    def main(rest: Budget) -> Curve:
        calls = -(-rest.steps // each)
        offered = accepted(settings, {"T_max": calls, "total_steps": calls})
        curve = stepped(factory({**settings, **offered}, "schedule"), calls)
        momenta = None if curve.momenta is None else np.repeat(curve.momenta, each)[: rest.steps]
        return Curve(np.repeat(curve.rates, each)[: rest.steps], momenta)

    return warmed(budget, node.get("warmup", 0), unit, main)
