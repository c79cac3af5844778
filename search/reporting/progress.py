"""Work while it runs: a line that changes in place on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from search.records import Event, Measured, Outcome, Paused, Report, Retried, Started, TrialState
from search.sweep.study import Progress

_LINE_SECONDS = 5.0


class SteadyConsole(Console):
    """A console that goes on without output where nobody reads it any more (`search | head`)."""

    def on_broken_pipe(self) -> None:
        """Write into nothing from now on; rich would end the program."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class _Display:
    """One line; used as a context."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console, self._clock = console, clock
        self._last = clock()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def _show(self, line: str, *, now: bool = False) -> None:
        """Show the line; where lines stay, only every few seconds unless it should appear now."""
        if self._live:
            self._live.update(Text(line), refresh=True)
        elif now or self._clock() - self._last >= _LINE_SECONDS:
            self._console.print(line, markup=False, highlight=False)
            self._last = self._clock()


class ProgressDisplay(_Display):
    """Watches a search."""

    def __init__(self, console: Console, budget: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock)
        self._budget = budget
        self._began = clock()
        self._running: set[int] = set()
        self._ended_here = 0

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        """Show an event."""
        if isinstance(event, Started):
            self._running.add(event.number)
        elif isinstance(event, Paused):
            self._running.discard(event.number)
        elif isinstance(event, Retried):
            self._running.discard(event.number)
            again = "again, alone" if event.cohort > 1 else "again"
            self._console.print(
                f"trial {event.number} is tried {again}: {event.failure.message}", style="yellow", markup=False
            )
        elif isinstance(event, Measured):
            self._console.print(f"fused: {event.reason}", style="dim", markup=False, highlight=False)
        elif isinstance(event, Outcome):
            self._running.discard(event.number)
            self._ended_here += 1
            if event.state is TrialState.FAILED:
                self._console.print(f"trial {event.number} failed: {event.reason}", style="red", markup=False)
        self._show(self._line(progress), now=progress.finished == self._budget)

    def _line(self, progress: Progress) -> str:
        states = progress.states
        parts = [f"{progress.finished}/{self._budget} trials", f"{len(self._running)} running"]
        parts += [f"{states[state]} {state}" for state in (TrialState.PRUNED, TrialState.FAILED) if states[state]]
        if progress.best is not None and progress.best.value is not None:
            parts.append(f"best {progress.best.value:.4f} (trial {progress.best.number})")
        if self._ended_here:
            rate = self._ended_here / max(self._clock() - self._began, 1e-9)
            parts.append(f"{rate:.2f} trials/s")
            parts.append(f"{(self._budget - progress.finished) / rate:.0f} s left")
        return " · ".join(parts)


class TrainingsDisplay(_Display):
    """Watches trainings of several kinds, many of each."""

    def __init__(
        self, console: Console, title: str, kinds: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`kinds` says of what kind each training is."""
        super().__init__(console, clock)
        self._title, self._kinds, self._total = title, kinds, Counter(kinds)
        self._ended: set[int] = set()

    def __call__(self, said: Report | Outcome) -> None:
        """Show a report or an end."""
        if isinstance(said, Outcome):
            self._ended.add(said.number)  # once, however often it was tried
        done = Counter(self._kinds[number] for number in self._ended)
        parts = [f"{kind} {done[kind]}/{total}" for kind, total in self._total.items()]
        self._show(f"{self._title}: {' · '.join(parts)}", now=len(self._ended) == len(self._kinds))


class WorkDisplay(_Display):
    """Watches a handful of named pieces of work, e.g. two students."""

    def __init__(
        self,
        console: Console,
        title: str,
        names: Sequence[str],
        steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`steps` is the number of reports that each piece makes; 0: it makes none."""
        super().__init__(console, clock)
        self._title, self._names, self._steps = title, names, max(1, steps)
        self._done = [0] * len(names)

    def __call__(self, said: Report | Outcome) -> None:
        """Show a report or an end."""
        self._done[said.number] = said.step if isinstance(said, Report) else self._steps
        parts = [f"{name} {done}/{self._steps}" for name, done in zip(self._names, self._done, strict=True)]
        self._show(f"{self._title}: {' · '.join(parts)}")
