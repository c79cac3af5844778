"""Work that is known beforehand and needs no decisions: predictions, students."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from search.errors import NoRoomError
from search.records import Decision, FailureKind, Outcome, Paused, Report, Verdict, Work
from search.sweep.executor import Executor
from search.sweep.failures import Failures

_POLL_SECONDS = 0.5


def run_all(
    executor: Executor, work: Sequence[Work], watch: Callable[[Report | Outcome], None], failures: Failures
) -> list[Outcome]:
    """Run each piece of work to its end; return the outcomes in the order of `work`, whose numbers are its indices.

    What fails is tried again as `failures` allows. Raises NoRoomError where a disk is full.
    """
    waiting = deque(range(len(work)))
    running: dict[int, int] = {}
    outcomes: dict[int, Outcome] = {}
    while waiting or running:
        while executor.num_free and waiting:
            index = waiting.popleft()
            running[executor.start(work[index])] = index
        for slot, said in executor.wait(_POLL_SECONDS):
            assert not isinstance(said, Paused)  # it was never told to
            watch(said)
            if isinstance(said, Report):
                executor.resume(slot, _go_on(said))
                continue
            index = running.pop(slot)
            if said.failure is not None and said.failure.kind is FailureKind.DISK_FULL:
                raise NoRoomError(said.failure.message)
            if said.failure is not None and failures.may_retry(index, said.failure):
                failures.count(index, said.failure)
                waiting.append(index)
            else:
                outcomes[index] = said
    return [outcomes[i] for i in range(len(work))]


def _go_on(report: Report) -> Decision:
    return Decision(number=report.number, step=report.step, verdict=Verdict.GO_ON, reason="", time=report.time)
