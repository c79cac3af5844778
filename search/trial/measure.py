"""How many trials of a shape are trained at once: a few steps alone and as cohorts, on the device at hand."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from statistics import fmean
from typing import Any

import torch

from search.records import Measured, MeasureSpec, TrialSpec
from search.train.fused import CannotStackError, Common, Stack, difference, form_of, in_a_line, why_alone
from search.train.loop import Training
from search.trial.failing import no_memory
from search.trial.place import Place
from search.trial.training import setup_in

_SIZES = {"cpu": (8, 32), "cuda": (8, 32, 128)}
_WORTH = 1.1
"""A cohort must be so many times as fast as its trials alone."""
_BETTER = 1.05
"""And one that is larger so many times as fast as the last: the smaller, the sooner its trials report."""
_WINDOW, _WINDOWS = 4, 3
"""Steps whose mean counts, because some work is done for several at once, and how many windows are timed."""
_FEWEST, _LONGEST = 2, 0.05
"""Steps that are timed at least behind the first, and after how many seconds no more."""


def measured(place: Place, spec: MeasureSpec) -> Measured:
    """Return what was measured; nothing is left of the trials that it was measured with."""
    began = time.perf_counter()
    rates: dict[int, float] = {}
    size = 1
    try:
        size = _measure(place, spec, rates)
        reason = _in_words(rates, size)
    except CannotStackError as error:
        rates.clear()
        reason = f"alone: {error}"
    return Measured(
        number=spec.number,
        shape=spec.shape,
        rates={str(size): rate for size, rate in rates.items()},
        size=size,
        reason=f"{_name(spec.trials[0].config['model'])}: {reason}",
        seconds=time.perf_counter() - began,
        time=time.time(),
        waiting=spec.waiting,
    )


def _measure(place: Place, spec: MeasureSpec, rates: dict[int, float]) -> int:
    """Find model-steps a second by size; return the size to take. Raises CannotStackError where only 1 is possible."""
    alike = _alike(place, spec)
    others = itertools.cycle([trial for trial, _ in alike])
    trainings = [training for _, training in alike]
    alone = setup_in(place, next(others)).training()
    rates[1] = 1 / _seconds(alone.some_steps(), place.device)
    chosen, best = 1, rates[1] * _WORTH / _BETTER
    common: Common | None = None
    for size in sorted({min(size, spec.waiting) for size in _SIZES.get(place.device.type, _SIZES["cpu"])}):
        try:
            trainings += [setup_in(place, next(others)).training() for _ in range(size - len(trainings))]
            stack = Stack(trainings[:size], common)
            if common is None:
                stack.prove()
            rates[size] = size / _seconds(stack.some_steps(_WINDOW), place.device)
        except Exception as error:
            if common is None or not no_memory(error):
                raise
            break
        common = stack.common
        if rates[size] < _BETTER * best:
            break
        chosen, best = size, rates[size]
    return chosen


def _alike(place: Place, spec: MeasureSpec) -> list[tuple[TrialSpec, Training]]:
    """Return those of the trials whose networks are alike, with fresh trainings; who cannot be made is left out.

    Raises CannotStackError where there are no two.
    """
    forms: dict[Hashable, list[tuple[TrialSpec, Training]]] = defaultdict(list)
    why = "no two of its trials can be made"
    for trial in spec.trials:
        try:
            training = setup_in(place, trial).training()
        except Exception as error:  # noqa: BLE001 - it is told when the trial fails of it
            why = in_a_line(error)
            continue
        if (reason := why_alone(training)) is not None:
            raise CannotStackError(reason)
        forms[form_of(training)].append((trial, training))
    most = max(forms.values(), key=len, default=[])
    if len(most) < 2 and len(forms) > 1:
        first, second, *_ = forms
        raise CannotStackError(f"its trials differ in {difference(first, second)}, whatever their settings say")
    if len(most) < 2:
        raise CannotStackError(why)
    return most


def _seconds(steps: Iterator[None], device: torch.device) -> float:
    """Return the time of a step, the shortest of several means: what disturbs makes it longer."""
    times: list[float] = []
    began = last = time.perf_counter()
    for _ in steps:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        times.append(now - last)
        last = now
        if len(times) == _WINDOWS * _WINDOW or (len(times) > _FEWEST and now - began > _LONGEST):
            break
    windows = [times[i : i + _WINDOW] for i in range(_WINDOW, len(times) - _WINDOW + 1, _WINDOW)]
    if windows:  # in the first, kernels are chosen, memory is taken and layers are looked at
        return min(map(fmean, windows))
    return min(times[1:] or times)


def _in_words(rates: Mapping[int, float], chosen: int) -> str:
    several = [f"{rate:,.0f} with {size} at once" for size, rate in rates.items() if size > 1]
    steps = ", ".join([f"{rates[1]:,.0f} steps a second alone", *several])
    return f"{steps}; taken: {'alone' if chosen == 1 else f'{chosen} at once'}"


def _name(model: Mapping[str, Any]) -> str:
    """Return a network's class with the numbers that say how large it is."""
    numbers = [f"{key}={value}" for key, value in model.items() if type(value) is int]
    return f"{str(model['_target_']).rpartition('.')[2]}({', '.join(numbers)})"
