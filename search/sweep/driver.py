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
    Measured,
    MeasureSpec,
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
from search.sweep.executor import Answer, Executor, Open, Said, Words, is_over
from search.sweep.failures import Failures
from search.sweep.journal import outcome_on_disk
from search.sweep.packing import OFF, Cohort, Handed, Packer, ShapeOf
from search.sweep.pruners import GO_ON, Arrival, Pruner, Ruling
from search.sweep.samplers import Sampler
from search.sweep.study import Progress, Study
from search.sweep.vigil import Vigil

AHEAD = 512
"""Trials are drawn so far beyond the last that began, so that those of one shape can be found among them."""
_POLL_SECONDS = 0.5
_OUT_OF_TIME: Ruling = (Verdict.STOP, "budget.hours is spent")
_CLOSING: Ruling = (Verdict.PAUSE, "the search was interrupted")
_UNHEARD = (FailureKind.LOST_WORKER, FailureKind.PREEMPTED, FailureKind.HANG, FailureKind.TIMEOUT)
"""Failures of workers that may have left an Outcome which nobody heard."""
_OF_A_WORKER = (*_UNHEARD, FailureKind.OUT_OF_MEMORY)
"""Failures that strike all trials of a worker, whosever fault it was."""
_HOURS, _PATIENCE = "budget.hours", "budget.patience"
_NOT_FOR_MORE = (_HOURS, _PATIENCE)
"""Limits at which a cohort ends with those who are in it."""
_DRAWN_FOR_OTHER_DATA = "was drawn for other data, and never began"


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


