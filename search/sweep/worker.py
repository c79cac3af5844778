"""What runs in a worker's process: work, what it says, and where what it prints goes. Ray makes an actor of it."""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.layout import LOG
from search.memory import GIB, resident_memory
from search.records import CheckSpec, CohortSpec, MeasureSpec, Outcome, TrialSpec, Work
from search.sweep.executor import (
    Abandoned,
    Answer,
    Conversation,
    LastWord,
    Run,
    Talk,
    Words,
    carried_out,
    is_over,
)
from search.sweep.line import Line, call
from search.sweep.wire import answer_from_bytes, words_from_bytes, words_to_bytes

_WELL, _WORN = b"+", b"-"


def unpacked(heard: bytes) -> tuple[Words, bool]:
    """Return what a worker said, and whether it should be replaced."""
    return words_from_bytes(heard[len(_WELL) :]), heard.startswith(_WORN)


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
        self._said: queue.SimpleQueue[Words] = queue.SimpleQueue()
        self._conversation: Conversation | None = None
        self._line: Line | None = None
        self._done = 0
        self._first_memory = 0

    def ready(self, address: str | None, caller: str) -> None:
        """Answer once the worker is equipped; opens a line to the driver at `address` if it is on this machine."""
        self._line = None if address is None else call(address, caller)

    def start(self, work: Work) -> bytes:
        """Begin the work; return what comes through Ray next, behind whether the worker should be replaced then.

        Those are the work's last words where there is a line, else the first. As bytes, because Ray takes a tenth of
        a millisecond to pickle a record.
        """
        if self._line is not None:
            try:
                return self._packed(carried_out(self._with_log, work, Talk(work, self._line.ask)))
            except Abandoned:
                os._exit(0)  # no worker survives its driver
        self._conversation = Conversation(self._with_log, work, self._said.put)
        return self._packed(self._said.get())

    def resume(self, answer: bytes) -> bytes:
        """Answer the work's reports; return as `start` does."""
        assert self._conversation is not None
        self._conversation.answer(answer_from_bytes(answer))
        return self._packed(self._said.get())

    def _packed(self, words: Words) -> bytes:
        return (_WORN if is_over(words) and self._worn() else _WELL) + words_to_bytes(words)

    def _worn(self) -> bool:
        """Tell whether the process did enough trials or holds on to memory."""
        if self._recycle_trials is not None and self._done >= self._recycle_trials:
            return True
        if self._recycle_growth is None:
            return False
        memory = resident_memory()
        self._first_memory = self._first_memory or memory
        return memory - self._first_memory > self._recycle_growth * GIB

    def _with_log(self, work: Work, talk: Talk) -> LastWord | tuple[LastWord, ...]:
        if not isinstance(work, TrialSpec | CheckSpec | CohortSpec | MeasureSpec):
            self._done += 1
            return self._run(work, talk)
        logs = _Logs(work)
        with _output_to(logs.path):
            last = carried_out(self._run, work, logs.following(talk) if isinstance(work, CohortSpec) else talk)
        logs.say_failures(last)  # sys.exit in user code leaves its traceback there, too
        self._done += len(logs)
        return last


class _Logs:
    """The logs of the trials of a piece of work; what is printed goes to that of the first."""

    def __init__(self, work: TrialSpec | CheckSpec | CohortSpec | MeasureSpec) -> None:
        self._work = work
        self.path = Path(work.directory) / LOG
        self._paths = {work.number: self.path}
        if isinstance(work, CohortSpec):
            self._take_in(work.trials[1:])

    def __len__(self) -> int:
        """Return how many trials the work was on so far."""
        return len(self._paths)

    def following(self, talk: Talk) -> Talk:
        """Return a way to talk by which the logs come to know of who joins and who fails."""

        def ask(words: Words) -> Answer:
            self.say_failures(words)
            answer = talk.exchange(words)
            self._take_in(answer.joining)
            return answer

        return Talk(self._work, ask)

    def say_failures(self, words: Words) -> None:
        """Write the traceback of each trial that failed to its own log."""
        for said in words:
            if isinstance(said, Outcome) and said.failure is not None:
                _append(self._paths.get(said.number, self.path), said.failure.traceback)

    def _take_in(self, trials: tuple[TrialSpec, ...]) -> None:
        for trial in trials:
            self._paths[trial.number] = Path(trial.directory) / LOG
            about = f"trained beside trial {self._work.number}: what they print is in {self.path}"
            _append(self._paths[trial.number], about)


def _append(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            print(text, file=file)


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
