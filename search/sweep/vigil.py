"""What runs where since when, and what has been silent or busy for too long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from search.records import FailureKind
from search.sweep.failures import FailurePolicy

_LOOK_SECONDS = 1.0


@dataclass
class _Running:
    number: int
    began: float
    heard: float


class Vigil:
    """Slots with the numbers of their work."""

    def __init__(self, policy: FailurePolicy, stopwatch: Callable[[], float]) -> None:
        """`stopwatch` must not run while the machine sleeps (`time.monotonic`): nothing reports then."""
        self._policy, self._stopwatch = policy, stopwatch
        self._running: dict[int, _Running] = {}
        self._looked = stopwatch()

    def __len__(self) -> int:
        """Return how much runs."""
        return len(self._running)

    def began(self, slot: int, number: int, *, reports: bool = True) -> None:
        """Take in that work was handed to a slot; what makes no reports is not suspected of hanging."""
        now = self._stopwatch()
        self._running[slot] = _Running(number, now, now if reports else math.inf)

    def heard(self, slot: int) -> None:
        """Take in a sign of life."""
        self._running[slot].heard = self._stopwatch()

    def ended(self, slot: int) -> int:
        """Take in that a slot's work is over; return its number."""
        return self._running.pop(slot).number

    def overdue(self) -> Iterator[tuple[int, FailureKind, str, float]]:
        """Yield (slot, kind, message, seconds it ran) of what should be ended by force; looks once a second at most."""
        now = self._stopwatch()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        hang, timeout = self._policy.hang_seconds, self._policy.timeout_seconds
        for slot, running in list(self._running.items()):
            seconds = now - running.began
            if hang is not None and now - running.heard > hang:
                yield slot, FailureKind.HANG, f"no report for {hang:g} s (failures.hang_seconds)", seconds
            elif timeout is not None and seconds > timeout:
                yield slot, FailureKind.TIMEOUT, f"not done after {timeout:g} s (failures.timeout_seconds)", seconds
