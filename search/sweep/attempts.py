"""What becomes of trials that began: an attempt at one ends it, or it waits for another."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

from search.errors import StrandedError, UsageError
from search.layout import OUTCOME
from search.records import FailureKind, Outcome, Params, Retried, TrialSpec
from search.sweep.executor import Words
from search.sweep.failures import Failures
from search.sweep.journal import outcome_on_disk
from search.sweep.judging import Judge
from search.sweep.packing import Packer
from search.sweep.study import Study

_UNHEARD = (FailureKind.LOST_WORKER, FailureKind.PREEMPTED, FailureKind.HANG, FailureKind.TIMEOUT)
"""Failures of workers that may have left an Outcome which nobody heard."""
_OF_A_WORKER = (*_UNHEARD, FailureKind.OUT_OF_MEMORY)
"""Failures that strike all trials of a worker, whosever fault it was."""


class Attempts:
    """Ends trials, or lets them wait to be tried again where their failure's budget allows for that."""

    def __init__(
        self,
        study: Study,
        judge: Judge,
        failures: Failures,
        packer: Packer,
        make_spec: Callable[[int, Params], TrialSpec],
    ) -> None:
        self._study, self._judge, self._failures = study, judge, failures
        self._packer, self._make_spec = packer, make_spec
        self._alone: set[int] = set()
        """Trials whose cohort failed as a whole: perhaps for their sake."""
        self.broken: str | None = None
        """Why the search should give up, if it should."""
        self.no_room: str | None = None
        """What a worker could not write for want of room, if one could not."""

    def wait(self, number: int) -> None:
        """Let a trial wait for a worker that was begun before."""
        trial = self._failures.eased(self._spec(number))
        self._packer.again(trial, alone=number in self._alone)

    def stranded(self, number: int) -> str | None:
        """Return why a trial cannot go on, if it cannot."""
        try:
            self._spec(number)
        except StrandedError as error:
            return str(error)
        return None

    def finish(self, outcome: Outcome, cohort: int = 1) -> None:
        """Record how a trial ended, or have it tried again.

        What struck a whole `cohort` of so many trials is no failure of its own: it is tried again alone.
        """
        number, failure, folder = outcome.number, outcome.failure, self._study.directory(outcome.number)
        left = None if failure is None else outcome_on_disk(folder)
        if failure is not None and left is not None and (failure.kind in _UNHEARD or left.failure is None):
            outcome, failure = left, left.failure  # it had ended, though its cohort may have failed after that
            cohort = cohort if failure is not None and failure.kind in _OF_A_WORKER else 1
        if failure is not None and failure.kind is FailureKind.DISK_FULL:
            self.no_room = f"trial {number}: {failure.message}"  # it has not ended: it goes on with the next search
            return
        if failure is not None and (cohort > 1 or self._failures.may_retry(number, failure)):
            (folder / OUTCOME).unlink(missing_ok=True)  # or the next driver would take it as the last
            retried = Retried(number=number, failure=failure, time=outcome.time, cohort=cohort)
            self._study.record(retried)
            self.count(retried)
            self.wait(number)
            return
        self.end(outcome)
        self.broken = self._failures.ended(outcome) or self.broken

    def end(self, outcome: Outcome) -> None:
        """Record how a trial ended, whatever the budget of its failure."""
        if outcome.steps == 0:  # a failed trial does not know how far it came
            outcome = dataclasses.replace(outcome, steps=self._study.last_step.get(outcome.number, 0))
        self._study.record(outcome)
        self._judge.ended(outcome)

    def count(self, retried: Retried) -> None:
        """Take in an attempt that failed, now or when an earlier driver heard of it."""
        number, failure = retried.number, retried.failure
        if retried.cohort == 1:
            self._failures.count(number, failure)
            return
        if failure.kind is not FailureKind.PREEMPTED:
            self._alone.add(number)
        if failure.kind is FailureKind.OUT_OF_MEMORY:
            # One that ended long ago may be of a composition that is gone, and so is its shape.
            with contextlib.suppress(UsageError):
                self._packer.no_room(self._spec(number), retried.cohort)

    def _spec(self, number: int) -> TrialSpec:
        return self._make_spec(number, self._study.params[number])


def num_struck(outcome: Outcome, words: Words, size: int) -> int:
    """Return how many trials an end struck, of a cohort of that size that said these words: all, or this one.

    All of them where they failed by their worker, or by an exception that is nobody's.
    """
    failure = outcome.failure
    if failure is None or size == 1:
        return 1
    alike = all(isinstance(said, Outcome) and said.failure == failure for said in words)
    return size if failure.kind in _OF_A_WORKER or (failure.kind is FailureKind.EXCEPTION and alike) else 1
