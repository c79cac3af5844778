"""Where work runs: a fixed number of slots, each with one piece of work that talks to the driver.

Work stops at each report until it is told how to go on, so one round trip is all that a report costs and every
report is followed by its decision. The events of a piece of work are reports in order, then one last word: an Outcome,
or Paused where it was told to leave its worker.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from search.files import no_room
from search.records import Decision, FailureKind, Outcome, Paused, Report, Work, failed
from search.traces import told, user_traceback

Said = Report | Paused | Outcome
"""What work says: reports in order, then once Paused or an Outcome."""

Run = Callable[[Work, Callable[[Report], Decision]], Paused | Outcome]
"""Does a piece of work, calling back at each report."""

Happening = tuple[int, Said]
"""(slot, what its work said)."""


class Executor(ABC):
    """Slots for work. One becomes free with its work's last word; where a worker is lost, once it is replaced."""

    @property
    @abstractmethod
    def num_slots(self) -> int:
        """How many pieces of work can run at the same time, all being well."""

    @property
    @abstractmethod
    def num_free(self) -> int:
        """How many pieces of work can start now."""

    @abstractmethod
    def start(self, work: Work) -> int:
        """Begin work in a free slot; return the slot. There must be one."""

    @abstractmethod
    def resume(self, slot: int, decision: Decision) -> None:
        """Answer the report that the slot's work waits at."""

    @abstractmethod
    def cancel(self, slot: int) -> None:
        """End the slot's work by force; nothing more is heard of it."""

    @abstractmethod
    def wait(self, timeout: float) -> list[Happening]:
        """Return what happened, waiting for it up to `timeout` seconds; empty where nothing did, or a slot is free."""

    @abstractmethod
    def close(self) -> None:
        """End everything that still runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Abandoned(BaseException):
    """Unwinds work whose conversation was ended."""


def carried_out(run: Run, work: Work, report: Callable[[Report], Decision]) -> Paused | Outcome:
    """Return the last word of the work, whatever it does to end without one."""
    try:
        return run(work, report)
    except Abandoned:
        raise
    except BaseException as error:  # noqa: BLE001 - sys.exit in user code, a full disk: the driver must hear of it
        trace = user_traceback(error) or "".join(traceback.format_exception(error))
        kind = FailureKind.DISK_FULL if no_room(error) else FailureKind.EXCEPTION
        return failed(work.number, kind, told(error), time=time.time(), traceback=trace)


class Conversation:
    """Work in a thread of its own that stops at each report; what it says goes into `heard`."""

    def __init__(self, run: Run, work: Work, heard: Callable[[Said], None]) -> None:
        self._run, self._work, self._heard = run, work, heard
        self._answers: queue.SimpleQueue[Decision | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._talk, name=f"work-{work.number}", daemon=True)
        self._thread.start()

    def answer(self, decision: Decision) -> None:
        """Let the work go on."""
        self._answers.put(decision)

    def abandon(self) -> None:
        """Make the work unwind at its next report."""
        self._answers.put(None)

    def _report(self, report: Report) -> Decision:
        self._heard(report)
        decision = self._answers.get()
        if decision is None:
            raise Abandoned
        return decision

    def _talk(self) -> None:
        try:
            self._heard(carried_out(self._run, self._work, self._report))
        except Abandoned:
            return


class InProcessExecutor(Executor):
    """Slots in this process, a thread each: for tests and debugging (threads share torch's global generator)."""

    def __init__(self, run: Run, num_slots: int = 1) -> None:
        self._run, self._num_slots = run, num_slots
        self._free = deque(range(num_slots))
        self._happened: queue.SimpleQueue[tuple[int, int, Said]] = queue.SimpleQueue()
        self._conversations: dict[int, tuple[int, Conversation]] = {}
        self._begun = itertools.count()

    @property
    def num_slots(self) -> int:
        """As given."""
        return self._num_slots

    @property
    def num_free(self) -> int:
        """Slots without a thread."""
        return len(self._free)

    def start(self, work: Work) -> int:
        """Begin work in a new thread."""
        slot, key = self._free.popleft(), next(self._begun)
        conversation = Conversation(self._run, work, lambda said: self._happened.put((slot, key, said)))
        self._conversations[slot] = (key, conversation)
        return slot

    def resume(self, slot: int, decision: Decision) -> None:
        """Answer the thread."""
        self._conversations[slot][1].answer(decision)

    def cancel(self, slot: int) -> None:
        """Leave the thread to itself: it unwinds at its next report, if it ever gets there."""
        self._conversations.pop(slot)[1].abandon()
        self._free.append(slot)

    def wait(self, timeout: float) -> list[Happening]:
        """Return one thing that happened and whatever else is there already."""
        try:
            happened = [self._happened.get(timeout=min(timeout, threading.TIMEOUT_MAX))]
        except queue.Empty:
            return []
        while not self._happened.empty():
            happened.append(self._happened.get())
        return [(slot, said) for slot, key, said in happened if self._heard(slot, key, said)]

    def _heard(self, slot: int, key: int, said: Said) -> bool:
        """Tell whether it was said by work that is not cancelled; free the slot after a last word."""
        if slot not in self._conversations or self._conversations[slot][0] != key:
            return False
        if not isinstance(said, Report):
            del self._conversations[slot]
            self._free.append(slot)
        return True

    def close(self) -> None:
        """Abandon what still runs."""
        for _, conversation in self._conversations.values():
            conversation.abandon()
