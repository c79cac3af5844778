"""A search while it runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from search.records import Event, Outcome, Started, TrialState
from search.sweep.study import Progress

_LINE_SECONDS = 5.0


class ProgressDisplay:
    """Watches a search; use it as a context."""

    def __init__(self, console: Console, budget: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._budget, self._clock = console, budget, clock
        self._began = self._last_line = clock()
        self._running: set[int] = set()
        self._ended_here = 0
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

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        """Show an event."""
        if isinstance(event, Started):
            self._running.add(event.number)
        elif isinstance(event, Outcome):
            self._running.discard(event.number)
            self._ended_here += 1
            self._show_failure(event)
        self._refresh(progress, last=progress.finished == self._budget)

    def _show_failure(self, outcome: Outcome) -> None:
        if outcome.state is TrialState.FAILED:
            self._console.print(f"trial {outcome.number} failed: {outcome.reason}", style="red", markup=False)

    def _refresh(self, progress: Progress, *, last: bool) -> None:
        now = self._clock()
        if self._live:
            self._live.update(Text(self._line(progress, now)), refresh=True)
        elif last or now - self._last_line >= _LINE_SECONDS:
            self._console.print(self._line(progress, now), markup=False, highlight=False)
            self._last_line = now

    def _line(self, progress: Progress, now: float) -> str:
        states = progress.states
        parts = [f"{progress.finished}/{self._budget} trials", f"{len(self._running)} running"]
        parts += [f"{states[state]} {state}" for state in (TrialState.PRUNED, TrialState.FAILED) if states[state]]
        if progress.best is not None and progress.best.value is not None:
            parts.append(f"best {progress.best.value:.4f} (trial {progress.best.number})")
        rate = self._ended_here / max(now - self._began, 1e-9)
        if self._ended_here:
            parts.append(f"{rate:.2f} trials/s")
            parts.append(f"{(self._budget - progress.finished) / rate:.0f} s left")
        return " · ".join(parts)
