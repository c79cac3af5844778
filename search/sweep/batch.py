"""Work that is known beforehand and needs no decisions: predictions, students."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from search.errors import NoRoomError
from search.records import (
    AverageSpec,
    Decision,
    FailureKind,
    Outcome,
    Piece,
    PredictSpec,
    Report,
    Verdict,
    failed,
)
from search.sweep.executor import Answer, Executor
from search.sweep.failures import Failures
from search.sweep.vigil import Vigil

_POLL_SECONDS = 0.5


def run_all(
    executor: Executor,
    work: Sequence[Piece],
    watch: Callable[[Report | Outcome], None],
    failures: Failures,
    stopwatch: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Run each piece of work to its end; return the outcomes in the order of `work`, whose numbers are its indices.

    What fails is tried again as `failures` allows. `stopwatch` is what running work is judged by. Raises NoRoomError
    where a disk is full.
    """
    waiting = deque(range(len(work)))
    running = Vigil(failures.policy, stopwatch)
    outcomes: dict[int, Outcome] = {}
    while len(outcomes) < len(work):
        while executor.num_free and waiting:
            index = waiting.popleft()
            slot = executor.start(failures.eased(work[index]))
            running.began(slot, index, reports=not isinstance(work[index], PredictSpec | AverageSpec))
        for slot, words in executor.wait(_POLL_SECONDS):
            (said,) = words
            assert isinstance(said, Report | Outcome)  # it was never told to pause
            watch(said)
            if isinstance(said, Report):
                running.heard(slot)
                executor.resume(slot, Answer((_go_on(said),)))
            elif (outcome := _last(said, failures)) is not None:
                outcomes[running.ended(slot)] = outcome
            else:
                waiting.append(running.ended(slot))
        for slot, kind, message, seconds in running.overdue():
            executor.cancel(slot)
            index = running.ended(slot)
            if (
                outcome := _last(failed(index, kind, message, time=time.time(), seconds=seconds), failures)
            ) is not None:
                outcomes[index] = outcome
            else:
                waiting.append(index)
    return [outcomes[i] for i in range(len(work))]


def _last(outcome: Outcome, failures: Failures) -> Outcome | None:
    """Return the outcome, or None where the work is to be tried again."""
    failure = outcome.failure
    if failure is None:
        return outcome
    if failure.kind is FailureKind.DISK_FULL:
        raise NoRoomError(failure.message)
    if not failures.may_retry(outcome.number, failure):
        return outcome
    failures.count(outcome.number, failure)
    return None


def _go_on(report: Report) -> Decision:
    return Decision(number=report.number, step=report.step, verdict=Verdict.GO_ON, reason="", time=report.time)
