"""Figures from times: how busy slots were, how a cost grows. And what repetitions say of a mean and of a share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

Span = tuple[float, float]
"""(when a job began, when it ended)."""
_TAIL = 0.975
"""Quantile of Student's t that bounds a two-sided 95 % interval."""


class Estimate(NamedTuple):
    """A figure with its 95 % interval; NaN is what there is too little to say of."""

    value: float
    low: float = math.nan
    high: float = math.nan


def busy_share(jobs: Sequence[Span], slots: int) -> float:
    """Return the share of the slots' time that jobs filled, up to the moment when the last one was handed out."""
    first, last = min(begin for begin, _ in jobs), max(begin for begin, _ in jobs)
    if first == last:
        return 1.0
    worked = sum(min(end, last) - begin for begin, end in jobs)
    return worked / (slots * (last - first))


def longest_vacancy(jobs: Sequence[Span], slots: int) -> float:
    """Return the longest time, up to the last hand-out, in which without a break fewer than `slots` jobs ran.

    It counts from the moment when all slots had been taken for the first time: starting up is another matter.
    """
    last = max(begin for begin, _ in jobs)
    changes = sorted([(begin, 1) for begin, _ in jobs] + [(end, -1) for _, end in jobs])
    running, full, longest, vacant_since = 0, False, 0.0, 0.0
    for time, change in changes:
        if time > last:
            break
        running += change
        if full and running < slots and running - change == slots:
            vacant_since = time
        if running == slots:
            longest = max(longest, time - vacant_since) if full and change > 0 else longest
            full = True
    return longest


def growth(times: Sequence[float], early: tuple[int, int], late: tuple[int, int]) -> float:
    """Return the cost of a trial late in a search, divided by that early in it.

    `times` are when trial after trial ended; each window is (after so many trials, up to so many).
    """
    return cost(times, late) / cost(times, early)


def cost(times: Sequence[float], window: tuple[int, int]) -> float:
    """Return the seconds a trial takes within the window."""
    begin, end = window
    return (times[end - 1] - times[begin - 1]) / (end - begin)


def steady_rate(times: Sequence[float], warm_up: int, end: float | None = None) -> float:
    """Return trials a second after the first `warm_up` of them, during which workers start.

    `times` are when trial after trial ended, `end` is when all was done where that is later.
    """
    return (len(times) - warm_up) / ((times[-1] if end is None else end) - times[warm_up - 1])


def mean_of(values: Sequence[float]) -> Estimate:
    """Return the mean with Student's interval; of one value, without."""
    mean, number = float(np.mean(values)), len(values)
    if number < 2:
        return Estimate(mean)
    half = float(stdtrit(number - 1, _TAIL) * np.std(values, ddof=1) / math.sqrt(number))
    return Estimate(mean, mean - half, mean + half)


def ratio_of_means(parts: Sequence[float], wholes: Sequence[float]) -> Estimate:
    """Return the mean part over the mean whole, which belong together in pairs, with Fieller's interval (1954).

    There is no ratio where the mean whole is not above 0, and no interval where it might not be: the ratios that the
    pairs allow have no bounds then.
    """
    part, whole, number = float(np.mean(parts)), float(np.mean(wholes)), len(wholes)
    if whole <= 0:
        return Estimate(math.nan)
    if number < 2:
        return Estimate(part / whole)
    spread = stdtrit(number - 1, _TAIL) ** 2 * np.cov(parts, wholes) / number
    a, b, c = whole**2 - spread[1, 1], part * whole - spread[0, 1], part**2 - spread[0, 0]
    if a <= 0:
        return Estimate(part / whole)
    root = math.sqrt(max(b**2 - a * c, 0.0))  # rounding alone makes it negative: the ratio itself is in the interval
    return Estimate(part / whole, float(b - root) / a, float(b + root) / a)


def mean_ratio(parts: Sequence[float], wholes: Sequence[float]) -> float:
    """Return the mean of the pairs' ratios, NaN where a whole is not above 0."""
    return float(np.mean([part / whole if whole > 0 else math.nan for part, whole in zip(parts, wholes, strict=True)]))
