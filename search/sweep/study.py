"""The record of a search while it runs: the journal on disk, and a copy in memory for samplers and pruners."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import Trial, create_trial
from optuna.trial import TrialState as OptunaState

from search.records import Decision, Event, Outcome, Params, Report, TrialState
from search.space import Space
from search.sweep.identity import Identity, require_same
from search.sweep.journal import Journal, outcome_on_disk, trial_folder

IDENTITY = "identity"
"""Under this name the study stores what it is a study of."""


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

    def add(self, outcome: Outcome, *, maximize: bool) -> None:
        """Count a finished trial."""
        self.states[outcome.state] += 1
        self.since_best += 1
        if outcome.value is None or outcome.state is TrialState.FAILED:
            return
        best = self.best.value if self.best else None
        if best is None or (outcome.value > best if maximize else outcome.value < best):
            self.best, self.since_best = outcome, 0


class Study:
    """Trials by number, their parameters, last reported step and outcome."""

    def __init__(self, journal: Journal, space: Space, identity: Identity, *, maximize: bool) -> None:
        """Take an open journal; raise UsageError where its trials are of something else than `identity`."""
        self.journal = journal
        self.maximize = maximize
        self.progress = Progress()
        self.params: list[Params] = []
        self.outcomes: dict[int, Outcome] = {}
        self.last_step: dict[int, int] = {}
        self.stopped: dict[int, Decision] = {}
        self._distributions = {d.name: d.distribution() for d in space.dimensions}
        self.history = optuna.create_study(
            storage=InMemoryStorage(),
            study_name="search",  # Optuna's Hyperband assigns brackets by this name
            pruner=optuna.pruners.NopPruner(),
            direction="maximize" if maximize else "minimize",
        )
        self._live: dict[int, Trial] = {}
        self._check_identity(identity)

    def _check_identity(self, identity: Identity) -> None:
        """Refuse to mix trials of two kinds in one study; one without trials may become anything."""
        if self.journal.num_trials:
            require_same(self.journal.attributes.get(IDENTITY), identity, self.journal.folder)
        elif self.journal.attributes.get(IDENTITY) != identity:
            self.journal.set_attribute(IDENTITY, dict(identity))

    def create(self, params: Params) -> int:
        """Add a running trial, on disk and in memory; return its number."""
        number = self.journal.create(params, self._distributions)
        self._remember(params)
        return number

    def live(self, number: int) -> Trial:
        """Return the running trial as Optuna's pruners know it."""
        return self._live[number]

    def record(self, event: Event) -> int:
        """Store an event, on disk and in memory; return the log's length."""
        position = self.journal.append(event)
        self.replay(event)
        return position

    def replay(self, event: Event) -> None:
        """Take a stored event into memory."""
        if isinstance(event, Report):
            self.last_step[event.number] = event.step
            if (live := self._live.get(event.number)) is not None:
                live.report(event.metrics["objective"], event.step)
        elif isinstance(event, Decision):
            self.stopped[event.number] = event
        elif isinstance(event, Outcome) and event.number not in self.outcomes:
            self.outcomes[event.number] = event
            self.progress.add(event, maximize=self.maximize)
            self._tell(event)

    def restore(self) -> None:
        """Take what the disk has: trials in order; outcomes that Optuna's journal or the event log has missed."""
        stored = self.journal.trials()
        for trial in stored:
            self._remember(trial.params)
        logged = {e.number: e for e, _ in self.journal.events() if isinstance(e, Outcome)}
        for trial in stored:
            if trial.state is not TrialState.RUNNING:
                continue
            if trial.number in logged:
                self.journal.set_state(logged[trial.number])
            elif left := outcome_on_disk(self.directory(trial.number)):
                self.journal.append(left)

    def directory(self, number: int) -> Path:
        """Return the folder of a trial."""
        return trial_folder(self.journal.folder, number)

    def unfinished(self) -> list[int]:
        """Return the numbers of the trials without an outcome."""
        return [n for n in range(len(self.params)) if n not in self.outcomes]

    def _remember(self, params: Params) -> None:
        self._live[len(self.params)] = self._optuna_trial(params)
        self.params.append(params)

    def _optuna_trial(self, params: Params) -> Trial:
        template = create_trial(
            state=OptunaState.RUNNING, params=dict(params), distributions={k: self._distributions[k] for k in params}
        )
        storage, study_id = self.history._storage, self.history._study_id
        return Trial(self.history, storage.create_new_trial(study_id, template_trial=template))

    def _tell(self, outcome: Outcome) -> None:
        trial = self._live.pop(outcome.number, None)
        if trial is None:
            return
        if outcome.state is TrialState.COMPLETE and outcome.value is not None:
            self.history.tell(trial, outcome.value)
        elif outcome.state is TrialState.PRUNED:
            self.history.tell(trial, state=OptunaState.PRUNED)
        else:
            self.history.tell(trial, state=OptunaState.FAIL)
