"""How many trials of a shape are trained at once: a few steps alone and as cohorts, on the device at hand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from search.records import Measured, MeasureSpec
from search.train.fused import CannotStackError, Stack, form_of, why_alone
from search.train.loop import Training
from search.trial.failing import no_memory
from search.trial.place import Place
from search.trial.training import setup_in

_SIZES = {"cpu": (8, 32), "cuda": (8, 32, 128)}
_WORTH = 1.1
"""A cohort must be so many times as fast as its trials alone."""
_BETTER = 1.05
"""And one that is larger so many times as fast as the last: the smaller, the sooner its trials report."""
_STEPS, _FEWEST, _LONGEST = 8, 2, 0.05
"""Steps that are timed: at most, at least, and after how many seconds no more."""


def measured(place: Place, spec: MeasureSpec) -> Measured:
    """Return what was measured; nothing is left of the trials that it was measured with."""
    began = time.perf_counter()
    rates, reason = _rates(place, spec)
    size = max(rates, key=lambda size: rates[size], default=1)
    if size > 1 and rates[size] < _WORTH * rates[1]:
        size = 1
    return Measured(
        number=spec.number,
        shape=spec.shape,
        rates={str(size): rate for size, rate in rates.items()},
        size=size,
        reason=f"{_name(spec.trials[0].config['model'])}: {reason or _in_words(rates, size)}",
        seconds=time.perf_counter() - began,
        time=time.time(),
    )


def _rates(place: Place, spec: MeasureSpec) -> tuple[dict[int, float], str]:
    """Return model-steps a second by size, and why there is none for cohorts where that is so."""
    trainings = _alike(place, spec)
    alone = trainings.pop()
    if (why := why_alone(alone)) is not None:
        return {}, why
    rates = {1: 1 / _seconds(alone.some_steps(), place.device)}
    for size in _sizes(place, len(spec.trials)):
        while len(trainings) < size:
            trainings.append(setup_in(place, spec.trials[0]).training())
        try:
            stack = Stack(trainings[:size])
            if len(rates) == 1:
                stack.prove()
            rates[size] = size / _seconds(stack.some_steps(), place.device)
        except CannotStackError as error:
            return {}, str(error)
        except Exception as error:
            if no_memory(error) and len(rates) > 1:
                break
            raise
        if rates[size] < _BETTER * max(rate for other, rate in rates.items() if other < size):
            break
    return rates, ""


def _alike(place: Place, spec: MeasureSpec) -> list[Training]:
    """Return fresh trainings of the trials that are like the first, and one more of that."""
    made = [setup_in(place, trial).training() for trial in (*spec.trials, spec.trials[0])]
    if why_alone(made[-1]) is not None:
        return made[-1:]
    form = form_of(made[-1])
    return [training for training in made if why_alone(training) is None and form_of(training) == form]


def _sizes(place: Place, num_waiting: int) -> Sequence[int]:
    """Return sizes of cohorts from small to large: none is larger than what waits."""
    return sorted({min(size, num_waiting) for size in _SIZES.get(place.device.type, _SIZES["cpu"])})


def _seconds(steps: Iterator[None], device: torch.device) -> float:
    """Return the time of a step, the shortest of several: what disturbs makes it longer."""
    times: list[float] = []
    began = last = time.perf_counter()
    for _ in steps:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        times.append(now - last)
        last = now
        if len(times) > _STEPS or (len(times) > _FEWEST and now - began > _LONGEST):
            break
    return min(times[1:] or times)  # the first chooses kernels, takes memory and looks at the layers


def _in_words(rates: Mapping[int, float], chosen: int) -> str:
    several = [f"{rate:,.0f} with {size} at once" for size, rate in rates.items() if size > 1]
    steps = ", ".join([f"{rates[1]:,.0f} steps a second alone", *several])
    return f"{steps}; taken: {'alone' if chosen == 1 else f'{chosen} at once'}"


def _name(model: Mapping[str, Any]) -> str:
    """Return a network's class with the numbers that say how large it is."""
    numbers = [f"{key}={value}" for key, value in model.items() if type(value) is int]
    return f"{str(model['_target_']).rpartition('.')[2]}({', '.join(numbers)})"
