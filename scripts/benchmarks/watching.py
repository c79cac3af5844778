"""Progress of a measurement that takes longer than a few seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_SECONDS = 10.0
_REFRESH_SECONDS = 0.25


@contextlib.contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far something is, on a terminal in place, elsewhere as lines; yields what takes the steps done now."""
    done, told = 0, time.monotonic()
    if not console.is_terminal:
        console.print(f"{what} ...")

        def advance_lines(steps: int) -> None:
            nonlocal done, told
            done += steps
            if time.monotonic() - told >= _LINE_SECONDS:
                told = time.monotonic()
                console.print(f"{what}: {done}/{total}")

        yield advance_lines
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(what, total=total)

        def advance(steps: int) -> None:  # a thread that refreshes would run beside what is measured
            nonlocal done, told
            done += steps
            if time.monotonic() - told >= _REFRESH_SECONDS:
                told = time.monotonic()
                bar.update(task, completed=done, refresh=True)

        yield advance
