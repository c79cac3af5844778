"""A driver's run as the user sees it: progress, and what the first Ctrl-C or SIGTERM does."""

from __future__ import annotations

from rich.console import Console

from search.apps.interrupts import asked_on_signals
from search.errors import NoRoomError
from search.reporting.progress import ProgressDisplay
from search.sweep.driver import Driver
from search.sweep.executor import Executor

_PAUSING = 0.6
"""Share of the grace after an interruption in which work may pause; the rest is for leaving."""
DELIVERING = 0.2
"""Share in which MLflow may be told the rest."""


def drive(driver: Driver, executor: Executor, console: Console, grace: float) -> None:
    """Run the driver to its end, or to why it gave up (`driver.broken`).

    Raises KeyboardInterrupt where it was interrupted, `grace` seconds later at most, and NoRoomError.
    """

    def leave() -> None:
        driver.interrupt(_PAUSING * grace)
        console.print("interrupted: what runs is paused first; once more to leave at once", style="yellow")

    display = ProgressDisplay(console, driver.total)
    driver.watchers.append(display)
    with display, asked_on_signals(leave):
        driver.run(executor)
    if driver.interrupted:
        raise KeyboardInterrupt
    if driver.no_room is not None:
        raise NoRoomError(driver.no_room)
