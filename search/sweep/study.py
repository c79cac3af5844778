"""The record of a search while it runs: the journal on disk, and a copy in memory for samplers and pruners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from search.errors import UsageError
from search.records import Decision, Event, Measured, Outcome, Params, Paused, Report, Started, TrialState, Verdict
from search.space import Space
from search.sweep.history import History
from search.sweep.identity import Identity, differences, require_same
from search.sweep.journal import EVENTS, OPTUNA, Journal, trial_folder

IDENTITY = "identity"
"""Under this name the study stores what it is a study of."""
COMPOSED = "composed_from"
"""Under this name it stores the first trial of its present composition; those before may be of an earlier one."""
COMPARABLE = "comparable_from"
_VALUE_KEYS = ("data", "split", "metric")
"""First words of the identity's keys without which two trials' values cannot be compared."""


@dataclass
class Progress:
    """How far a search is."""

    states: Counter[TrialState] = field(default_factory=Counter)
    best: Outcome | None = None
    since_best: int = 0
    """Finished trials in a row without a better one."""

    @property
    def finished(self) -> int:
        """Number of trials that ended, whatever way."""
        return sum(self.states.values())

    def add(self, outcome: Outcome, *, maximize: bool, comparable: bool = True) -> None:
        """Count a finished trial; only one with a comparable value can be the best."""
        self.states[outcome.state] += 1
        self.since_best += 1
        if not comparable or outcome.value is None or outcome.state is TrialState.FAILED:
            return
        best = self.best.value if self.best else None
        if best is None or (outcome.value > best if maximize else outcome.value < best):
            self.best, self.since_best = outcome, 0


class Watcher(Protocol):
    """Sees every event after it was stored."""

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        """Take an event; `position` is the event log's length behind it."""
        ...


