"""The driver: asks for parameters, hands trials to free slots, decides at each report, records everything.

There is no barrier: a slot that becomes free gets the next trial at once. The driver never looks at the clock itself.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from search.errors import StrandedError
from search.layout import OUTCOME
from search.records import (
    Decision,
    Event,
    FailureKind,
    Outcome,
    Params,
    Paused,
    Report,
    Retried,
    Started,
    TrialSpec,
    TrialState,
    Verdict,
    failed,
)
from search.sweep.executor import Executor, Said
from search.sweep.failures import Failures
from search.sweep.journal import outcome_on_disk
from search.sweep.pruners import GO_ON, Pruner, Ruling
from search.sweep.samplers import Sampler
from search.sweep.study import Progress, Study
from search.sweep.vigil import Vigil

_POLL_SECONDS = 0.5
_OUT_OF_TIME: Ruling = (Verdict.STOP, "budget.hours is spent")
_CLOSING: Ruling = (Verdict.PAUSE, "the search was interrupted")
_UNHEARD = (FailureKind.LOST_WORKER, FailureKind.PREEMPTED, FailureKind.HANG, FailureKind.TIMEOUT)
"""Failures of workers that may have left an Outcome which nobody heard."""


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
        failures: Failures,
        first: Sequence[Params],
        make_spec: Callable[[int, Params], TrialSpec],
        planned_steps: Callable[[Params], int],
        shown: Callable[[Params], Params],
        clock: Callable[[], float],
        stopwatch: Callable[[], float],
        watchers: Sequence[Watcher] = (),
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        """Take up the study.

        `first` are the parameters of the first trials; `make_sampler` is given all that are not to be sampled.
        `planned_steps` says how many reports a trial makes, `shown` how its parameters are named for people. `clock`
        gives the time of events, in seconds since 1970, `stopwatch` that by which running trials are judged. A trial
        for which `make_spec` raises StrandedError when it is taken up again ends as failed.
        """
        self._study, self._pruner, self._budget, self._failures = study, pruner, budget, failures
        self._make_spec, self._planned_steps, self._shown = make_spec, planned_steps, shown
        self._clock, self._poll_seconds = clock, poll_seconds
        self.watchers = list(watchers)
        self.broken: str | None = None
        """Why the search gave up, if it did."""
        self.no_room: str | None = None
        """What a worker could not write for want of room, if one could not."""
        self._grace: float | None = None
        self._leave_at: float | None = None
        self._waiting: deque[int] = deque()
        self._running = Vigil(failures.policy, stopwatch)
        self._prepared: TrialSpec | None = None
        self._spent = 0.0
        self._began: float | None = None
        self._restore()
        self._named = deque(params for params in first if params not in study.params)
        self._sampler = make_sampler([*study.params, *self._named])
        self.total = budget.trials if self._sampler.size is None else min(budget.trials, self._sampler.size)

    def remaining(self) -> int:
        """Return how many trials are still to be finished; once a limit is reached, those that have begun."""
        if self.limit_reached() is not None:
            return len(self._study.params) - self._study.progress.finished
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

    def interrupt(self, grace: float) -> None:
        """Start nothing more, pause what runs at its next report, and leave after `grace` seconds at most.

        May be called from a signal handler.
        """
        self._grace = grace

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return self._grace is not None

    def run(self, executor: Executor) -> Progress:
        """Search until every trial has ended, it is interrupted, or it has to stop (see `broken`, `no_room`)."""
        self._began = self._clock()
        while not self._time_to_leave():
            self._fill(executor)
            if not self._running and not self._has_more():
                break
            self._prepare()
            for slot, said in executor.wait(self._poll_seconds):
                self._hear(executor, slot, said)
            self._study.journal.sync_if_due()
            self._end_overdue(executor)
        if not self._closing:
            self._end_paused()
        return self._study.progress

    # Taking up

    def _restore(self) -> None:
        """Replay the study through the pruner, so that rungs stand as they stood, and take up what was running."""
        previous: float | None = None
        owed: Decision | None = None
        last: Event | None = None
        study = self._study
        study.restore()
        for event, _ in study.journal.events():
            if previous is not None and not self._may_begin(event):
                self._spent += max(0.0, event.time - previous)
            previous = event.time
            study.replay(event)
            owed = self._replay(event)
            last = event
        if isinstance(last, Report) and not self._pruner.remembers:
            owed = self._owed(last)
        if owed is not None:
            self._record(owed)  # the driver died between a report and its decision
        for number in study.unfinished():
            if (left := outcome_on_disk(study.directory(number))) is not None:
                self._finish(left)  # the driver died before it heard of it
            elif (why := self._stranded(number)) is not None:
                # It is nobody's failure: no attempt is counted, and it is no reason to give up. It ended when it was
                # last heard of: the time since then is not the search's.
                self._end(failed(number, FailureKind.EXCEPTION, why, time=previous or self._clock()))
            elif not self._rests(number):
                self._waiting.append(number)

    def _stranded(self, number: int) -> str | None:
        """Return why a trial cannot go on, if it cannot."""
        try:
            self._make_spec(number, self._study.params[number])
        except StrandedError as error:
            return str(error)
        return None

    def _may_begin(self, event: Event) -> bool:
        """Tell whether the event may be the first that a driver recorded: nothing ran in the time before it."""
        if isinstance(event, Decision):
            return event.verdict is Verdict.GO_ON
        return isinstance(event, Started) or (isinstance(event, Outcome) and event.number in self._study.paused)

    def _replay(self, event: Event) -> Decision | None:
        """Tell pruner and budgets of a stored event; return a report's decision unless it is to go on."""
        if isinstance(event, Report):
            return self._owed(event) if self._pruner.remembers else None
        if isinstance(event, Decision) and event.verdict is Verdict.GO_ON:
            self._pruner.promoted(event.number)
        elif isinstance(event, Retried):
            self._failures.count(event.number, event.failure)
        elif isinstance(event, Outcome):
            self._end_in_pruner(event)
        return None

    def _owed(self, report: Report) -> Decision | None:
        """Return the decision on a stored report, unless it is to go on."""
        if report.number in self._study.outcomes:
            return None
        verdict, reason = self._ask_pruner(report)
        if verdict is Verdict.GO_ON:
            return None
        return Decision(number=report.number, step=report.step, verdict=verdict, reason=reason, time=report.time)

    def _rests(self, number: int) -> bool:
        """Tell whether the trial is paused because the pruner said so."""
        decided = self._study.decided.get(number)
        return decided is not None and decided.verdict is Verdict.PAUSE and number in self._study.paused

    # Starting

    @property
    def _closing(self) -> bool:
        return self.interrupted or self.broken is not None or self.no_room is not None

    def _has_more(self) -> bool:
        """Tell whether something waits for a slot."""
        if self._closing:
            return False
        return bool(self._waiting) or self.limit_reached() is None or self._may_promote()

    def _may_promote(self) -> bool:
        return not self._out_of_time() and self._pruner.can_promote()

    def _fill(self, executor: Executor) -> None:
        """Start what there is in free slots."""
        while executor.num_free:
            spec = None if self._closing else self._next_spec()
            if spec is None:
                return
            shown = self._shown(spec.params)
            self._record(Started(number=spec.number, params=shown, seed=spec.seed, time=self._clock()))
            self._running.began(executor.start(spec), spec.number)

    def _next_spec(self) -> TrialSpec | None:
        """Return the next trial to start: one taken up again, a paused one, or a new one while the budget lasts."""
        if self._waiting:
            return self._again(self._waiting.popleft())
        while self._may_promote() and (promoted := self._pruner.promote()) is not None:
            step = self._study.last_step.get(promoted, 0)
            self._record(self._decision(promoted, step, (Verdict.GO_ON, "promoted")))
            if promoted in self._study.paused:
                return self._again(promoted)
            # It has not left its worker yet: it waits for another as soon as it has.
        if self.limit_reached() is not None:
            return None
        self._prepare()
        spec, self._prepared = self._prepared, None
        if spec is None:  # a limit was reached, or a signal came, this very moment
            return None
        created = self._study.create(spec.params)
        if created != spec.number:
            raise RuntimeError(f"the study in {self._study.journal.folder} numbers trial {spec.number} as {created}")
        return spec

    def _again(self, number: int) -> TrialSpec:
        """Return the work of a trial that was begun before."""
        return self._failures.eased(self._make_spec(number, self._study.params[number]))

    def _prepare(self) -> None:
        """Have the next new trial ready, before a slot waits for it."""
        if self._prepared is None and not self._closing and self.limit_reached() is None:
            number = len(self._study.params)
            params = self._named.popleft() if self._named else self._sampler.sample(number, self._study.history)
            self._prepared = self._make_spec(number, params)

    # Hearing

    def _hear(self, executor: Executor, slot: int, said: Said) -> None:
        if isinstance(said, Report):
            self._running.heard(slot)
            executor.resume(slot, self._decide(said))
            return
        self._running.ended(slot)
        if isinstance(said, Paused):
            self._record(said)
            if not self._rests(said.number):
                self._waiting.append(said.number)
        else:
            self._finish(said)

    def _decide(self, report: Report) -> Decision:
        number, step = report.number, report.step
        earlier = self._study.decided.get(number)
        ruling = GO_ON
        if step > self._study.last_step.get(number, 0):
            self._record(report)
            ruling = self._ask_pruner(report)
            if ruling[0] is Verdict.GO_ON and self._out_of_time() and step < self._planned(number):
                ruling = _OUT_OF_TIME
            if ruling[0] is not Verdict.GO_ON:
                self._record(self._decision(number, step, ruling))
        if earlier is not None and earlier.verdict is not Verdict.GO_ON and earlier.step <= step:
            return earlier  # it was told so before its worker or the driver died
        if ruling[0] is Verdict.GO_ON and self._closing:
            ruling = _CLOSING  # not recorded: it goes on with the search
        return self._decision(number, step, ruling)

    def _decision(self, number: int, step: int, ruling: Ruling) -> Decision:
        return Decision(number=number, step=step, verdict=ruling[0], reason=ruling[1], time=self._clock())

    def _ask_pruner(self, report: Report) -> Ruling:
        if report.number < self._study.comparable_from:
            return GO_ON
        planned = self._planned(report.number)
        ruling = self._pruner.decide(report.number, report.step, report.metrics["objective"], planned)
        return ruling if report.step < planned else GO_ON  # a trial that is at its end has completed

    def _planned(self, number: int) -> int:
        return self._planned_steps(self._study.params[number])

    # Ending

    def _finish(self, outcome: Outcome) -> None:
        """Record how a trial ended, or have it tried again where its failure's budget allows for that."""
        number, failure = outcome.number, outcome.failure
        if failure is not None and failure.kind in _UNHEARD and (left := outcome_on_disk(self._directory(number))):
            outcome, failure = left, left.failure
        if failure is not None and failure.kind is FailureKind.DISK_FULL:
            self.no_room = f"trial {number}: {failure.message}"  # it has not ended: it goes on with the next search
            return
        if failure is not None and self._failures.may_retry(number, failure):
            (self._directory(number) / OUTCOME).unlink(missing_ok=True)  # or the next driver would take it as the last
            self._record(Retried(number=number, failure=failure, time=outcome.time))
            self._failures.count(number, failure)
            self._waiting.append(number)
            return
        self._end(outcome)
        self.broken = self._failures.ended(outcome) or self.broken

    def _end(self, outcome: Outcome) -> None:
        if outcome.steps == 0:  # a failed trial does not know how far it came
            outcome = dataclasses.replace(outcome, steps=self._study.last_step.get(outcome.number, 0))
        self._record(outcome)
        self._end_in_pruner(outcome)

    def _end_in_pruner(self, outcome: Outcome) -> None:
        comparable = outcome.number >= self._study.comparable_from
        self._pruner.ended(outcome.number, failed=comparable and outcome.state is TrialState.FAILED)

    def _end_overdue(self, executor: Executor) -> None:
        """End by force what hangs or takes too long."""
        for slot, kind, message, seconds in self._running.overdue():
            executor.cancel(slot)
            number = self._running.ended(slot)
            self._finish(failed(number, kind, message, time=self._clock(), seconds=seconds))

    def _end_paused(self) -> None:
        """End the trials that nobody will promote any more."""
        for number, paused in list(self._study.paused.items()):
            decided = self._study.decided[number]
            self._finish(dataclasses.replace(paused.so_far, reason=decided.reason, time=self._clock()))

    def _time_to_leave(self) -> bool:
        if self._grace is None:
            return False
        if self._leave_at is None:
            self._leave_at = self._clock() + self._grace
        return self._clock() >= self._leave_at

    def _directory(self, number: int) -> Path:
        return self._study.directory(number)

    def _record(self, event: Event) -> None:
        position = self._study.record(event)
        for watcher in self.watchers:
            watcher(event, position, self._study.progress)

    def _out_of_time(self) -> bool:
        here = 0.0 if self._began is None else self._clock() - self._began
        return self._budget.seconds is not None and self._spent + here >= self._budget.seconds
