"""Figures from times: how busy slots were, how a cost grows."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[float, float]
"""(when a job began, when it ended)."""


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
