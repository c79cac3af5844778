"""Schedules that only fall, or stand still.

Times are in `unit`: fractions of the budget, epochs, or steps of the optimiser; after a warm-up the budget is what it
leaves. At step t, from 0 on, all of them start with the whole rate. A run that ends first cuts them off.
"""

from __future__ import annotations

import itertools

import numpy as np
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, MultiStepLR, PolynomialLR

from search.train.schedules.curve import Curve
from search.train.schedules.durations import Budget, Unit
from search.train.schedules.settings import require_positive, require_share
from search.train.schedules.torchs import stepped
from search.train.schedules.warmup import warmed


def constant(budget: Budget, *, unit: Unit = "budget", warmup: float = 0.0) -> Curve:
    """Return 1 everywhere."""
    return warmed(budget, warmup, unit, lambda rest: Curve(np.ones(rest.steps)))


def step(budget: Budget, *, every: float, gamma: float, unit: Unit = "budget", warmup: float = 0.0) -> Curve:
    """Return stairs: gamma^k after k times `every`."""
    require_positive("gamma", gamma)
    require_share("gamma", gamma)

    def main(rest: Budget) -> Curve:
        ends = rest.ends(itertools.repeat(rest.length("every", every, unit)), unit)
        return stepped(lambda optimizer: MultiStepLR(optimizer, ends, gamma), rest.steps)

    return warmed(budget, warmup, unit, main)


def exponential(budget: Budget, *, gamma: float, unit: Unit = "budget", warmup: float = 0.0) -> Curve:
    """Return gamma^t with the time t in `unit`: gamma is what is left after the whole budget, an epoch or a step."""
    require_positive("gamma", gamma)
    require_share("gamma", gamma)

    def main(rest: Budget) -> Curve:
        each = gamma ** (1 / rest.of_one(unit))
        return stepped(lambda optimizer: ExponentialLR(optimizer, each), rest.steps)

    return warmed(budget, warmup, unit, main)


def polynomial(budget: Budget, *, power: float, final: float, unit: Unit = "budget", warmup: float = 0.0) -> Curve:
    """Return (1 - t/T)^power from 1 down to `final` over the whole budget T; a straight line where power is 1."""
    require_positive("power", power)
    require_share("final", final)

    def main(rest: Budget) -> Curve:
        falling = stepped(lambda optimizer: PolynomialLR(optimizer, rest.steps, power), rest.steps)
        return Curve(final + (1 - final) * falling.rates)

    return warmed(budget, warmup, unit, main)


def cosine(budget: Budget, *, final: float, unit: Unit = "budget", warmup: float = 0.0) -> Curve:
    """Return half a cosine from 1 to `final` over the budget (Loshchilov and Hutter 2017, one cycle of equation 5)."""
    require_share("final", final)

    def main(rest: Budget) -> Curve:
        return stepped(lambda optimizer: CosineAnnealingLR(optimizer, rest.steps, final), rest.steps)

    return warmed(budget, warmup, unit, main)
