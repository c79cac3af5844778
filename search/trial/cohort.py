"""Several trials in one worker, epoch by epoch: those of one form as one program, others beside them, one by one.

Each has its own reports, decisions, files and last word. What all report of an epoch is told at once, and the answer
may bring trials that join.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Protocol

from search.records import CohortSpec, Decision, Outcome, Paused, Report, TrialSpec
from search.train.fused import CannotStackError, Common, Stack, form_of, in_a_line, why_alone
from search.train.steps import NonFiniteError
from search.trial.failing import failed_with, no_memory
from search.trial.place import Place
from search.trial.training import TrialRun

Last = Paused | Outcome
Closed = Callable[[TrialSpec, Last], Last]
"""Writes a last word down, before anybody hears of it; returns it."""
ALONE = "alone"


class Answer(Protocol):
    """What is said to an epoch's words: a decision on each report, and trials in the place of those that left."""

    @property
    def decisions(self) -> Sequence[Decision]:
        """In the order of the reports."""
        ...

    @property
    def joining(self) -> Sequence[TrialSpec]:
        """Of any form."""
        ...


class Cohort:
    """Trials that are trained together until the last has left."""

    def __init__(self, place: Place, closed: Closed) -> None:
        self._place, self._closed = place, closed
        self._runs: dict[int, TrialRun] = {}
        self._forms: dict[int, Hashable] = {}
        """By number; `ALONE` for those that cannot be stacked."""
        self._common: dict[Hashable, Common] = {}
        self._proven: set[int] = set()
        self._stacks: list[Stack] = []
        self._last: list[Last] = []
        """Last words that nobody has heard yet."""

    def __call__(self, spec: CohortSpec, exchange: Callable[[tuple[Report | Last, ...]], Answer]) -> tuple[Last, ...]:
        """Train them; return the last words of those that were left."""
        self._join(spec.trials)
        while self._runs:
            reports = list(self._epoch())
            last, self._last = self._last, []
            if not reports:
                return tuple(last)
            answer = exchange((*reports, *last))
            for decision in answer.decisions:
                self._take(self._runs[decision.number], decision)
            self._join(answer.joining)
        return tuple(self._last)

    def _join(self, specs: Sequence[TrialSpec]) -> None:
        """Take trials in; one that cannot be made has failed."""
        for spec in specs:
            began = time.perf_counter()
            try:
                run = TrialRun(self._place, spec)
                why = why_alone(run.training)
                form = ALONE if why else form_of(run.training)
            except Exception as error:  # noqa: BLE001 - user code may raise anything; the others go on
                self._close(spec, failed_with(spec.number, error, time.perf_counter() - began))
                continue
            self._runs[spec.number], self._forms[spec.number] = run, form
            if why:
                _say([run], why)
        forms = list(self._forms.values())
        for spec in specs:
            form = self._forms.get(spec.number, ALONE)
            if form != ALONE and forms.count(form) == 1 and len(forms) > 1:
                _say([self._runs[spec.number]], "no other network here is like its own, whatever their settings say")

    def _take(self, run: TrialRun, decision: Decision) -> None:
        """Let a trial do as it is told; one that ends leaves."""
        last: Last | None = None
        try:
            self._release(run)
            run.told(decision)
            if run.training.ended:
                last = run.last_word()
        except Exception as error:  # noqa: BLE001 - a full disk, a network that cannot predict
            last = failed_with(run.spec.number, error, run.seconds)
        if last is not None:
            self._leave(run, last)

    def _epoch(self) -> Iterator[Report]:
        """Run an epoch of all; those that fail leave."""
        stacks = self._arranged()
        stacked = {id(member) for stack in stacks for member in stack.members}
        for run in [run for run in self._runs.values() if id(run.training) not in stacked]:
            yield from self._run_alone(run)
        for stack in stacks:
            of = {id(run.training): run for run in self._runs.values()}
            yield from self._run_stacked(stack, [of[id(member)] for member in stack.members])

    def _run_alone(self, run: TrialRun) -> Iterator[Report]:
        with _timed([run]):
            try:
                report = run.report(run.training.run_epoch())
            except Exception as error:  # noqa: BLE001 - user code may raise anything
                self._fail(run, error)
                return
        yield report

    def _run_stacked(self, stack: Stack, runs: Sequence[TrialRun]) -> Iterator[Report]:
        try:
            with _timed(runs):
                found = stack.run_epoch()
        except Exception as error:  # noqa: BLE001 - user code may raise anything
            self._stacks.remove(stack)
            yield from self._without_stack(runs, error)
            return
        for run, epoch in zip(runs, found, strict=True):
            try:
                if isinstance(epoch, NonFiniteError):
                    raise epoch
                report = run.report(run.training.close_epoch(*epoch))
            except Exception as error:  # noqa: BLE001 - a full disk, too
                self._fail(run, error)
                continue
            yield report

    def _without_stack(self, runs: Sequence[TrialRun], error: Exception) -> Iterator[Report]:
        """Go on after an epoch that failed for all: whose fault it is shows when each is alone."""
        if no_memory(error):
            for run in runs:  # not written down: it is no trial's own, and the next attempt is alone
                del self._runs[run.spec.number], self._forms[run.spec.number]
                self._last.append(failed_with(run.spec.number, error, run.seconds))
        else:
            yield from self._again_alone(runs, in_a_line(error))

    def _again_alone(self, runs: Sequence[TrialRun], why: str) -> Iterator[Report]:
        """Take trials up again from their last checkpoints, each by itself."""
        _say(runs, why)
        for run in runs:
            number = run.spec.number
            try:
                fresh = TrialRun(self._place, run.spec)
            except Exception as error:  # noqa: BLE001 - user code may raise anything
                self._fail(run, error)
                continue
            fresh.seconds += run.seconds
            self._runs[number], self._forms[number] = fresh, ALONE
            yield from self._run_alone(fresh)

    def _arranged(self) -> list[Stack]:
        """Return stacks of the trials of one form, those that are there where nobody left or came."""
        groups: dict[Hashable, list[TrialRun]] = defaultdict(list)
        for number, run in self._runs.items():
            groups[self._forms[number]].append(run)
        groups.pop(ALONE, None)
        there = {frozenset(map(id, stack.members)): stack for stack in self._stacks}
        kept = {
            form: there.pop(members)
            for form, runs in groups.items()
            if (members := frozenset(id(run.training) for run in runs)) in there
        }
        for stack in there.values():
            for member in stack.members:
                stack.release(member)
        self._stacks = []
        for form, runs in groups.items():
            if form in kept:
                self._stacks.append(kept[form])
            elif len(alike := self._proven_of(form, runs)) > 1:
                self._stacks += self._stacked(form, alike)
        return list(self._stacks)

    def _proven_of(self, form: Hashable, runs: Sequence[TrialRun]) -> list[TrialRun]:
        """Return those that are the same in a stack as alone; of the others each is alone from now on."""
        new = [run for run in runs if run.spec.number not in self._proven]
        if not new or len(runs) < 2:
            return list(runs)
        company = new if len(new) > 1 else [*new, next(run for run in runs if run is not new[0])]
        if not self._stacked(form, company, prove=True):
            for run in new:
                self._forms[run.spec.number] = ALONE
            return [run for run in runs if run not in new]
        self._proven |= {run.spec.number for run in new}
        return list(runs)

    def _stacked(self, form: Hashable, runs: Sequence[TrialRun], *, prove: bool = False) -> list[Stack]:
        """Return a stack of trials; none where there cannot be one, which is said."""
        try:
            stack = Stack([run.training for run in runs], self._common.get(form))
            if prove:
                stack.prove()
        except Exception as error:  # noqa: BLE001 - a network that cannot be copied, too little memory
            _say(runs, str(error) if isinstance(error, CannotStackError) else in_a_line(error))
            return []
        self._common[form] = stack.common
        return [stack]

    def _release(self, run: TrialRun) -> None:
        for stack in self._stacks:
            if any(member is run.training for member in stack.members):
                stack.release(run.training)

    def _fail(self, run: TrialRun, error: Exception) -> None:
        try:
            last = run.failed(error) if isinstance(error, NonFiniteError) else None
        except Exception as another:  # noqa: BLE001 - a full disk
            error, last = another, None
        self._leave(run, last or failed_with(run.spec.number, error, run.seconds))

    def _leave(self, run: TrialRun, last: Last) -> None:
        del self._runs[run.spec.number], self._forms[run.spec.number]
        self._close(run.spec, last)

    def _close(self, spec: TrialSpec, last: Last) -> None:
        try:
            last = self._closed(spec, last)
        except Exception as error:  # noqa: BLE001 - what cannot be written down has not ended
            last = failed_with(spec.number, error, 0.0)
        self._last.append(last)


@contextlib.contextmanager
def _timed(runs: Sequence[TrialRun]) -> Iterator[None]:
    """Count the time within as that of all trials, a share for each."""
    began = time.perf_counter()
    try:
        yield
    finally:
        for run in runs:
            run.seconds += (time.perf_counter() - began) / len(runs)


def _say(runs: Sequence[TrialRun], why: str) -> None:
    """Write into the log that trials are not trained as one program with others."""
    print(f"trained alone: {', '.join(str(run.spec.number) for run in runs)}; {why}")
