"""Slots in virtual time: scripts say what work reports and after how many seconds; nothing waits for real.

So a search of 100,000 trials on 1,000 workers runs through the very driver that users run.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Generator

from search.records import Decision, FailureKind, Outcome, Paused, Report, Work, failed
from search.sweep.executor import Executor, Happening, Said

Script = Callable[[Work], Generator[tuple[float, Report], Decision, tuple[float, Paused | Outcome]]]
"""Plays a piece of work: yields (seconds until then, report), is sent the decision, returns (seconds, last word).

Infinite seconds: it hangs. Raising `WorkerLostError`: its worker dies.
"""


class WorkerLostError(Exception):
    """A script's worker died."""


class VirtualClock:
    """A clock that only moves when it is told to."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


class SimulatedExecutor(Executor):
    """Moves the clock from event to event."""

    def __init__(self, script: Script, num_slots: int, clock: VirtualClock) -> None:
        self._script, self._num_slots, self._clock = script, num_slots, clock
        self._free = list(range(num_slots))
        self._work: dict[int, tuple[int, int, Generator[tuple[float, Report], Decision, tuple[float, Said]]]] = {}
        self._agenda: list[tuple[float, int, int, Said]] = []
        self._order = itertools.count()

    @property
    def num_slots(self) -> int:
        """As given."""
        return self._num_slots

    @property
    def num_free(self) -> int:
        """Slots without work."""
        return len(self._free)

    def start(self, work: Work) -> int:
        """Begin the work's script."""
        slot = self._free.pop()
        self._work[slot] = (next(self._order), work.number, self._script(work))
        self._advance(slot, None)
        return slot

    def resume(self, slot: int, decision: Decision) -> None:
        """Send the decision into the script."""
        self._advance(slot, decision)

    def cancel(self, slot: int) -> None:
        """Drop the script."""
        self._work.pop(slot)[2].close()
        self._free.append(slot)

    def wait(self, timeout: float) -> list[Happening]:
        """Move to the next event, or by `timeout` where there is none until then.

        Raises RuntimeError where nothing would ever happen.
        """
        until = self._clock.now + timeout
        while self._agenda and self._agenda[0][0] <= until:
            time, key, slot, said = heapq.heappop(self._agenda)
            if slot not in self._work or self._work[slot][0] != key:
                continue  # cancelled
            self._clock.now = time
            if not isinstance(said, Report):
                del self._work[slot]
                self._free.append(slot)
            return [(slot, said)]
        if math.isinf(timeout):
            raise RuntimeError("every simulated worker hangs, and nobody looks for that")
        self._clock.now = until
        return []

    def close(self) -> None:
        """Drop all scripts."""
        for _, _, script in self._work.values():
            script.close()
        self._work.clear()

    def _advance(self, slot: int, decision: Decision | None) -> None:
        key, number, script = self._work[slot]
        said: Said
        try:
            # A generator that has not begun takes None alone.
            seconds, said = next(script) if decision is None else script.send(decision)
        except StopIteration as end:
            seconds, said = end.value
        except WorkerLostError:
            seconds = 0.0
            said = failed(number, FailureKind.LOST_WORKER, "the worker process died", time=self._clock.now)
        if seconds < math.inf:
            heapq.heappush(self._agenda, (self._clock.now + seconds, key, slot, said))
