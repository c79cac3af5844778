"""The learning-rate range test: one short run in which the rate rises with each mini-batch (Smith 2015, 2017).

The loss does not move at first, then falls, then diverges. Between the two borders lie the rates worth searching; see
also Jeremy Jordan, "Setting the learning rate of your neural network" (2018).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from search.keyed import keyed_int
from search.train import steps as training
from search.train.batches import Batch
from search.train.data.arrays import Array
from search.train.kept import kept
from search.train.setup import Setup

Ramp = Literal["exponential", "linear"]
ADAPTIVE = (1e-6, 10.0)
"""Lowest and highest rate for optimisers that scale a step by past gradients, as Adam does."""
PLAIN = (1e-5, 100.0)
"""The same for SGD."""
_SMOOTHING = 30
"""The loss is averaged over about one part in so many of the ramp, on either side."""
_BEGINS = 0.15
"""Part of the way down to the best loss at which it has begun to fall: about four times the noise of a batch of 32."""
_ARRIVED = 0.85
"""Part of the way at which it has come down: the very lowest point of a flat valley is chance."""
_DIVERGED = 4.0
"""Times the best smoothed loss, as in fastai's finder."""
_CLEAR = 4.0
"""Standard errors of a difference that the lowest of some twenty means does not reach by chance."""
_AT_LEAST = 0.1
"""Part of the ramp before which it does not end, unless the loss is not finite."""
_BELOW = 4.0
"""The highest rate worth trying is so many times below divergence: a training lasts longer than the ramp there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RangeTest:
    """What a range test saw: `rates`, `losses` of the mini-batches and `smoothed` ones, each (M,).

    `low` is where the loss begins to fall, `steepest` where it falls fastest, `high` just below divergence, with
    low < steepest < high; None where the loss never falls. `diverged` is None where it does not up to the last rate.
    """

    rates: Array
    losses: Array
    smoothed: Array
    low: float | None = None
    high: float | None = None
    steepest: float | None = None
    diverged: float | None = None


def range_test(
    setup: Setup,
    batches: Iterable[Batch],
    *,
    low: float | None = None,
    high: float | None = None,
    steps: int = 100,
    ramp: Ramp = "exponential",
) -> RangeTest:
    """Train the setup with a rate that rises from `low` to `high` in so many steps, until it diverges; put it back.

    Without `low` or `high` the span is `ADAPTIVE` or `PLAIN`, by the optimiser. Rates are the optimiser's own, to which
    parameter groups with others keep their ratio. Raises ValueError for an optimiser without a learning rate, and for a
    span or a number of steps that is none.
    """
    model, optimizer = setup.model, setup.optimizer
    ratios = _ratios(optimizer)
    rates = ramped(*_span(optimizer, low, high), steps, ramp)
    watch = _Watch(steps)
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    at_first = _StepLoss(setup)
    with torch.random.fork_rng(devices), kept(model, optimizer) as first_weights:
        unmoved = {f"model.{name}": value for name, value in first_weights.items()}
        training.seed_everything(keyed_int(setup.seed, "range test"))
        model.train()
        for rate, batch in zip(rates, batches, strict=False):
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                group["lr"] = float(rate * ratio)
            with torch.no_grad(), torch.random.fork_rng(devices):  # the step draws the same augmentation and dropout
                first = float(torch.func.functional_call(at_first, unmoved, batch))
            total = training.train_step(model, optimizer, setup.loss, batch, rules=setup.rules)
            if watch.over(float(total) / len(batch[1]), first):
                break
    return judged(rates[: len(watch.losses)], np.array(watch.losses), np.array(watch.first), steps)


class _StepLoss(nn.Module):
    """The loss of a batch as a step of a setup has it, as a module: so that it can be had at other weights."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.model = setup.model
        self._loss, self._rules = setup.loss, setup.rules

    def forward(self, *batch: Tensor) -> Tensor:
        return training.mean_loss(self.model, self._loss, batch, self._rules)


def ramped(low: float, high: float, steps: int, ramp: Ramp = "exponential") -> Array:
    """Return so many rates (steps,) that rise from `low` to `high`; raise ValueError where they cannot."""
    if steps < 10 or not 0 < low < high < math.inf:
        raise ValueError(f"a range test needs 10 steps and 0 < low < high, not steps={steps}, low={low}, high={high}")
    if ramp not in ("exponential", "linear"):
        raise ValueError(f"ramp={ramp}: allowed are exponential, linear")
    return np.geomspace(low, high, steps) if ramp == "exponential" else np.linspace(low, high, steps)


