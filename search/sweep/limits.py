"""What ends a search: its trials, its hours and its patience."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from search.records import Decision, Event, Measured, Outcome, Started, Verdict
from search.sweep.study import Study

_HOURS, _PATIENCE = "budget.hours", "budget.patience"
NOT_FOR_MORE = (_HOURS, _PATIENCE)
"""Limits at which a cohort ends with those who are in it."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Totals of the study after which no more trials are asked for."""

    trials: int
    seconds: float | None = None
    patience: int | None = None


class Hours:
    """The time that a study was searched, by earlier drivers and by this one."""

    def __init__(self, study: Study, seconds: float | None, clock: Callable[[], float]) -> None:
        """There are so many `seconds`, or no end of them."""
        self._study, self._seconds, self._clock = study, seconds, clock
        self._before = 0.0
        self._last: float | None = None
        self._began: float | None = None

    def replay(self, event: Event) -> None:
        """Count the time up to a stored event, which the study has not taken in yet."""
        if self._last is None or self._may_begin(event):
            self._last = event.time
        since = max(0.0, event.time - self._last)
        # Before a measurement nothing else may have run.
        self._before += min(since, event.seconds) if isinstance(event, Measured) else since
        self._last = max(self._last, event.time)  # a cohort says many things at once, in no order of time

    def last_heard(self) -> float:
        """Return when the study was last heard of before this driver; now, where it never was."""
        return self._clock() if self._last is None else self._last

    def begin(self) -> None:
        """Count from now on."""
        self._began = self._clock()

    def are_spent(self) -> bool:
        """Tell whether there is no time left."""
        here = 0.0 if self._began is None else self._clock() - self._began
        return self._seconds is not None and self._before + here >= self._seconds

    def _may_begin(self, event: Event) -> bool:
        """Tell whether the event may be the first that a driver recorded: nothing ran in the time before it."""
        if isinstance(event, Decision):
            return event.verdict is Verdict.GO_ON
        return isinstance(event, Started) or (isinstance(event, Outcome) and event.number in self._study.paused)


class Limits:
    """How far a study is from what ends its search."""

    def __init__(self, study: Study, budget: Budget, hours: Hours, size: int | None) -> None:
        """`size` is how many trials the sampler has, if it has an end."""
        self._study, self._budget, self._hours = study, budget, hours
        self.total = budget.trials if size is None else min(budget.trials, size)
        """How many trials the study is to have."""

    def reached(self) -> str | None:
        """Return the key of the limit that ends the search, or None while it may ask for trials."""
        if self._hours.are_spent():
            return _HOURS
        patience = self._budget.patience
        if patience is not None and self._study.progress.since_best >= patience:
            return _PATIENCE
        if self._study.num_begun >= self.total:
            return "budget.trials" if self.total == self._budget.trials else "sampler"
        return None

    def remaining(self) -> int:
        """Return how many trials are still to be finished; once a limit is reached, those that have begun."""
        expected = self.total if self.reached() is None else self._study.num_begun
        return expected - self._study.progress.finished
