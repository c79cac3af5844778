"""A copy of the finished trials in an Optuna storage of the user's, e.g. for its dashboard; the study stays ours."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence

import optuna
from optuna.study import StudyDirection

from search.errors import UsageError
from search.records import Event, Outcome, Report
from search.sweep.study import Progress, Study

_NUMBER = "number"
"""Attribute of a copied trial: its own number there is the order in which trials ended."""
_UID = "uid"
"""Attribute of a copied trial, and of what it is copied to: the study that it is of. A name may be used again."""
_AGAIN_SECONDS = 30.0
_MINIMIZE, _MAXIMIZE = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE


class StorageCopy:
    """Watches a search. A storage that is away costs nothing but a later delivery."""

    def __init__(
        self,
        address: str,
        name: str,
        maximize: Sequence[bool],
        study: Study,
        *,
        key: str = "storage",
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        """`key` names the setting for errors.

        Raises UsageError where a new study's storage cannot be opened, which is a mistyped address more often than
        not, and where another one of that name has other directions. A study that has trials goes on without.
        """
        self._address, self._name, self._study, self._stopwatch = address, name, study, stopwatch
        self._directions = [_MAXIMIZE if each else _MINIMIZE for each in maximize]
        self._where = f"{key}={without_password(address)}"
        self._copy: optuna.Study | None = None
        self._copied: set[int] = set()
        self._curves: dict[int, dict[int, float]] = {}
        """What jobs reported that are not copied yet, by step."""
        for event, _ in study.journal.events():
            self._note(event)
        self._failed_at: float | None = None
        """When the storage was last away; None while it is there."""
        try:
            self._opened()
        except UsageError:
            raise
        except Exception as error:
            if not study.journal.num_trials:
                raise UsageError(f"{self._where}: cannot be opened ({_one_line(error)})") from error
            self._failed_at = stopwatch()

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        """Copy a trial that ended; where the storage was away, try again after a while."""
        self._note(event)
        if not isinstance(event, Outcome):
            return
        if self._failed_at is None:
            self._deliver([event.number])
        elif self._stopwatch() - self._failed_at >= _AGAIN_SECONDS:
            self.finish()

    def _note(self, event: Event) -> None:
        if isinstance(event, Report):
            self._curves.setdefault(event.number, {})[event.step] = event.metrics["objective"]

    def finish(self) -> str | None:
        """Copy what is not there yet; return why that cannot be."""
        return self._deliver(sorted(self._study.outcomes))

    def _deliver(self, numbers: Iterable[int]) -> str | None:
        try:
            copy = self._opened()
            for number in numbers:
                if number not in self._copied:
                    self._add(copy, number)
        except Exception as error:  # noqa: BLE001 - whatever the database does, the search goes on
            self._failed_at = self._stopwatch()
            return f"{self._where}: lacks trials, which the same command delivers later ({_one_line(error)})"
        self._failed_at = None
        return None

    def _opened(self) -> optuna.Study:
        if self._copy is not None:
            return self._copy
        copy = optuna.create_study(
            storage=self._address, study_name=self._name, directions=self._directions, load_if_exists=True
        )
        if copy.directions != self._directions:
            raise UsageError(
                f"{self._where}: {self._name} is there with {_words(copy.directions)} instead of "
                f"{_words(self._directions)}; choose another study_name"
            )
        uid = self._study.journal.uid
        mine = [trial for trial in copy.get_trials(deepcopy=False) if trial.user_attrs.get(_UID) == uid]
        if copy.user_attrs.get(_UID) != uid:
            copy.set_user_attr(_UID, uid)
        self._copied = {trial.user_attrs[_NUMBER] for trial in mine}
        for number in self._copied:
            self._curves.pop(number, None)
        self._copy = copy
        return copy

    def _add(self, copy: optuna.Study, number: int) -> None:
        trial = self._study.journal.optuna_trial(number)
        trial.user_attrs = {**trial.user_attrs, _NUMBER: number, _UID: self._study.journal.uid}
        trial.intermediate_values = self._curves.get(number, {})
        if trial.values is not None or trial.state is not optuna.trial.TrialState.COMPLETE:  # Optuna wants a value
            copy.add_trial(trial)
        self._copied.add(number)
        self._curves.pop(number, None)


def without_password(text: str) -> str:
    """Return a text without the users and passwords of the addresses in it."""
    return re.sub(r"(password=)[^&\s]*", r"\1...", re.sub(r"//\S*@", "//", text))


def _words(directions: Sequence[StudyDirection]) -> str:
    return ", ".join(direction.name.lower() for direction in directions)


def _one_line(error: Exception) -> str:
    return without_password(" ".join(str(error).split()))[:200]
