"""What runs where since when, and what has been silent or busy for too long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from search.records import FailureKind
from search.sweep.failures import FailurePolicy

Overdue = tuple[int, FailureKind, str, float]
"""(slot, kind, message, seconds it ran)."""

_LOOK_SECONDS = 1.0
_NOT_LOOKING = 60.0


@dataclass
class _Running:
    number: int
    began: float
    heard: float
    trials: int
    num_open: int


class Vigil:
    """Slots with the numbers of their work. What is too long is a trial's share of the time of its cohort."""

    def __init__(self, policy: FailurePolicy, stopwatch: Callable[[], float]) -> None:
        """`stopwatch` must not run while the machine sleeps (`time.monotonic`): nothing reports then."""
        self._policy, self._stopwatch = policy, stopwatch
        self._running: dict[int, _Running] = {}
        self._looked = stopwatch()

    def __len__(self) -> int:
        """Return how much runs."""
        return len(self._running)

    def began(self, slot: int, number: int, *, reports: bool = True, trials: int = 1, num_open: int = 1) -> None:
        """Take in that work on so many trials was handed to a slot; without reports it may take as long as it likes.

        The next report may take the time of `num_open` trials, one after the other.
        """
        now = self._stopwatch() if reports else math.inf
        self._running[slot] = _Running(number, now, now, trials, num_open)

    def heard(self, slot: int, *, joining: int = 0, num_open: int = 1) -> None:
        """Take in a sign of life, how many trials join, and how many the next report is of."""
        running = self._running[slot]
        running.heard, running.num_open = self._stopwatch(), num_open
        running.trials += joining

    def ended(self, slot: int) -> int:
        """Take in that a slot's work is over; return its number."""
        return self._running.pop(slot).number

    def overdue(self) -> Iterator[Overdue]:
        """Yield what should be ended by force; looks once a second at most."""
        now = self._stopwatch()
        if now - self._looked < _LOOK_SECONDS:
            return
        hang, timeout = self._policy.hang_seconds, self._policy.timeout_seconds
        gap, self._looked = now - self._looked, now
        if hang is not None and gap > max(_NOT_LOOKING, hang / 2):
            for running in self._running.values():  # nobody listened: the driver was stopped, not they
                running.began += gap
                running.heard += gap
        for slot, running in list(self._running.items()):
            seconds = now - running.began
            if hang is not None and now - running.heard > hang * running.num_open:
                yield slot, FailureKind.HANG, _silence(hang, running.num_open), seconds
            elif timeout is not None and seconds > timeout * running.trials:
                yield slot, FailureKind.TIMEOUT, _delay(timeout, running.trials), seconds


def _silence(seconds: float, num_open: int) -> str:
    return f"no report for {seconds * num_open:g} s (failures.hang_seconds{_for_each(num_open)})"


def _delay(seconds: float, trials: int) -> str:
    return f"not done after {seconds * trials:g} s (failures.timeout_seconds{_for_each(trials)})"


def _for_each(trials: int) -> str:
    return f" for each of {trials} trials" if trials > 1 else ""
