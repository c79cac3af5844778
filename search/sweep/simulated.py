"""Slots in virtual time: scripts say what work reports and after how many seconds; nothing waits for real.

So a search of 100,000 trials on 1,000 workers runs through the very driver that users run.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

from search.records import CohortSpec, Decision, FailureKind, Report, Work
from search.sweep.executor import Answer, Executor, Happening, LastWord, Open, Said, Words, is_over

Playing = Generator[tuple[float, Report], Decision, tuple[float, LastWord]]
Script = Callable[[Work], Playing]
"""Plays a piece of work: yields (seconds until then, report), is sent the decision, returns (seconds, last word).

Infinite seconds: it hangs. Raising `WorkerLostError`: its worker dies. A cohort is played by its trials' scripts.
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


@dataclass
class _Played:
    """Work in a slot, with the scripts of those of its trials that still play, by number."""

    key: int
    open: Open
    scripts: dict[int, Playing]


class SimulatedExecutor(Executor):
    """Moves the clock from event to event."""

    def __init__(
        self,
        script: Script,
        num_slots: int,
        clock: VirtualClock,
        *,
        cohort_factor: Callable[[int], float] = lambda _: 1.0,
    ) -> None:
        """A cohort takes as long as its slowest trial, times `cohort_factor` of its size."""
        self._script, self._num_slots, self._clock, self._factor = script, num_slots, clock, cohort_factor
        self._free = list(range(num_slots))
        self._played: dict[int, _Played] = {}
        self._agenda: list[tuple[float, int, int, Words]] = []
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
        """Begin the work's scripts."""
        slot = self._free.pop()
        trials = work.trials if isinstance(work, CohortSpec) else (work,)
        scripts = {trial.number: self._script(trial) for trial in trials}
        self._played[slot] = _Played(next(self._order), Open(work), scripts)
        self._advance(slot, {})
        return slot

    def resume(self, slot: int, answer: Answer) -> None:
        """Send the decisions into the scripts, and begin those of the trials that join."""
        played = self._played[slot]
        played.open.joined(answer.joining)
        played.scripts.update((trial.number, self._script(trial)) for trial in answer.joining)
        self._advance(slot, {decision.number: decision for decision in answer.decisions})

    def cancel(self, slot: int) -> None:
        """Drop the scripts."""
        for script in self._played.pop(slot).scripts.values():
            script.close()
        self._free.append(slot)

    def wait(self, timeout: float) -> list[Happening]:
        """Move to the next event, or by `timeout` where there is none until then.

        Raises RuntimeError where nothing would ever happen.
        """
        until = self._clock.now + timeout
        while self._agenda and self._agenda[0][0] <= until:
            time, key, slot, words = heapq.heappop(self._agenda)
            if slot not in self._played or self._played[slot].key != key:
                continue  # cancelled
            self._clock.now = time
            self._played[slot].open.heard(words)
            if is_over(words):
                del self._played[slot]
                self._free.append(slot)
            return [(slot, words)]
        if math.isinf(timeout):
            raise RuntimeError("every simulated worker hangs, and nobody looks for that")
        self._clock.now = until
        return []

    def close(self) -> None:
        """Drop all scripts."""
        for slot in list(self._played):
            self.cancel(slot)

    def _advance(self, slot: int, decisions: dict[int, Decision]) -> None:
        """Play all scripts to the next thing that they say; it is heard once the slowest has said it."""
        played = self._played[slot]
        size = len(played.scripts)
        said: list[tuple[float, Said]] = []
        try:
            for number, script in list(played.scripts.items()):
                try:
                    decision = decisions.get(number)
                    # A generator that has not begun takes None alone.
                    said.append(next(script) if decision is None else script.send(decision))
                except StopIteration as end:
                    said.append(end.value)
                    del played.scripts[number]
        except WorkerLostError:
            lost = played.open.failed(FailureKind.LOST_WORKER, "the worker process died", time=self._clock.now)
            said = [(0.0, each) for each in lost]
        seconds = max(seconds for seconds, _ in said) * (self._factor(size) if size > 1 else 1.0)
        if seconds < math.inf:
            words = tuple(each for _, each in said)
            heapq.heappush(self._agenda, (self._clock.now + seconds, played.key, slot, words))
