"""What runs where since when, and what has been silent or busy for too long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from search.records import FailureKind
from search.sweep.failures import FailurePolicy

_LOOK_SECONDS = 1.0
_NOT_LOOKING = 60.0


@dataclass
class _Running:
    number: int
    began: float
    heard: float
    trials: int


class Vigil:
    """Slots with the numbers of their work. What takes too long is a trial's share of the time of its cohort."""

    def __init__(self, policy: FailurePolicy, stopwatch: Callable[[], float]) -> None:
        """`stopwatch` must not run while the machine sleeps (`time.monotonic`): nothing reports then."""
        self._policy, self._stopwatch = policy, stopwatch
        self._running: dict[int, _Running] = {}
        self._looked = stopwatch()

    def __len__(self) -> int:
        """Return how much runs."""
        return len(self._running)

    def began(self, slot: int, number: int, *, reports: bool = True, trials: int = 1) -> None:
        """Take in that work on so many trials was handed to a slot; without reports it may take as long as it likes."""
        now = self._stopwatch() if reports else math.inf
        self._running[slot] = _Running(number, now, now, trials)

    def heard(self, slot: int, joining: int = 0) -> None:
        """Take in a sign of life, and how many trials join."""
        self._running[slot].heard = self._stopwatch()
        self._running[slot].trials += joining

    def ended(self, slot: int) -> int:
        """Take in that a slot's work is over; return its number."""
        return self._running.pop(slot).number

    def overdue(self) -> Iterator[tuple[int, FailureKind, str, float]]:
        """Yield (slot, kind, message, seconds it ran) of what should be ended by force; looks once a second at most."""
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
            if hang is not None and now - running.heard > hang:
                yield slot, FailureKind.HANG, f"no report for {hang:g} s (failures.hang_seconds)", seconds
            elif timeout is not None and seconds > timeout * running.trials:
                yield slot, FailureKind.TIMEOUT, f"not done after {timeout:g} s (failures.timeout_seconds)", seconds