class Study:
    """Trials by number, their parameters, last reported step, last decision and outcome."""

    def __init__(
        self,
        journal: Journal,
        space: Space,
        identity: Identity,
        *,
        maximize: bool,
        history: History | None = None,
        extend: bool = False,
    ) -> None:
        """Take an open journal.

        `history` is kept up to date for samplers and pruners that need one. Raises UsageError where the journal's
        trials are of something else than `identity`, unless `extend` allows for that.
        """
        self.journal = journal
        self.maximize = maximize
        self.progress = Progress()
        self.params: list[Params] = []
        """Those of every trial that has a number."""
        self.waiting: dict[int, None] = {}
        """Trials that have a number and were never begun, in order: later ones were packed with others that ran."""
        self.outcomes: dict[int, Outcome] = {}
        self.last_step: dict[int, int] = {}
        self.decided: dict[int, Decision] = {}
        """The last decision that was recorded, by trial: most reports are answered with "go on", which is not."""
        self.paused: dict[int, Paused] = {}
        self.watchers: list[Watcher] = []
        """Who is told of what is recorded from now on."""
        self.history = history
        self._space, self._shown = space, {d.path for d in space.dimensions}
        self._distributions = {d.name: d.distribution() for d in space.dimensions}
        self._check_identity(identity, extend=extend)
        journal.require_directions()
        self.comparable_from = int(journal.attributes.get(COMPARABLE, 0))
        """The first trial whose value can be compared with new ones: the study may have got other data since."""
        self.composed_from = int(journal.attributes.get(COMPOSED, 0))

    def _check_identity(self, identity: Identity, *, extend: bool) -> None:
        """Refuse to mix trials of two kinds in one study; one without trials may become anything."""
        journal = self.journal
        stored = journal.attributes.get(IDENTITY)
        if journal.num_trials and not extend:
            require_same(stored, identity, journal.folder)
        elif stored != identity:
            if journal.num_trials and any(map(_about_values, differences(stored or {}, identity))):
                journal.set_attribute(COMPARABLE, journal.num_trials)
            if journal.num_trials:
                journal.set_attribute(COMPOSED, journal.num_trials)
            journal.set_attribute(IDENTITY, dict(identity))

    @property
    def num_begun(self) -> int:
        """How many trials have begun."""
        return len(self.params) - len(self.waiting)

    def create(self, params: Params, *, begun: bool = True) -> int:
        """Add a trial, on disk and in memory, that runs or waits; return its number."""
        number = self.journal.create(params, self._distributions, begun=begun)
        self._remember(params, begun=begun)
        return number

    def begin(self, number: int) -> None:
        """Let a trial run that waits."""
        self.journal.begin(number)
        del self.waiting[number]

    def record(self, event: Event) -> int:
        """Store an event, on disk and in memory, and tell the watchers; return the log's length."""
        position = self.journal.append(event)
        self.replay(event)
        for watcher in self.watchers:
            watcher(event, position, self.progress)
        return position

    def replay(self, event: Event) -> None:
        """Take a stored event into memory."""
        if isinstance(event, Started):
            self.paused.pop(event.number, None)
        elif isinstance(event, Report):
            self.last_step[event.number] = event.step
            if self.history is not None:
                self.history.report(event)
        elif isinstance(event, Decision):
            self.decided[event.number] = event
        elif isinstance(event, Paused):
            self.paused[event.number] = event
        elif isinstance(event, Outcome) and event.number not in self.outcomes:
            self.waiting.pop(event.number, None)
            self.outcomes[event.number] = event
            self.progress.add(event, maximize=self.maximize, comparable=event.number >= self.comparable_from)
            for forgotten in (self.last_step, self.decided, self.paused):
                forgotten.pop(event.number, None)
            if self.history is not None:
                self.history.tell(event)

    def rests(self, number: int) -> bool:
        """Tell whether a trial is paused because the pruner said so."""
        decided = self.decided.get(number)
        return decided is not None and decided.verdict is Verdict.PAUSE and number in self.paused

    def restore(self, draw_again: Callable[[int, Sequence[Params]], Params | None] = lambda *_: None) -> None:
        """Take the trials that the disk has, in order; tell Optuna's journal of what it missed.

        `draw_again` returns the parameters of a trial that never began, of which nothing is left, from its number and
        those of all others; None where it cannot. Raises UsageError where more is missing than a power failure can
        take.
        """
        for trial in self.journal.trials():
            self._remember(trial.params, begun=trial.state is not TrialState.WAITING)
        self._create_again(draw_again)
        for event, _ in self.journal.events():
            if isinstance(event, Started) and event.number in self.waiting:
                self.begin(event.number)
            if isinstance(event, Outcome):
                self.journal.set_state(event)

    def directory(self, number: int) -> Path:
        """Return the folder of a trial."""
        return trial_folder(self.journal.folder, number)

    def unfinished(self) -> list[int]:
        """Return the numbers of the trials that began and have no outcome."""
        return [n for n in range(len(self.params)) if n not in self.outcomes and n not in self.waiting]

    def _create_again(self, draw_again: Callable[[int, Sequence[Params]], Params | None]) -> None:
        """Create the trials of which Optuna's journal lost the end of its file."""
        there, lost = len(self.params), dict[int, Params]()
        for event, _ in self.journal.events():
            if event.number < there or event.number in lost or isinstance(event, Measured):
                continue
            if not isinstance(event, Started):
                raise self._lacking(event.number)
            lost[event.number] = self._space.complete({k: v for k, v in event.params.items() if k in self._shown})
        for number in range(there, max(lost, default=-1) + 1):
            begun = number in lost
            params = lost[number] if begun else draw_again(number, [*self.params, *lost.values()])
            if params is None:
                raise self._lacking(number)
            lost.pop(number, None)  # it is among `params` from now on
            self.create(params, begun=begun)

    def _lacking(self, number: int) -> UsageError:
        where = self.journal.folder / OPTUNA
        return UsageError(f"{where}: lacks trial {number}, which {EVENTS} has; put both back from a copy")

    def _remember(self, params: Params, *, begun: bool) -> None:
        if not begun:
            self.waiting[len(self.params)] = None
        if self.history is not None and len(self.params) >= self.comparable_from:
            self.history.create(len(self.params), params, self._distributions)
        self.params.append(params)


def _about_values(key: str) -> bool:
    return key.partition(".")[0] in _VALUE_KEYS
