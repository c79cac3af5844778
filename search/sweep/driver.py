"""The driver: asks for parameters, hands trials to free slots, decides at each report, records everything.

There is no barrier: a slot that becomes free gets the next trial at once. The driver never looks at the clock itself.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from search.records import Decision, Event, FailureKind, Outcome, Params, Report, Started, TrialSpec, Work
from search.sweep.executor import Executor
from search.sweep.pruners import Pruner
from search.sweep.samplers import Sampler
from search.sweep.study import Progress, Study

MAX_LOST_WORKERS = 3
"""How often one trial is handed to another worker after its own died."""
_POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Totals of the study after which no more trials are asked for."""

    trials: int
    seconds: float | None = None
    patience: int | None = None


class Watcher(Protocol):
    """Sees every event after it was stored."""

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        """Take an event; `position` is the event log's length behind it."""
        ...


class Driver:
    """One search."""

    def __init__(
        self,
        *,
        study: Study,
        sampler: Sampler,
        pruner: Pruner,
        budget: Budget,
        first: Sequence[Params],
        make_spec: Callable[[int, Params], TrialSpec],
        shown: Callable[[Params], Params],
        clock: Callable[[], float],
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """`first` are the parameters of the first trials; `shown` gives parameters the names that people see."""
        self._study, self._sampler, self._pruner, self._budget = study, sampler, pruner, budget
        self._first, self._make_spec, self._shown = first, make_spec, shown
        self._clock = clock
        self.watchers = list(watchers)
        self._waiting: deque[int] = deque()
        self._lost: Counter[int] = Counter()
        self._spent = 0.0
        self._began = clock()
        self.total = budget.trials if sampler.size is None else min(budget.trials, sampler.size)
        self._restore()

    def _restore(self) -> None:
        """Replay the study through the pruner, so that rungs stand as they stood, and take up what was running."""
        previous: float | None = None
        self._study.restore()
        for event, _ in self._study.journal.events():
            if isinstance(event, Report) and event.number not in self._study.outcomes:
                self._pruner.decide(self._study.live(event.number), event.number, event.step, _value(event))
            self._study.replay(event)
            if previous is not None and not isinstance(event, Started):
                self._spent += max(0.0, event.time - previous)
            previous = event.time
        self._waiting.extend(self._study.unfinished())

    def remaining(self) -> int:
        """Return how many trials are still to be finished; 0 when a limit was reached."""
        if self._out_of_time() or self._out_of_patience():
            return len(self._waiting)
        return max(0, self.total - self._study.progress.finished)

    def run(self, executor: Executor) -> Progress:
        """Search until the budget is spent and every trial has ended."""
        free = deque(range(executor.num_slots))
        busy: dict[int, int] = {}
        while True:
            while free and (spec := self._next_spec()) is not None:
                slot = free.popleft()
                busy[slot] = spec.number
                self._record(
                    Started(number=spec.number, params=self._shown(spec.params), seed=spec.seed, time=self._clock())
                )
                executor.start(slot, spec)
            if not busy:
                return self._study.progress
            for slot, said in executor.wait(_POLL_SECONDS):
                if isinstance(said, Report):
                    executor.resume(slot, self._decide(said))
                else:
                    del busy[slot]
                    free.append(slot)
                    self._finish(said)

    def _next_spec(self) -> TrialSpec | None:
        """Return the next trial to start: one taken up again, or a new one while the budget lasts."""
        if self._waiting:
            number = self._waiting.popleft()
            return self._make_spec(number, self._study.params[number])
        number = len(self._study.params)
        if number >= self.total or self._out_of_time() or self._out_of_patience():
            return None
        named = number < len(self._first)
        params = self._first[number] if named else self._sampler.sample(number, self._study.history)
        assert self._study.create(params) == number
        return self._make_spec(number, params)

    def _decide(self, report: Report) -> Decision:
        number, step = report.number, report.step
        if step <= self._study.last_step.get(number, 0):  # trained again after a loss; it was decided upon before
            earlier = self._study.stopped.get(number)
            if earlier is not None and earlier.step == step:
                return earlier
            return Decision(number=number, step=step, stop=False, reason="", time=self._clock())
        self._record(report)
        reason = self._pruner.decide(self._study.live(number), number, step, _value(report))
        if reason is None and self._out_of_time():
            reason = "budget.hours is spent"
        decision = Decision(number=number, step=step, stop=reason is not None, reason=reason or "", time=self._clock())
        if decision.stop:
            self._record(decision)
        return decision

    def _finish(self, outcome: Outcome) -> None:
        lost = outcome.failure is not None and outcome.failure.kind is FailureKind.LOST_WORKER
        if lost and self._lost[outcome.number] < MAX_LOST_WORKERS:
            self._lost[outcome.number] += 1
            self._waiting.append(outcome.number)
            return
        if outcome.steps == 0:  # a failed trial does not know how far it came
            outcome = dataclasses.replace(outcome, steps=self._study.last_step.get(outcome.number, 0))
        self._record(outcome)

    def _record(self, event: Event) -> None:
        position = self._study.record(event)
        for watcher in self.watchers:
            watcher(event, position, self._study.progress)

    def _out_of_time(self) -> bool:
        seconds = self._budget.seconds
        return seconds is not None and self._spent + self._clock() - self._began >= seconds

    def _out_of_patience(self) -> bool:
        patience = self._budget.patience
        return patience is not None and self._study.progress.since_best >= patience


def _value(report: Report) -> float:
    return report.metrics["objective"]


def run_all(executor: Executor, work: Sequence[Work], watch: Callable[[Report | Outcome], None]) -> list[Outcome]:
    """Run each piece of work to its end, without decisions; return the outcomes in the order of `work`."""
    waiting = deque(enumerate(work))
    free = deque(range(executor.num_slots))
    running: dict[int, int] = {}
    outcomes: dict[int, Outcome] = {}
    while waiting or running:
        while free and waiting:
            index, spec = waiting.popleft()
            slot = free.popleft()
            running[slot] = index
            executor.start(slot, spec)
        for slot, said in executor.wait(_POLL_SECONDS):
            watch(said)
            if isinstance(said, Report):
                executor.resume(
                    slot, Decision(number=said.number, step=said.step, stop=False, reason="", time=said.time)
                )
            else:
                outcomes[running.pop(slot)] = said
                free.append(slot)
    return [outcomes[i] for i in range(len(work))]