@dataclass
class _Slot:
    """What a worker does: whose last words are still to come, and the cohort that they are in."""

    open: Open
    cohort: Cohort | None


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
        shape_of: ShapeOf = lambda _: None,
        fused: int | None = OFF,
    ) -> None:
        """Take up the study.

        `first` are the parameters of the first trials; `make_sampler` is given all that are not to be sampled.
        `planned_steps` says how many reports a trial makes, `shown` how its parameters are named for people. `clock`
        gives the time of events, in seconds since 1970, `stopwatch` that by which running trials are judged. A trial
        for which `make_spec` raises StrandedError when it is taken up again ends as failed. Up to `fused` trials of
        the same `shape_of` share a worker (None: as many as were measured to be worth it).
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
        self._packer = Packer(shape_of, fused)
        self._alone: set[int] = set()
        """Trials whose cohort failed as a whole: perhaps for their sake."""
        self._running = Vigil(failures.policy, stopwatch)
        self._slots: dict[int, _Slot] = {}
        self._measuring: set[int] = set()
        """Slots whose work is a measurement."""
        self._uncreated: deque[Params] = deque()
        """The parameters of drawn trials that the study has no number for yet, in order."""
        self._spent = 0.0
        self._began: float | None = None
        self._first, self._make_sampler = first, make_sampler
        self._restore()
        self._unprepared = deque(study.waiting)
        self._named, self._sampler = self._ways_to_draw(study.params)
        self.total = budget.trials if self._sampler.size is None else min(budget.trials, self._sampler.size)

    def remaining(self) -> int:
        """Return how many trials are still to be finished; once a limit is reached, those that have begun."""
        if self.limit_reached() is not None:
            return self._study.num_begun - self._study.progress.finished
        return self.total - self._study.progress.finished

    def limit_reached(self) -> str | None:
        """Return the key of the limit that ends the search, or None while it may ask for trials."""
        if self._out_of_time():
            return _HOURS
        patience = self._budget.patience
        if patience is not None and self._study.progress.since_best >= patience:
            return _PATIENCE
        if self._study.num_begun >= self.total:
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
            for slot, words in executor.wait(self._poll_seconds):
                self._hear(executor, slot, words)
            self._study.journal.sync_if_due()
            self._end_overdue(executor)
            if self._measuring and not self._has_more():
                self._stop_measuring(executor)
        if not self._closing:
            self._end_paused()
        return self._study.progress

    # Taking up

    def _restore(self) -> None:
        """Replay the study through the pruner, so that rungs stand as they stood, and take up what was running."""
        study = self._study
        study.restore(self._draw_again)
        last = self._replay_all()
        for number in study.unfinished():
            if (left := outcome_on_disk(study.directory(number))) is not None:
                self._finish(left)  # the driver died before it heard of it
            elif (why := self._stranded(number)) is not None:
                self._end_unheard(number, why, last)
            elif not self._rests(number):
                self._wait(number)
        for number in list(study.waiting):
            if (left := outcome_on_disk(study.directory(number))) is not None:
                study.begin(number)  # which a power failure took from the study
                self._finish(left)
            elif number < study.composed_from and (why := self._outdated(number)) is not None:
                self._end_unheard(number, why, last)

    def _replay_all(self) -> float | None:
        """Replay the study's events; return when it was last heard of, if it was."""
        previous: float | None = None
        owed: Decision | None = None
        last: Event | None = None
        for event, _ in self._study.journal.events():
            if previous is None or self._may_begin(event):
                previous = event.time
            since = max(0.0, event.time - previous)
            # Before a measurement nothing else may have run.
            self._spent += min(since, event.seconds) if isinstance(event, Measured) else since
            previous = max(previous, event.time)  # a cohort says many things at once, in no order of time
            self._study.replay(event)
            owed = self._replay(event)
            last = event
        if isinstance(last, Report) and not self._pruner.remembers:
            owed = self._owed(last)
        if owed is not None:
            self._record(owed)  # the driver died between a report and its decision
        return previous

    def _end_unheard(self, number: int, why: str, last: float | None) -> None:
        """End a trial that cannot go on.

        It is nobody's failure: no attempt is counted, and it is no reason to give up. It ended when the study was last
        heard of: the time since then is not the search's.
        """
        self._end(failed(number, FailureKind.EXCEPTION, why, time=last or self._clock()))

    def _ways_to_draw(self, known: Sequence[Params]) -> tuple[deque[Params], Sampler]:
        """Return the trials that are named and not known, which come first, and what draws the others."""
        named = deque(params for params in self._first if params not in known)
        return named, self._make_sampler([*known, *named])

    def _draw_again(self, number: int, known: Sequence[Params]) -> Params | None:
        """Return what was drawn for a trial that never began, from the others; None where results were looked at."""
        named, sampler = self._ways_to_draw(known)
        if named:
            return named[0]
        return sampler.sample(number, None) if sampler.ahead else None

    def _outdated(self, number: int) -> str | None:
        """Return why it is not worth while, or not possible, to begin a trial of an earlier composition."""
        return _DRAWN_FOR_OTHER_DATA if number < self._study.comparable_from else self._stranded(number)

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
            self._count(event)
        elif isinstance(event, Measured):
            self._packer.measured(event)
        elif isinstance(event, Outcome):
            self._end_in_pruner(event)
        return None

    def _owed(self, report: Report) -> Decision | None:
        """Return the decision on a stored report, unless it is to go on."""
        if report.number in self._study.outcomes:
            return None
        verdict, reason = self._ask_pruner([report])[0]
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
        return bool(self._packer.num_again) or self.limit_reached() is None or self._may_promote()

    def _may_promote(self) -> bool:
        return not self._out_of_time() and self._pruner.can_promote()

    def _fill(self, executor: Executor) -> None:
        """Start what there is in free slots."""
        while executor.num_free:
            work = None if self._closing else self._next_work(executor.num_slots)
            if work is None:
                return
            trials = (work,) if isinstance(work, TrialSpec) else work.trials
            measures = isinstance(work, MeasureSpec)
            for trial in () if measures else trials:
                self._begin(trial)
            slot = executor.start(work)
            self._running.began(slot, work.number, trials=len(trials))
            self._slots[slot] = _Slot(Open(work), self._packer.cohort(work))
            if measures:
                self._measuring.add(slot)

    def _next_work(self, num_slots: int) -> Handed | None:
        """Return what to start next: trials taken up again, paused ones, or new ones while the budget lasts."""
        self._promote()
        new = self.limit_reached() is None
        if new:
            self._prepare()
        return self._packer.hand_out(num_slots, new=new, undrawn=self._undrawn())

    def _promote(self) -> None:
        """Let paused trials wait that may go on: all of them where they may share a worker, else one at a time."""
        while (self._packer.fuses or not self._packer.num_again) and self._may_promote():
            promoted = self._pruner.promote()
            if promoted is None:
                return
            step = self._study.last_step.get(promoted, 0)
            self._record(self._decision(promoted, step, (Verdict.GO_ON, "promoted")))
            if promoted in self._study.paused:
                self._wait(promoted)
            # It has not left its worker yet: it waits for another as soon as it has.

    def _wait(self, number: int) -> None:
        """Let a trial wait that was begun before."""
        trial = self._failures.eased(self._make_spec(number, self._study.params[number]))
        self._packer.again(trial, alone=number in self._alone)

    def _begin(self, trial: TrialSpec) -> None:
        """Give a trial its number in the study, those before it first, and record that it starts."""
        study = self._study
        while (number := len(study.params)) <= trial.number:
            created = study.create(self._uncreated.popleft(), begun=number == trial.number)
            if created != number:
                raise RuntimeError(f"the study in {study.journal.folder} numbers trial {number} as {created}")
        if trial.number in study.waiting:
            study.begin(trial.number)
        shown = self._shown(trial.params)
        self._record(Started(number=trial.number, params=shown, seed=trial.seed, time=self._clock()))

    def _prepare(self) -> None:
        """Have the next new trials ready, before a slot waits for them."""
        while self._may_prepare() and not self._closing and self.limit_reached() is None:
            if self._unprepared:
                number = self._unprepared.popleft()
                params = self._study.params[number]
            else:
                number = self._next_number
                params = self._named.popleft() if self._named else self._sampler.sample(number, self._study.history)
                self._uncreated.append(params)
            self._packer.new(self._make_spec(number, params))

    @property
    def _next_number(self) -> int:
        """That of the next trial to be drawn."""
        return len(self._study.params) + len(self._uncreated)

    def _may_prepare(self) -> bool:
        """Tell whether another new trial may wait: those to come are drawn ahead where they may share workers."""
        if not self._packer.num_new:
            return True
        if not self._packer.fuses or not self._sampler.ahead or not self._undrawn():
            return False
        return len(self._uncreated) < AHEAD

    def _undrawn(self) -> int:
        """Return how many trials of the budget do not wait yet."""
        return max(0, self.total - self._study.num_begun - self._packer.num_new)

    # Hearing

    def _hear(self, executor: Executor, slot: int, words: Words) -> None:
        heard = self._slots[slot]
        size = len(heard.open.numbers)
        heard.open.heard(words)
        if is_over(words):
            self._free(slot)
        decisions = self._decide([said for said in words if isinstance(said, Report)])
        for said in words:
            if isinstance(said, Report):
                continue
            if isinstance(said, Paused):
                self._record(said)
                if not self._rests(said.number):
                    self._wait(said.number)
            elif isinstance(said, Measured):
                if said.size:
                    self._record(said)
                self._packer.measured(said)
            else:
                struck = size if size > 1 and _strikes_all(said, words) else 1
                self._finish(said, cohort=struck)
        if heard.cohort is not None and size > 1 and any(map(_lacked_memory, words)):
            self._packer.no_room(heard.cohort, size)
        if decisions:
            joining = self._joining(executor, heard, decisions)
            self._running.heard(slot, joining=len(joining))
            executor.resume(slot, Answer(tuple(decisions), joining))

    def _free(self, slot: int) -> None:
        """Take in that a slot's work is over."""
        self._running.ended(slot)
        self._measuring.discard(slot)
        del self._slots[slot]

    def _joining(self, executor: Executor, heard: _Slot, decisions: Sequence[Decision]) -> tuple[TrialSpec, ...]:
        """Return the trials that join a cohort where some of it left, or are told to, and no worker is free."""
        if heard.cohort is None or self._closing or executor.num_free:
            return ()
        leaving = [d for d in decisions if d.verdict is not Verdict.GO_ON or d.step >= self._planned(d.number)]
        heard.cohort.open = len(heard.open.numbers) - len(leaving)
        limit = self.limit_reached()
        if not heard.cohort.open or limit in _NOT_FOR_MORE:
            return ()
        self._promote()
        self._prepare()
        joining = self._packer.join(heard.cohort, executor.num_slots, new=limit is None, undrawn=self._undrawn())
        for trial in joining:
            self._begin(trial)
        heard.open.joined(joining)
        return joining

    def _decide(self, reports: Sequence[Report]) -> list[Decision]:
        """Return the decisions on reports that came at once."""
        earlier = {report.number: self._study.decided.get(report.number) for report in reports}
        new = [report for report in reports if report.step > self._study.last_step.get(report.number, 0)]
        for report in new:
            self._record(report)
        rulings = dict(zip((report.number for report in new), self._rulings(new), strict=True))
        return [self._answer(report, earlier[report.number], rulings.get(report.number, GO_ON)) for report in reports]

    def _answer(self, report: Report, earlier: Decision | None, ruling: Ruling) -> Decision:
        """Return the decision on a report, recorded where it is news."""
        number, step = report.number, report.step
        if ruling[0] is not Verdict.GO_ON:
            self._record(self._decision(number, step, ruling))
        if earlier is not None and earlier.verdict is not Verdict.GO_ON and earlier.step <= step:
            return earlier  # it was told so before its worker or the driver died
        if ruling[0] is Verdict.GO_ON and self._closing:
            ruling = _CLOSING  # not recorded: it goes on with the search
        return self._decision(number, step, ruling)

    def _decision(self, number: int, step: int, ruling: Ruling) -> Decision:
        return Decision(number=number, step=step, verdict=ruling[0], reason=ruling[1], time=self._clock())

    def _rulings(self, reports: Sequence[Report]) -> list[Ruling]:
        """Return what becomes of trials that reported something new."""
        spent = self._out_of_time()
        return [
            _OUT_OF_TIME
            if ruling[0] is Verdict.GO_ON and spent and report.step < self._planned(report.number)
            else ruling
            for report, ruling in zip(reports, self._ask_pruner(reports), strict=True)
        ]

    def _ask_pruner(self, reports: Sequence[Report]) -> list[Ruling]:
        """Return what the pruner says; trials of other data are none of its business, nor is one at its end stopped."""
        compared = [report for report in reports if report.number >= self._study.comparable_from]
        arrivals = [
            Arrival(report.number, report.step, report.metrics["objective"], self._planned(report.number))
            for report in compared
        ]
        found = {
            arrival.number: ruling if arrival.step < arrival.planned else GO_ON
            for arrival, ruling in zip(arrivals, self._pruner.decide_together(arrivals), strict=True)
        }
        return [found.get(report.number, GO_ON) for report in reports]

    def _planned(self, number: int) -> int:
        return self._planned_steps(self._study.params[number])

    # Ending

    def _finish(self, outcome: Outcome, cohort: int = 1) -> None:
        """Record how a trial ended, or have it tried again where its failure's budget allows for that.

        What struck a whole `cohort` of so many trials is no failure of its own: it is tried again alone.
        """
        number, failure = outcome.number, outcome.failure
        left = None if failure is None else outcome_on_disk(self._directory(number))
        if failure is not None and left is not None and (failure.kind in _UNHEARD or left.failure is None):
            outcome, failure = left, left.failure  # it had ended, though its cohort may have failed after that
            cohort = cohort if failure is not None and failure.kind in _OF_A_WORKER else 1
        if failure is not None and failure.kind is FailureKind.DISK_FULL:
            self.no_room = f"trial {number}: {failure.message}"  # it has not ended: it goes on with the next search
            return
        if failure is not None and (cohort > 1 or self._failures.may_retry(number, failure)):
            (self._directory(number) / OUTCOME).unlink(missing_ok=True)  # or the next driver would take it as the last
            retried = Retried(number=number, failure=failure, time=outcome.time, cohort=cohort)
            self._record(retried)
            self._count(retried)
            self._wait(number)
            return
        self._end(outcome)
        self.broken = self._failures.ended(outcome) or self.broken

    def _count(self, retried: Retried) -> None:
        if retried.cohort > 1 and retried.failure.kind is not FailureKind.PREEMPTED:
            self._alone.add(retried.number)
        elif retried.cohort == 1:
            self._failures.count(retried.number, retried.failure)

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
            lost = self._slots[slot].open.failed(kind, message, time=self._clock(), seconds=seconds)
            self._hear(executor, slot, lost)

    def _stop_measuring(self, executor: Executor) -> None:
        """End measurements by force: nobody waits for them any more."""
        for slot in list(self._measuring):
            executor.cancel(slot)
            self._free(slot)
        self._packer.forget_measuring()

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


def _strikes_all(outcome: Outcome, words: Words) -> bool:
    """Tell whether a trial of a cohort failed as all of it did, by its worker or by an exception that is nobody's."""
    failure = outcome.failure
    if failure is None or failure.kind in _OF_A_WORKER:
        return failure is not None
    alike = all(isinstance(said, Outcome) and said.failure == failure for said in words)
    return failure.kind is FailureKind.EXCEPTION and alike


def _lacked_memory(said: Said) -> bool:
    return isinstance(said, Outcome) and said.failure is not None and said.failure.kind is FailureKind.OUT_OF_MEMORY
