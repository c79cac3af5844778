"""Where work runs: a fixed number of slots, each with one piece of work that talks to the driver.

Work stops at each report until it is told how to go on, so one round trip is all that a report costs and every
report is followed by its decision. The events of a trial are reports in order, then one last word: an Outcome,
or Paused where it was told to leave its worker. A cohort says in one go what all of its trials have to say.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
import traceback as tracebacks
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from search.files import no_room
from search.records import (
    CohortSpec,
    Decision,
    FailureKind,
    Measured,
    MeasureSpec,
    Outcome,
    Paused,
    Report,
    TrialSpec,
    Work,
    failed,
)
from search.traces import told, user_traceback

LastWord = Paused | Outcome | Measured
Said = Report | LastWord
"""What work says of one trial: reports in order, then once Paused or an Outcome. A measurement is told at once."""

Words = tuple[Said, ...]
"""What work says at once; with no report among it, the work is over."""

Happening = tuple[int, Words]
"""(slot, what its work said)."""


@dataclass(frozen=True)
class Answer:
    """What work is told: a decision on each report, in their order, and the trials that join it."""

    decisions: tuple[Decision, ...]
    joining: tuple[TrialSpec, ...] = ()


class Open:
    """The trials of a piece of work that have not said their last word; any other work is one."""

    def __init__(self, work: Work) -> None:
        self._work = work
        trials = work.trials if isinstance(work, CohortSpec) else (work,)
        self.numbers = {trial.number: None for trial in trials}
        """Their numbers, in the order in which they came."""

    def heard(self, words: Words) -> None:
        """Take in who said its last word."""
        for said in words:
            if not isinstance(said, Report):
                self.numbers.pop(said.number, None)

    def joined(self, trials: tuple[TrialSpec, ...]) -> None:
        """Take in who joined."""
        self.numbers.update((trial.number, None) for trial in trials)

    def failed(
        self, kind: FailureKind, message: str, *, time: float, traceback: str = "", seconds: float = 0.0
    ) -> tuple[Outcome | Measured, ...]:
        """Return the last words of all, where the work failed as a whole; who cannot be measured is trained alone."""
        if isinstance(work := self._work, MeasureSpec):
            size = 1 if kind in (FailureKind.EXCEPTION, FailureKind.OUT_OF_MEMORY) else 0
            found = Measured(
                number=work.number, shape=work.shape, rates={}, size=size, reason=message, seconds=seconds, time=time
            )
            return (found,)
        return tuple(
            failed(number, kind, message, time=time, traceback=traceback, seconds=seconds) for number in self.numbers
        )


class Talk:
    """A piece of work's end of its conversation with the driver: called with a report, it returns the decision."""

    def __init__(self, work: Work, ask: Callable[[Words], Answer]) -> None:
        """`ask` carries words to the driver and returns its answer."""
        self._ask = ask
        self.open = Open(work)

    def __call__(self, report: Report) -> Decision:
        """Send a single trial's report."""
        return self._ask((report,)).decisions[0]

    def exchange(self, words: Words) -> Answer:
        """Send what the trials of a cohort say at once, with at least one report among it."""
        answer = self._ask(words)
        self.open.heard(words)
        self.open.joined(answer.joining)
        return answer


Run = Callable[[Work, Talk], LastWord | tuple[LastWord, ...]]
"""Does a piece of work, talking at each report; returns the last words of all that are still open."""


class Executor(ABC):
    """Slots for work. One becomes free with its work's last words; where a worker is lost, once it is replaced."""

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
    def resume(self, slot: int, answer: Answer) -> None:
        """Answer all reports that the slot's work waits at."""

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


def is_over(words: Words) -> bool:
    """Tell whether these are the last words of a piece of work."""
    return not any(isinstance(said, Report) for said in words)


def carried_out(run: Run, work: Work, talk: Talk) -> tuple[LastWord, ...]:
    """Return the last words of the work, whatever it does to end without some of them."""
    try:
        last = run(work, talk)
    except Abandoned:
        raise
    except BaseException as error:  # noqa: BLE001 - sys.exit in user code, a full disk: the driver must hear of it
        trace = user_traceback(error) or "".join(tracebacks.format_exception(error))
        kind = FailureKind.DISK_FULL if no_room(error) else FailureKind.EXCEPTION
        return talk.open.failed(kind, told(error), time=time.time(), traceback=trace)
    words = last if isinstance(last, tuple) else (last,)
    talk.open.heard(words)
    silent = talk.open.failed(FailureKind.EXCEPTION, "left without an outcome", time=time.time())
    return (*words, *silent) if talk.open.numbers else words


class Conversation:
    """Work in a thread of its own that stops at each report; what it says goes into `heard`."""

    def __init__(self, run: Run, work: Work, heard: Callable[[Words], None]) -> None:
        self._run, self._work, self._heard = run, work, heard
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._talk, name=f"work-{work.number}", daemon=True)
        self._thread.start()

    def answer(self, answer: Answer) -> None:
        """Let the work go on."""
        self._answers.put(answer)

    def abandon(self) -> None:
        """Make the work unwind at its next report."""
        self._answers.put(None)

    def _ask(self, words: Words) -> Answer:
        self._heard(words)
        answer = self._answers.get()
        if answer is None:
            raise Abandoned
        return answer

    def _talk(self) -> None:
        try:
            self._heard(carried_out(self._run, self._work, Talk(self._work, self._ask)))
        except Abandoned:
            return


class InProcessExecutor(Executor):
    """Slots in this process, a thread each: for tests and debugging (threads share torch's global generator)."""

    def __init__(self, run: Run, num_slots: int = 1) -> None:
        self._run, self._num_slots = run, num_slots
        self._free = deque(range(num_slots))
        self._happened: queue.SimpleQueue[tuple[int, int, Words]] = queue.SimpleQueue()
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
        conversation = Conversation(self._run, work, lambda words: self._happened.put((slot, key, words)))
        self._conversations[slot] = (key, conversation)
        return slot

    def resume(self, slot: int, answer: Answer) -> None:
        """Answer the thread."""
        self._conversations[slot][1].answer(answer)

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
        return [(slot, words) for slot, key, words in happened if self._heard(slot, key, words)]

    def _heard(self, slot: int, key: int, words: Words) -> bool:
        """Tell whether it was said by work that is not cancelled; free the slot after the last words."""
        if slot not in self._conversations or self._conversations[slot][0] != key:
            return False
        if is_over(words):
            del self._conversations[slot]
            self._free.append(slot)
        return True

    def close(self) -> None:
        """Abandon what still runs."""
        for _, conversation in self._conversations.values():
            conversation.abandon()
