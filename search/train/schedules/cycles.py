"""Schedules that rise again: triangles, warm restarts, one cycle with the momentum the other way.

Times are in `unit`, as in `decays`; bounds are fractions of the optimiser's own rate, which is the highest.
"""

from __future__ import annotations

import itertools
from typing import Literal, get_args

import numpy as np
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from search.errors import UsageError
from search.train.schedules.curve import Curve
from search.train.schedules.durations import Budget, Unit
from search.train.schedules.settings import require_one_of, require_positive, require_share
from search.train.schedules.torchs import stepped
from search.train.schedules.warmup import warmed

Mode = Literal["triangular", "triangular2", "exp_range"]
Anneal = Literal["cos", "linear"]
_LEAST = 4
"""Steps of the shortest run for which OneCycleLR has room; a shorter one is cut off."""


def cyclical(
    budget: Budget,
    *,
    mode: Mode,
    step_size: float,
    low: float,
    gamma: float,
    unit: Unit = "budget",
    warmup: float = 0.0,
) -> Curve:
    """Return triangles from `low` to 1 and back, each side `step_size` long (Smith 2015, 2017).

    The height stays with `triangular`, halves from cycle to cycle with `triangular2`, and is gamma^t with `exp_range`,
    the time t in `unit`: with steps, as in the paper.
    """
    require_one_of("mode", mode, get_args(Mode))
    require_share("low", low)
    require_positive("gamma", gamma)
    require_share("gamma", gamma)

    def main(rest: Budget) -> Curve:
        side = rest.length("step_size", step_size, unit)
        each = gamma ** (1 / rest.of_one(unit)) if mode == "exp_range" else 1.0
        curve = stepped(
            lambda optimizer: CyclicLR(
                optimizer,
                low,
                1.0,
                step_size_up=side,  # type: ignore[arg-type] # it takes parts of steps, too
                mode=mode,
                gamma=each,
                cycle_momentum=False,
            ),
            rest.steps,
        )
        ends = rest.ends(itertools.repeat(2 * side), unit)
        return Curve(curve.rates, cycle_ends=_whole(ends, rest))

    return warmed(budget, warmup, unit, main)


def sgdr(
    budget: Budget,
    *,
    cycle: float,
    multiplier: float,
    final: float,
    decay: float,
    unit: Unit = "budget",
    warmup: float = 0.0,
) -> Curve:
    """Return half cosines from 1 to `final`, started again after each cycle (Loshchilov and Hutter 2017, equation 5).

    The first cycle is `cycle` long, each next one `multiplier` times the last; both bounds shrink by `decay` with each
    restart. PyTorch's CosineAnnealingWarmRestarts knows whole multipliers alone, and no decay.
    """
    if not 1 <= multiplier < float("inf"):
        raise UsageError(f"schedule.multiplier={multiplier}: must be at least 1")
    require_share("final", final)
    require_share("decay", decay)

    def main(rest: Budget) -> Curve:
        first = rest.length("cycle", cycle, unit)
        ends = rest.ends((first * multiplier**i for i in itertools.count()), unit)
        bounds = np.array([0, *ends])
        step = np.arange(rest.steps)
        index = np.searchsorted(bounds, step, side="right") - 1
        progress = (step - bounds[index]) / np.diff(bounds)[index]
        wave = final + (1 - final) * (1 + np.cos(np.pi * progress)) / 2
        return Curve(decay**index * wave, cycle_ends=_whole(ends, rest))

    return warmed(budget, warmup, unit, main)


def one_cycle(
    budget: Budget,
    *,
    rise: float,
    start: float,
    final: float,
    anneal: Anneal,
    three_phase: bool,
    low_momentum: float | None,
    high_momentum: float | None,
    unit: Unit = "budget",
) -> Curve:
    """Return one rise from `start` to 1 and a fall to `final` over the budget (Smith and Topin 2018).

    `rise` is how long it rises. With `three_phase` the fall to `start` takes as long, and then comes the one to
    `final`, as in the paper; else one fall takes the rest. The momentum goes the other way between its bounds; without
    them it stays.
    """
    require_one_of("anneal", anneal, get_args(Anneal))
    for key, value in (("start", start), ("final", final)):
        require_positive(key, value)
        require_share(key, value)
    bounds = _momenta(low_momentum, high_momentum)
    length = budget.length("rise", rise, unit)
    if three_phase and 2 * length > budget.steps > _LEAST:
        raise UsageError(f"schedule.rise={rise}: must be at most half the run with three_phase=true")
    steps = max(_LEAST, budget.steps)
    return stepped(
        lambda optimizer: OneCycleLR(
            optimizer,
            1.0,
            total_steps=steps,
            pct_start=min(max(2.0, length), steps / (2 if three_phase else 1)) / steps,
            anneal_strategy=anneal,
            cycle_momentum=bounds is not None,
            base_momentum=bounds[0] if bounds else 0.0,
            max_momentum=bounds[1] if bounds else 0.0,
            div_factor=1 / start,
            final_div_factor=start / final,
            three_phase=three_phase,
        ),
        budget.steps,
    )


def _momenta(low: float | None, high: float | None) -> tuple[float, float] | None:
    if low is None and high is None:
        return None
    if low is None or high is None or not 0 <= low <= high < 1:
        raise UsageError(
            f"schedule.low_momentum={'null' if low is None else low}: must be at least 0 and up to "
            f"schedule.high_momentum={'null' if high is None else high}, below 1; or both null"
        )
    return low, high


def _whole(ends: list[int], budget: Budget) -> tuple[int, ...]:
    """Return those of the cycles' ends that the run reaches, each once."""
    return tuple(dict.fromkeys(end for end in ends if end <= budget.steps))
