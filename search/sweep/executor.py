"""Where work runs: a fixed number of slots, each with one piece of work that talks to the driver.

Work stops at each report until it is told how to go on, so one round trip is all that a report costs and every
report is followed by its decision. The events of a piece of work are reports in order, then one Outcome.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

from search.records import Decision, FailureKind, Outcome, Report, Work, failed

Run = Callable[[Work, Callable[[Report], Decision]], Outcome]
"""Does a piece of work, calling back at each report; always returns an Outcome."""

Happening = tuple[int, Report | Outcome]
"""(slot, what its work said)."""


class Executor(ABC):
    """Slots for work."""

    @property
    @abstractmethod
    def num_slots(self) -> int:
        """How many pieces of work run at the same time."""

    @abstractmethod
    def start(self, slot: int, work: Work) -> None:
        """Begin work in a free slot."""

    @abstractmethod
    def resume(self, slot: int, decision: Decision) -> None:
        """Answer the report that the slot's work waits at."""

    @abstractmethod
    def wait(self, timeout: float) -> list[Happening]:
        """Return what happened, waiting for it up to `timeout` seconds; empty where nothing did."""

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


class Conversation:
    """Work in a thread of its own that stops at each report; what it says goes into `heard`."""

    def __init__(self, run: Run, work: Work, heard: Callable[[Report | Outcome], None]) -> None:
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
            outcome = self._run(self._work, self._report)
        except Abandoned:
            return
        except BaseException as error:  # noqa: BLE001 - sys.exit in user code, a full disk: the driver must hear of it
            message = f"{type(error).__name__}: {' '.join(str(error).split())}"
            trace = "".join(traceback.format_exception(error))
            number = self._work.number
            outcome = failed(number, FailureKind.EXCEPTION, message, time=time.time(), traceback=trace)
        self._heard(outcome)


class InProcessExecutor(Executor):
    """Slots in this process, a thread each: for tests and debugging (threads share torch's global generator)."""

    def __init__(self, run: Run, num_slots: int = 1) -> None:
        self._run, self._num_slots = run, num_slots
        self._happened: queue.SimpleQueue[Happening] = queue.SimpleQueue()
        self._conversations: dict[int, Conversation] = {}

    @property
    def num_slots(self) -> int:
        """As given."""
        return self._num_slots

    def start(self, slot: int, work: Work) -> None:
        """Begin work in a new thread."""
        self._conversations[slot] = Conversation(self._run, work, lambda said: self._happened.put((slot, said)))

    def resume(self, slot: int, decision: Decision) -> None:
        """Answer the thread."""
        self._conversations[slot].answer(decision)

    def wait(self, timeout: float) -> list[Happening]:
        """Return one thing that happened and whatever else is there already."""
        try:
            happened = [self._happened.get(timeout=timeout)]
        except queue.Empty:
            return []
        while not self._happened.empty():
            happened.append(self._happened.get())
        return happened

    def close(self) -> None:
        """Abandon what still runs."""
        for conversation in self._conversations.values():
            conversation.abandon()
