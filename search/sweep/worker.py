"""What runs in a worker's process: work, what it says, and where what it prints goes. Ray makes an actor of it."""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from search.layout import LOG
from search.memory import GIB, resident_memory
from search.records import (
    CheckSpec,
    Decision,
    Outcome,
    Paused,
    Report,
    TrialSpec,
    Work,
    event_from_json,
    event_to_json,
)
from search.sweep.executor import Abandoned, Conversation, Run, Said, carried_out
from search.sweep.line import Line, call

_WELL, _WORN = b"+", b"-"


def unpacked(answer: bytes) -> tuple[Said, bool]:
    """Return what a worker said, and whether it should be replaced."""
    said = event_from_json(answer[len(_WELL) :].decode())
    assert isinstance(said, Report | Paused | Outcome)
    return said, answer.startswith(_WORN)


class Worker:
    """Lives in a process of its own and does one piece of work at a time."""

    def __init__(
        self,
        make_run: str,
        equipment: Any,
        path: list[str],
        recycle_trials: int | None,
        recycle_growth: float | None,
    ) -> None:
        sys.path[:0] = [entry for entry in path if entry not in sys.path]
        module, _, name = make_run.partition(":")
        self._run: Run = getattr(importlib.import_module(module), name)(equipment)
        self._recycle_trials, self._recycle_growth = recycle_trials, recycle_growth
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._conversation: Conversation | None = None
        self._line: Line | None = None
        self._done = 0
        self._first_memory = 0

    def ready(self, address: str | None, caller: str) -> None:
        """Answer once the worker is equipped; opens a line to the driver at `address` if it is on this machine."""
        self._line = None if address is None else call(address, caller)

    def start(self, work: Work) -> bytes:
        """Begin the work; return what comes through Ray next, behind whether the worker should be replaced then.

        That is the work's last word where there is a line, else the first thing that it says. As bytes, because Ray
        takes a tenth of a millisecond to pickle a record.
        """
        if self._line is not None:
            try:
                return self._packed(carried_out(self._with_log, work, self._line.ask))
            except Abandoned:
                os._exit(0)  # no worker survives its driver
        self._conversation = Conversation(self._with_log, work, self._said.put)
        return self._packed(self._said.get())

    def resume(self, decision: bytes) -> bytes:
        """Answer a report; return as `start` does."""
        answer = event_from_json(decision.decode())
        assert self._conversation is not None
        assert isinstance(answer, Decision)
        self._conversation.answer(answer)
        return self._packed(self._said.get())

    def _packed(self, said: Said) -> bytes:
        worn = not isinstance(said, Report) and self._worn()
        return (_WORN if worn else _WELL) + event_to_json(said).encode()

    def _worn(self) -> bool:
        """Count a finished piece of work; tell whether the process did enough of them or holds on to memory."""
        self._done += 1
        if self._done == self._recycle_trials:
            return True
        if self._recycle_growth is None:
            return False
        memory = resident_memory()
        self._first_memory = self._first_memory or memory
        return memory - self._first_memory > self._recycle_growth * GIB

    def _with_log(self, work: Work, report: Callable[[Report], Decision]) -> Paused | Outcome:
        if not isinstance(work, TrialSpec | CheckSpec):
            return self._run(work, report)
        with _output_to(Path(work.directory) / LOG):
            last = carried_out(self._run, work, report)  # sys.exit in user code leaves its traceback there, too
            if isinstance(last, Outcome) and last.failure is not None:
                print(last.failure.traceback, file=sys.stderr)
        return last


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send what the process prints, C libraries included, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = [os.dup(1), os.dup(2)]
    with path.open("ab", buffering=0) as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
        finally:
            for stream, original in zip((sys.stdout, sys.stderr), saved, strict=True):
                with contextlib.suppress(OSError):  # a full disk
                    stream.flush()
                os.dup2(original, 1 if stream is sys.stdout else 2)
                os.close(original)
