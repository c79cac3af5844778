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
from search.sweep.journal import outcome_on_disk
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
        make_sampler: Callable[[Sequence[Params]], Sampler],
        pruner: Pruner,
        budget: Budget,
        first: Sequence[Params],
        make_spec: Callable[[int, Params], TrialSpec],
        planned_steps: Callable[[Params], int],
        shown: Callable[[Params], Params],
        clock: Callable[[], float],
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """Take up the study.

        `first` are the parameters of the first trials; `make_sampler` is given all that are not to be sampled.
        `planned_steps` says how many reports a trial makes, `shown` how its parameters are named for people.
        """
        self._study, self._pruner, self._budget = study, pruner, budget
        self._make_spec, self._planned_steps, self._shown = make_spec, planned_steps, shown
        self._clock = clock
        self.watchers = list(watchers)
        self._waiting: deque[int] = deque()
        self._lost: Counter[int] = Counter()
        self._spent = 0.0
        self._began: float | None = None
        self._restore()
        self._named = deque(params for params in first if params not in study.params)
        self._sampler = make_sampler([*study.params, *self._named])
        self.total = budget.trials if self._sampler.size is None else min(budget.trials, self._sampler.size)

    def _restore(self) -> None:
        """Replay the study through the pruner, so that rungs stand as they stood, and take up what was running."""
        previous: float | None = None
        self._study.restore()
        for event, _ in self._study.journal.events():
            self._study.replay(event)
            if isinstance(event, Report) and event.number not in self._study.outcomes:
                self._ask_pruner(event)
            if previous is not None and not isinstance(event, Started):
                self._spent += max(0.0, event.time - previous)
            previous = event.time
        self._waiting.extend(self._study.unfinished())

    def remaining(self) -> int:
        """Return how many trials are still to be finished; 0 when a limit was reached."""
        if self.limit_reached() is not None:
            return len(self._waiting)
        return self.total - self._study.progress.finished

    def limit_reached(self) -> str | None:
        """Return the key of the limit that ends the search, or None while it may ask for trials."""
        if self._out_of_time():
            return "budget.hours"
        patience = self._budget.patience
        if patience is not None and self._study.progress.since_best >= patience:
            return "budget.patience"
        if len(self._study.params) >= self.total:
            return "budget.trials" if self.total == self._budget.trials else "sampler"
        return None

    def run(self, executor: Executor) -> Progress:
        """Search until the budget is spent and every trial has ended."""
        self._began = self._clock()
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
        if self.limit_reached() is not None:
            return None
        number = len(self._study.params)
        params = self._named.popleft() if self._named else self._sampler.sample(number, self._study.history)
        spec = self._make_spec(number, params)
        created = self._study.create(params)
        if created != number:
            raise RuntimeError(f"the study in {self._study.journal.folder} numbers trial {number} as {created}")
        return spec

    def _decide(self, report: Report) -> Decision:
        number, step = report.number, report.step
        if (earlier := self._study.stopped.get(number)) is not None and earlier.step <= step:
            return earlier  # it was told so before its worker or the driver died
        if step <= self._study.last_step.get(number, 0):  # trained again after a loss; it was decided upon before
            return Decision(number=number, step=step, stop=False, reason="", time=self._clock())
        self._record(report)
        reason = self._ask_pruner(report)
        if reason is None and self._out_of_time():
            reason = "budget.hours is spent"
        decision = Decision(number=number, step=step, stop=reason is not None, reason=reason or "", time=self._clock())
        if decision.stop:
            self._record(decision)
        return decision

    def _ask_pruner(self, report: Report) -> str | None:
        number, step = report.number, report.step
        planned = self._planned_steps(self._study.params[number])
        reason = self._pruner.decide(self._study.live(number), number, step, report.metrics["objective"], planned)
        return reason if step < planned else None  # a trial that is at its end has completed

    def _finish(self, outcome: Outcome) -> None:
        number = outcome.number
        if is_lost(outcome):
            left = outcome_on_disk(self._study.directory(number))
            if left is None and self._lost[number] < MAX_LOST_WORKERS:
                self._lost[number] += 1
                self._waiting.append(number)
                return
            outcome = left or outcome
        if outcome.steps == 0:  # a failed trial does not know how far it came
            outcome = dataclasses.replace(outcome, steps=self._study.last_step.get(number, 0))
        self._record(outcome)

    def _record(self, event: Event) -> None:
        position = self._study.record(event)
        for watcher in self.watchers:
            watcher(event, position, self._study.progress)

    def _out_of_time(self) -> bool:
        here = 0.0 if self._began is None else self._clock() - self._began
        return self._budget.seconds is not None and self._spent + here >= self._budget.seconds


def is_lost(outcome: Outcome) -> bool:
    """Tell whether the work ended because its worker did."""
    return outcome.failure is not None and outcome.failure.kind is FailureKind.LOST_WORKER


def run_all(executor: Executor, work: Sequence[Work], watch: Callable[[Report | Outcome], None]) -> list[Outcome]:
    """Run each piece of work to its end, without decisions; return the outcomes in the order of `work`."""
    waiting = deque(range(len(work)))
    free = deque(range(executor.num_slots))
    running: dict[int, int] = {}
    lost: Counter[int] = Counter()
    outcomes: dict[int, Outcome] = {}
    while waiting or running:
        while free and waiting:
            slot = free.popleft()
            running[slot] = waiting.popleft()
            executor.start(slot, work[running[slot]])
        for slot, said in executor.wait(_POLL_SECONDS):
            watch(said)
            if isinstance(said, Report):
                going_on = Decision(number=said.number, step=said.step, stop=False, reason="", time=said.time)
                executor.resume(slot, going_on)
                continue
            index = running.pop(slot)
            free.append(slot)
            if is_lost(said) and lost[index] < MAX_LOST_WORKERS:
                lost[index] += 1
                waiting.append(index)
            else:
                outcomes[index] = said
    return [outcomes[i] for i in range(len(work))]
