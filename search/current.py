"""The trial that runs in this context: what the user's code reports to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol


class Trial(Protocol):
    """A running trial as the user's code sees it."""

    @property
    def number(self) -> int:
        """Its number in the study, from 0."""
        ...

    @property
    def params(self) -> Mapping[str, bool | int | float | str | None]:
        """What was drawn for it."""
        ...

    @property
    def seed(self) -> int:
        """The seed of its own, for whatever is random in it: the same whenever the trial is run again."""
        ...

    @property
    def directory(self) -> Path:
        """A folder of its own, which is still there when a trial that was cut short begins again."""
        ...

    def report(self, step: int | None = None, **metrics: float) -> None:
        """Report figures at a step, counted from 0 or from 1 (None: one more than the last).

        Raises optuna.TrialPruned where the trial is to stop.
        """
        ...


_current: ContextVar[Trial | None] = ContextVar("trial", default=None)


def current_trial() -> Trial | None:
    """Return the trial that runs here, or None where the program runs by itself."""
    return _current.get()


def report(step: int | None = None, **metrics: float) -> None:
    """Report figures of the running trial; does nothing where the program runs by itself.

    `step` counts from 0 or from 1 (None: one more than the last). The first figure that is ever reported is the one by
    which trials are compared, unless the search names another. Raises optuna.TrialPruned where the trial is to stop.
    """
    if (trial := _current.get()) is not None:
        trial.report(step, **metrics)


@contextlib.contextmanager
def running(trial: Trial) -> Iterator[None]:
    """Make it the current trial of this context."""
    token = _current.set(trial)
    try:
        yield
    finally:
        _current.reset(token)
