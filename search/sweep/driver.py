"""The driver: hands trials to free slots, hears what they say and answers, until every trial has ended.

There is no barrier: a slot that becomes free gets the next trial at once. The driver never looks at the clock itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.records import (
    Decision,
    Measured,
    MeasureSpec,
    Outcome,
    Params,
    Paused,
    Report,
    Started,
    TrialSpec,
    Verdict,
)
from search.sweep.attempts import Attempts, num_struck
from search.sweep.executor import Answer, Executor, Open, Words, is_over
from search.sweep.failures import Failures
from search.sweep.judging import Judge
from search.sweep.limits import NOT_FOR_MORE, Budget, Hours, Limits
from search.sweep.packing import OFF, Handed, Load, Occupancy, Packer, ShapeOf
from search.sweep.pruners import Pruner
from search.sweep.recovery import Recovery
from search.sweep.samplers import Sampler
from search.sweep.study import Progress, Study, Watcher
from search.sweep.supply import Draws, Supply
from search.sweep.vigil import Vigil

__all__ = ["Budget", "Driver", "Watcher"]

_POLL_SECONDS = 0.5


@dataclass
class _Slot:
    """What a worker does: whose last words are still to come, how full their cohort is, and what is left to do."""

    open: Open
    occupancy: Occupancy | None
    left: float


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
        self._study, self._shown, self._clock, self._poll_seconds = study, shown, clock, poll_seconds
        self.watchers = study.watchers = list(watchers)
        self._grace: float | None = None
        self._leave_at: float | None = None
        self._running = Vigil(failures.policy, stopwatch)
        self._slots: dict[int, _Slot] = {}
        self._measuring: set[int] = set()
        """Slots whose work is a measurement."""
        self._hours = Hours(study, budget.seconds, clock)
        self._packer = Packer(shape_of, fused)
        self._judge = Judge(study, pruner, planned_steps, self._hours, clock)
        self._attempts = Attempts(study, self._judge, failures, self._packer, make_spec)
        recovery = Recovery(study, self._hours, self._judge, self._packer, self._attempts)
        recovery.run(lambda number, known: Draws(first, make_sampler, known).again(number))
        draws = Draws(first, make_sampler, study.params)
        self._limits = Limits(study, budget, self._hours, draws.size)
        self.total = self._limits.total
        self._supply = Supply(study, draws, self._packer, self._limits, make_spec)

    def remaining(self) -> int:
        """Return how many trials are still to be finished; once a limit is reached, those that have begun."""
        return self._limits.remaining()

    def limit_reached(self) -> str | None:
        """Return the key of the limit that ends the search, or None while it may ask for trials."""
        return self._limits.reached()

    @property
    def broken(self) -> str | None:
        """Why the search gave up, if it did; who watches it may set it."""
        return self._attempts.broken

    @broken.setter
    def broken(self, why: str | None) -> None:
        self._attempts.broken = why

    @property
    def no_room(self) -> str | None:
        """What a worker could not write for want of room, if one could not."""
        return self._attempts.no_room

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
        self._hours.begin()
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

    # Starting

    @property
    def _closing(self) -> bool:
        return self.interrupted or self.broken is not None or self.no_room is not None

    def _has_more(self) -> bool:
        """Tell whether something waits for a slot."""
        if self._closing:
            return False
        return bool(self._packer.num_again) or self._limits.reached() is None or self._judge.may_promote()

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
            slot, started = executor.start(work), Open(work)
            self._running.began(slot, work.number, trials=len(trials), num_open=len(started.numbers))
            left = 0.0 if measures else sum(self._judge.left(trial.number) for trial in trials)
            self._slots[slot] = _Slot(started, self._packer.occupancy(work), left)
            if measures:
                self._measuring.add(slot)

    def _next_work(self, num_slots: int) -> Handed | None:
        """Return what to start next: trials taken up again, paused ones, or new ones while the budget lasts."""
        self._promote()
        new = self._limits.reached() is None
        self._prepare()
        return self._packer.hand_out(self._load(num_slots), new=new)

    def _load(self, num_slots: int, here: float = 0.0) -> Load:
        elsewhere = sum(slot.left for slot in self._slots.values()) - here
        return Load(num_slots=num_slots, undrawn=self._supply.undrawn(), elsewhere=elsewhere, here=here)

    def _promote(self) -> None:
        """Let paused trials wait that may go on: all of them where they may share a worker, else one at a time."""
        while (self._packer.fuses or not self._packer.num_again) and self._judge.may_promote():
            promoted = self._judge.promote()
            if promoted is None:
                return
            if promoted in self._study.paused:
                self._attempts.wait(promoted)
            # It has not left its worker yet: it waits for another as soon as it has.

    def _prepare(self) -> None:
        """Have the next new trials ready, before a slot waits for them."""
        while not self._closing and self._supply.prepare():
            pass

    def _begin(self, trial: TrialSpec) -> None:
        """Record that a trial starts."""
        self._supply.begin(trial.number)
        shown = self._shown(trial.params)
        self._study.record(Started(number=trial.number, params=shown, seed=trial.seed, time=self._clock()))

    # Hearing

    def _hear(self, executor: Executor, slot: int, words: Words) -> None:
        heard = self._slots[slot]
        size = len(heard.open.numbers)
        heard.open.heard(words)
        if is_over(words):
            self._free(slot)
        decisions = self._decide([said for said in words if isinstance(said, Report)])
        heard.left = sum(self._judge.left(d.number) for d in decisions if d.verdict is Verdict.GO_ON)
        for said in words:
            if isinstance(said, Paused):
                self._study.record(said)
                if not self._study.rests(said.number):
                    self._attempts.wait(said.number)
            elif isinstance(said, Measured):
                if said.size:
                    self._study.record(said)
                self._packer.measured(said)
            elif isinstance(said, Outcome):
                self._attempts.finish(said, cohort=num_struck(said, words, size))
        if decisions:
            joining = self._joining(executor, heard, decisions)
            self._running.heard(slot, joining=len(joining), num_open=len(heard.open.numbers))
            executor.resume(slot, Answer(tuple(decisions), joining))

    def _decide(self, reports: Sequence[Report]) -> list[Decision]:
        """Return the decisions on reports that came at once; where the search closes, those who may go on pause."""
        return [
            dataclasses.replace(decision, verdict=Verdict.PAUSE, reason="the search was interrupted")
            if decision.verdict is Verdict.GO_ON and self._closing  # not recorded: it goes on with the search
            else decision
            for decision in self._judge.decide(reports)
        ]

    def _joining(self, executor: Executor, heard: _Slot, decisions: Sequence[Decision]) -> tuple[TrialSpec, ...]:
        """Return the trials that join a cohort where some of it left, or are told to, and no worker is free."""
        if heard.occupancy is None or self._closing or executor.num_free:
            return ()
        leaving = [d for d in decisions if d.verdict is not Verdict.GO_ON or d.step >= self._judge.planned(d.number)]
        heard.occupancy.present = len(heard.open.numbers) - len(leaving)
        limit = self._limits.reached()
        if not heard.occupancy.present or limit in NOT_FOR_MORE:
            return ()
        self._promote()
        self._prepare()
        load = self._load(executor.num_slots, heard.left)
        joining = self._packer.join(heard.occupancy, load, new=limit is None)
        for trial in joining:
            self._begin(trial)
        heard.open.joined(joining)
        heard.left += sum(self._judge.left(trial.number) for trial in joining)
        return joining

    def _free(self, slot: int) -> None:
        """Take in that a slot's work is over."""
        self._running.ended(slot)
        self._measuring.discard(slot)
        del self._slots[slot]

    # Ending

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
            self._attempts.finish(dataclasses.replace(paused.so_far, reason=decided.reason, time=self._clock()))

    def _time_to_leave(self) -> bool:
        if self._grace is None:
            return False
        if self._leave_at is None:
            self._leave_at = self._clock() + self._grace
        return self._clock() >= self._leave_at
