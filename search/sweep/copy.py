"""A copy of the finished trials in an Optuna storage of the user's, e.g. for its dashboard; the study stays ours."""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from search.errors import UsageError
from search.records import Event, Outcome
from search.sweep.study import Progress, Study

_NUMBER = "number"
"""Attribute of a copied trial: its own number there is the order in which trials ended."""


class StorageCopy:
    """Watches a search. A storage that is away costs nothing but a later delivery."""

    def __init__(self, address: str, name: str, maximize: Sequence[bool], study: Study) -> None:
        """Raises UsageError where the storage cannot be opened."""
        self._study = study
        try:
            self._copy = optuna.create_study(
                storage=address,
                study_name=name,
                directions=["maximize" if each else "minimize" for each in maximize],
                load_if_exists=True,
            )
            there = self._copy.get_trials(deepcopy=False)
        except Exception as error:
            raise UsageError(f"storage={address}: cannot be opened ({_one_line(error)})") from error
        self._copied = {trial.user_attrs.get(_NUMBER) for trial in there}

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        """Copy a trial that ended."""
        if isinstance(event, Outcome):
            self._deliver([event.number])

    def finish(self) -> str | None:
        """Copy what is not there yet; return why that cannot be."""
        return self._deliver(sorted(self._study.outcomes))

    def _deliver(self, numbers: Sequence[int]) -> str | None:
        try:
            for number in numbers:
                if number not in self._copied:
                    self._add(number)
        except Exception as error:  # noqa: BLE001 - whatever the database does, the search goes on
            return f"the storage lacks trials, which the same command delivers later ({_one_line(error)})"
        return None

    def _add(self, number: int) -> None:
        trial = self._study.journal.optuna_trial(number)
        trial.user_attrs = {**trial.user_attrs, _NUMBER: number}
        if trial.values is not None or trial.state is not optuna.trial.TrialState.COMPLETE:  # Optuna wants a value
            self._copy.add_trial(trial)
        self._copied.add(number)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
