"""The study on disk: Optuna's journal (parameters, values, states) and the driver's event log (everything else).

Only the driver writes here, under a lock. An outcome stands in the event log before Optuna's journal is told, and a
worker keeps its own in the trial's folder, so that nothing that finished is ever run again.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from search.errors import UsageError
from search.layout import OUTCOME
from search.records import Event, Outcome, Params, TrialState, event_from_json, event_to_json

EVENTS = "events.jsonl"
OPTUNA = "optuna.journal"
LOCK = "study.lock"
_STUDY = "search"

_TO_OPTUNA = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}


@dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """A trial as Optuna's journal knows it; parameters under Optuna's names."""

    number: int
    params: Params
    state: TrialState


class Journal:
    """One study's files, open for writing by this process alone."""

    def __init__(self, folder: Path, *, maximize: bool) -> None:
        """Open or create the study; raise UsageError where another process has it open or it cannot be written."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        self._lock = _lock(folder)
        self._repair()
        backend = JournalFileBackend(str(folder / OPTUNA))
        self._storage = JournalStorage(backend)
        study = optuna.create_study(
            storage=self._storage,
            study_name=_STUDY,
            load_if_exists=True,
            direction="maximize" if maximize else "minimize",
        )
        self._study_id = study._study_id
        self.uid = str(study.user_attrs.get("uid", ""))
        if not self.uid:
            self.uid = uuid.uuid4().hex[:12]
            study.set_user_attr("uid", self.uid)
        self._study = study
        self._ids = [t._trial_id for t in study.get_trials(deepcopy=False)]
        self._events = (folder / EVENTS).open("a", encoding="utf-8")

    @property
    def num_trials(self) -> int:
        """How many trials were ever created."""
        return len(self._ids)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What `set_attribute` stored."""
        return self._study.user_attrs

    def set_attribute(self, key: str, value: Any) -> None:
        """Store a JSON value with the study."""
        self._study.set_user_attr(key, value)

    def create(self, params: Params, distributions: Mapping[str, BaseDistribution]) -> int:
        """Store a running trial and return its number."""
        template = create_trial(
            state=OptunaState.RUNNING, params=dict(params), distributions={k: distributions[k] for k in params}
        )
        self._ids.append(self._storage.create_new_trial(self._study_id, template_trial=template))
        return len(self._ids) - 1

    def append(self, event: Event) -> int:
        """Store an event; return the log's length in bytes, by which a reader finds what follows."""
        self._events.write(event_to_json(event) + "\n")
        self._events.flush()
        if isinstance(event, Outcome):
            os.fsync(self._events.fileno())
            self.set_state(event)
        return self._events.tell()

    def set_state(self, outcome: Outcome) -> None:
        """Tell Optuna's journal how a trial ended."""
        values = None if outcome.value is None or outcome.state is TrialState.FAILED else [outcome.value]
        self._storage.set_trial_state_values(self._ids[outcome.number], _TO_OPTUNA[outcome.state], values)

    def trials(self) -> list[StoredTrial]:
        """Return all trials in the order of their numbers."""
        return _stored(self._study)

    def events(self, start: int = 0) -> Iterator[tuple[Event, int]]:
        """Yield the events that stand at or after byte `start`, each with the position behind it."""
        return read_events(self.folder, start)

    def size(self) -> int:
        """Return the event log's length in bytes."""
        return self._events.tell()

    def close(self) -> None:
        """Release the study."""
        self._events.close()
        self._lock.close()

    def _repair(self) -> None:
        """Cut torn last lines off, which the next append would be glued to, and remove Optuna's orphaned lock."""
        for name in (EVENTS, OPTUNA):
            path = self.folder / name
            if path.exists():
                data = path.read_bytes()
                whole = data.rfind(b"\n") + 1
                if whole < len(data):
                    os.truncate(path, whole)
        (self.folder / f"{OPTUNA}.lock").unlink(missing_ok=True)  # ours is the lock that counts


def read_events(folder: Path, start: int = 0) -> Iterator[tuple[Event, int]]:
    """Yield a study's events from byte `start` on, each with the position behind it; a torn tail is left out."""
    path = folder / EVENTS
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        position = start
        for line in file:
            if not line.endswith(b"\n"):
                return
            position += len(line)
            yield event_from_json(line.decode()), position


def trial_folder(study: Path, number: int) -> Path:
    """Return where a trial's worker writes."""
    return study / "trials" / f"{number:05d}"


def read_trials(folder: Path) -> list[StoredTrial]:
    """Return a study's trials without opening it for writing; none where there is no study."""
    if not (folder / OPTUNA).exists():
        return []
    storage = JournalStorage(JournalFileBackend(str(folder / OPTUNA)))
    return _stored(optuna.load_study(study_name=_STUDY, storage=storage))


def _stored(study: optuna.Study) -> list[StoredTrial]:
    names = {state: ours for ours, state in _TO_OPTUNA.items()}
    return [
        StoredTrial(number=t.number, params=dict(t.params), state=names[t.state])
        for t in study.get_trials(deepcopy=False)
    ]


def read_attributes(folder: Path) -> Mapping[str, Any]:
    """Return what a study stored beside its trials, without opening it for writing; empty where there is none."""
    if not (folder / OPTUNA).exists():
        return {}
    storage = JournalStorage(JournalFileBackend(str(folder / OPTUNA)))
    return optuna.load_study(study_name=_STUDY, storage=storage).user_attrs


def outcome_on_disk(directory: Path) -> Outcome | None:
    """Return the Outcome that a worker left in its trial's folder, if it got that far."""
    try:
        event = event_from_json((directory / OUTCOME).read_text())
    except (OSError, ValueError, json.JSONDecodeError):
        return None
    return event if isinstance(event, Outcome) else None


def _lock(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise UsageError(f"output_dir={folder}: cannot be written ({error.strerror})") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise UsageError(f"output_dir={folder}: in use by {holder}; wait for it or choose another name=...") from error
    file.truncate(0)
    file.write(f"process {os.getpid()}")
    file.flush()
    return file