def judged(rates: Array, losses: Array, first: Array, steps: int) -> RangeTest:
    """Return what the losses (M,) at the rates (M,) of a ramp of so many steps say: its three phases.

    `first` (M,) are the losses of the same mini-batches at the first weights.
    """
    start = float(first.mean())
    if not math.isfinite(start):
        return RangeTest(rates=rates, losses=losses, smoothed=losses)
    level = _level(losses, first, start)
    smoothed = _smoothed(level, steps)
    plain = RangeTest(rates=rates, losses=losses, smoothed=smoothed)
    flat = level[: max(3, steps // 7)]
    noise = float(np.std(flat)) * math.sqrt(_SMOOTHING / steps)
    least = max(0.05 * abs(start), _CLEAR * noise)
    end = _end(smoothed, start, least)
    bottom = int(np.argmin(smoothed[:end])) if end else 0
    fall = start - smoothed[bottom]
    if fall <= least or len(rates) < 5:
        return plain
    diverged = float(rates[end]) if end < len(rates) else None
    bottom = int(np.argmax(smoothed <= start - _ARRIVED * fall))
    top = rates[bottom] if diverged is None else min(rates[bottom], diverged / _BELOW)
    still = np.flatnonzero(smoothed[: bottom + 1] >= start - _BEGINS * fall)
    begin = int(still[-1]) if len(still) else 0
    last = min(max(int(np.searchsorted(rates, top)), begin + 2), len(rates) - 1)
    begin = min(begin, last - 2)
    slopes = _slopes(smoothed, max(2, steps // 20))
    return dataclasses.replace(
        plain,
        low=float(rates[begin]),
        steepest=float(rates[begin + 1 + int(np.argmin(slopes[begin + 1 : last]))]),
        high=float(rates[last]),
        diverged=diverged,
    )


class _Watch:
    """The losses so far, and whether their debiased exponential average says that the run has diverged.

    They are freed of what makes one mini-batch harder than another: else a single rare example would end the ramp.
    """

    def __init__(self, steps: int) -> None:
        self.losses: list[float] = []
        self.first: list[float] = []
        self._decay = _decay(steps)
        self._least = math.ceil(_AT_LEAST * steps)

    def over(self, loss: float, first: float) -> bool:
        self.losses.append(loss)
        self.first.append(first)
        if not math.isfinite(loss):  # else every comparison below would be false
            return True
        if len(self.losses) <= self._least:
            return False
        start = float(np.mean(self.first))
        averages = _averaged(_level(np.array(self.losses), np.array(self.first), start, math.inf), self._decay)
        # A loss near zero may quadruple by noise alone.
        return bool(averages[-1] > max(_DIVERGED * averages.min(), start + 0.5 * abs(start)))


def _span(optimizer: torch.optim.Optimizer, low: float | None, high: float | None) -> tuple[float, float]:
    lowest, highest = ADAPTIVE if {"betas", "eps"} & set(optimizer.defaults) else PLAIN
    return low or lowest, high or highest


def _ratios(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the rates of the parameter groups over the optimiser's own; over the first one's where it has none."""
    if any("lr" not in group for group in optimizer.param_groups):
        raise ValueError("a range test needs an optimiser with a learning rate")
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    base = float(optimizer.defaults.get("lr") or rates[0])
    return [rate / base if base else 1.0 for rate in rates]


def _level(losses: Array, first: Array, start: float, times: float = 2.0) -> Array:
    """Return the losses (M,) freed of what makes one mini-batch harder than another, at most so many times the first.

    Batches differ more than a low rate changes their losses: each is taken relative to its own first loss.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        alike = losses / first * start if first.min() > 0.01 * start > 0 else losses - first + start
    return np.minimum(np.nan_to_num(alike, nan=math.inf, posinf=math.inf), start + (times - 1) * abs(start))


def _decay(steps: int) -> float:
    return 1 - 1 / max(2.0, steps / _SMOOTHING)


def _averaged(values: Array, decay: float) -> Array:
    """Return the debiased exponential averages of the values up to each (M,)."""
    total = weight = 0.0
    found = np.empty(len(values))
    for i, value in enumerate(values):
        total, weight = decay * total + value, decay * weight + 1
        found[i] = total / weight
    return found


def _smoothed(losses: Array, steps: int) -> Array:
    """Return the mean of the debiased exponential averages from either side (M,), which does not lag."""
    decay = _decay(steps)
    return (_averaged(losses, decay) + _averaged(losses[::-1], decay)[::-1]) / 2


def _end(smoothed: Array, start: float, least: float) -> int:
    """Return the index at which the smoothed loss diverged, or how many there are."""
    best = math.inf
    for i, loss in enumerate(smoothed):
        best = min(best, loss)
        if loss > _limit(start, best, least):
            return i
    return len(smoothed)


def _limit(start: float, best: float, least: float) -> float:
    """Return the loss above which a run diverges: 4 times its best, no more than where it began, or half way back."""
    if start - best <= least:  # it has not fallen yet
        return start + 0.5 * abs(start)
    return max(min(_DIVERGED * best, start) if best > 0 else start, (start + best) / 2)


def _slopes(values: Array, reach: int) -> Array:
    """Return the slope of a straight line through each value and so many neighbours on either side (M,)."""
    found = np.empty(len(values))
    for i in range(len(values)):
        near = values[max(0, i - reach) : i + reach + 1]
        x = np.arange(len(near)) - (len(near) - 1) / 2
        found[i] = (x @ near) / (x @ x)
    return found
