"""A study as it stands on disk, to be looked at: in a notebook, or while another process goes on with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from search.errors import UsageError
from search.records import FailureKind, Outcome, Params, Report, TrialState
from search.sweep.journal import (
    StoredTrial,
    holds_study,
    load_optuna,
    read_attributes,
    read_events,
    read_trials,
    trial_folder,
)
from search.sweep.study import COMPARABLE, IDENTITY

if TYPE_CHECKING:
    import optuna
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class ReadTrial:
    """A trial: what it was, how it went, and its folder. `curve` has the figures of each report, by step.

    `diagnosis` names what ails it, in words out of a fixed vocabulary; it is empty for a healthy one.
    """

    number: int
    state: TrialState
    params: Params
    value: float | None = None
    values: tuple[float, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    reason: str = ""
    failure: FailureKind | None = None
    diagnosis: str = ""
    curve: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    directory: Path


@dataclass(frozen=True, kw_only=True)
class ReadStudy:
    """A study's trials by number.

    Those before `comparable_from` had other data: their values cannot be compared. Where there are several objectives,
    trials have `values`, and `optuna().best_trials` are those that no other is better than.
    """

    folder: Path
    metric: str
    maximize: bool
    trials: tuple[ReadTrial, ...]
    comparable_from: int = 0

    @cached_property
    def best_trial(self) -> ReadTrial:
        """The best one, an earlier one before a later one of equal value; raises ValueError where there is none."""
        ended = [t for t in self.trials[self.comparable_from :] if t.value is not None and t.failure is None]
        if not ended:
            several = (
                "; there are several objectives: see optuna().best_trials" if any(t.values for t in self.trials) else ""
            )
            raise ValueError(f"{self.folder}: no trial has a value{several}")
        sign = -1.0 if self.maximize else 1.0
        return min(ended, key=lambda t: (sign * (t.value or 0.0), t.number))

    @property
    def best_value(self) -> float:
        """The best trial's value."""
        assert self.best_trial.value is not None
        return self.best_trial.value

    @property
    def best_params(self) -> Params:
        """The best trial's parameters."""
        return self.best_trial.params

    def frame(self) -> pd.DataFrame:
        """Return a table with a row a trial."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "number": t.number,
                    "state": str(t.state),
                    self.metric: t.value,
                    **t.params,
                    "seconds": t.seconds,
                    "diagnosis": t.diagnosis,
                }
                for t in self.trials
            ]
        )

    def optuna(self) -> optuna.Study:
        """Return it as Optuna knows it, e.g. for its importances and figures."""
        return load_optuna(self.folder)


def read_study(folder: str | Path) -> ReadStudy:
    """Read the study in a folder; opens nothing for writing.

    Raises UsageError where there is none.
    """
    folder = Path(folder)
    if not holds_study(folder):
        raise UsageError(f"{folder}: holds no study")
    attributes = read_attributes(folder)
    outcomes: dict[int, Outcome] = {}
    curves: dict[int, dict[int, Mapping[str, float]]] = {}
    for event, _ in read_events(folder):
        if isinstance(event, Outcome):
            outcomes.setdefault(event.number, event)
        elif isinstance(event, Report):
            curves.setdefault(event.number, {})[event.step] = event.metrics
    return ReadStudy(
        folder=folder,
        metric=str(attributes.get(IDENTITY, {}).get("metric", "objective")),
        maximize=load_optuna(folder).directions[0].name == "MAXIMIZE",
        trials=tuple(
            _trial(folder, trial, outcomes.get(trial.number), curves.get(trial.number, {}))
            for trial in read_trials(folder)
        ),
        comparable_from=int(attributes.get(COMPARABLE, 0)),
    )


def _trial(
    folder: Path, stored: StoredTrial, outcome: Outcome | None, curve: Mapping[int, Mapping[str, float]]
) -> ReadTrial:
    number, params = stored.number, stored.params
    directory = trial_folder(folder, number)
    if outcome is None:
        state = TrialState.WAITING if stored.state is TrialState.WAITING else TrialState.RUNNING
        return ReadTrial(number=number, state=state, params=params, curve=curve, directory=directory)
    return ReadTrial(
        number=number,
        state=outcome.state,
        params=params,
        value=outcome.value,
        values=outcome.values,
        metrics=outcome.metrics,
        steps=outcome.steps,
        seconds=outcome.seconds,
        reason=outcome.reason,
        failure=outcome.failure.kind if outcome.failure else None,
        diagnosis=outcome.diagnosis,
        curve=curve,
        directory=directory,
    )
