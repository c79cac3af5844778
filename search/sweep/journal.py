"""The study on disk: Optuna's journal (parameters, values, states) and the driver's event log (everything else).

Only the driver writes here, under a lock. An outcome stands in the event log before Optuna's journal is told, and a
worker keeps its own in the trial's folder, so that nothing that finished is ever run again.

What is written is the kernel's at once, so a process may be killed at any time. It is on the disk after a fraction of
a second: what a power failure takes is younger, and stands in the folders of the trials.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zlib import crc32

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from search.errors import UsageError
from search.files import no_room, sync_folder
from search.layout import OUTCOME
from search.records import Event, Outcome, Params, TrialState, event_from_json, event_to_json

EVENTS = "events.jsonl"
OPTUNA = "optuna.journal"
LOCK = "study.lock"
_STUDY = "search"
_SYNC_SECONDS = 0.3
_SEAL = b', "crc": "%08x"}'
_SEAL_LENGTH = len(_SEAL % 0)

_TO_OPTUNA = {
    TrialState.WAITING: OptunaState.WAITING,
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


class _Log:
    """A file of lines that only grows; a line that cannot be written whole is taken back."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self.size = self._file.tell()
        self._dirty = False

    def append(self, line: bytes) -> None:
        """Hand a line to the kernel; raise OSError where there is no room."""
        self._dirty = True
        left = line
        try:
            while left:
                left = left[os.write(self._file.fileno(), left) :]
        except OSError:
            with contextlib.suppress(OSError):  # who opens the file next would do it
                self._file.truncate(self.size)
            raise
        self.size += len(line)

    def sync(self) -> None:
        """Wait until all of it is on the disk."""
        if self._dirty:
            os.fsync(self._file.fileno())
            self._dirty = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Backend(JournalFileBackend):
    """Optuna's journal, written without its lock and its wait for the disk at every record: the study has a lock."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.log = _Log(path)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, one a line."""
        self.log.append(b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs))


class Journal:
    """One study's files, open for writing by this process alone."""

    def __init__(self, folder: Path, *, maximize: bool | Sequence[bool]) -> None:
        """Open or create the study; several objectives have a direction each.

        Raises UsageError where another process has it open, it cannot be written, or it is damaged; then it is left
        as it is.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        with contextlib.ExitStack() as opened:
            self._open(opened, [maximize] if isinstance(maximize, bool) else maximize)
            self._opened = opened.pop_all()

    def _open(self, opened: contextlib.ExitStack, maximize: Sequence[bool]) -> None:
        folder = self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _lock(opened.enter_context((folder / LOCK).open("ab+", buffering=0)), folder)
            _repair(folder)
            backend = _Backend(folder / OPTUNA)
            self._optuna = opened.enter_context(contextlib.closing(backend.log))
            self._events = opened.enter_context(contextlib.closing(_Log(folder / EVENTS)))
        except OSError as error:
            if no_room(error):
                raise
            raise UsageError(f"output_dir={folder}: cannot be written ({error.strerror})") from error
        with _readable(folder):
            self._storage = JournalStorage(backend)
            self._study = self._stored_study(maximize)
            trials = self._study.get_trials(deepcopy=False)
            if not trials and not self._compares_by(maximize):  # it may still become anything
                optuna.delete_study(study_name=_STUDY, storage=self._storage)
                self._study = self._stored_study(maximize)
        self._maximize = maximize
        self._synced = 0.0
        self._unsynced = False
        self._study_id = self._study._study_id
        self._ids = [t._trial_id for t in trials]
        self._ended = {t.number for t in trials if t.state.is_finished()}
        self.uid = str(self._study.user_attrs.get("uid", ""))
        if not self.uid:
            self.uid = uuid.uuid4().hex[:12]
            self.set_attribute("uid", self.uid)
            sync_folder(folder)

    def require_directions(self) -> None:
        """Raise UsageError where the study compares its trials the other way than it was opened for."""
        if not self._compares_by(self._maximize):
            stored = " and ".join(direction.name.lower() for direction in self._study.directions)
            raise UsageError(f"{self.folder}: the study is to {stored}, which cannot change; choose another name=...")

    def _stored_study(self, maximize: Sequence[bool]) -> optuna.Study:
        directions = [
            optuna.study.StudyDirection.MAXIMIZE if each else optuna.study.StudyDirection.MINIMIZE for each in maximize
        ]
        return optuna.create_study(storage=self._storage, study_name=_STUDY, load_if_exists=True, directions=directions)

    def _compares_by(self, maximize: Sequence[bool]) -> bool:
        return [d is optuna.study.StudyDirection.MAXIMIZE for d in self._study.directions] == list(maximize)

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
        self._sync()

    def create(self, params: Params, distributions: Mapping[str, BaseDistribution], *, begun: bool = True) -> int:
        """Store a trial, running or still waiting, and return its number."""
        template = create_trial(
            state=OptunaState.RUNNING if begun else OptunaState.WAITING,
            params=dict(params),
            distributions={k: distributions[k] for k in params},
        )
        self._ids.append(self._storage.create_new_trial(self._study_id, template_trial=template))
        return len(self._ids) - 1

    def begin(self, number: int) -> None:
        """Store that a trial runs that waited."""
        self._storage.set_trial_state_values(self._ids[number], OptunaState.RUNNING)

    def append(self, event: Event) -> int:
        """Store an event; return the log's length in bytes, by which a reader finds what follows."""
        self._events.append(_sealed(event_to_json(event)))
        if isinstance(event, Outcome):
            self.set_state(event)
        self._unsynced = True
        self.sync_if_due()
        return self._events.size

    def sync_if_due(self) -> None:
        """Make durable what is older than a moment."""
        if self._unsynced and time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def set_state(self, outcome: Outcome) -> None:
        """Tell Optuna's journal how a trial ended, unless it knows."""
        if outcome.number in self._ended:  # the event log had lost it
            return
        values = [*outcome.values] or ([] if outcome.value is None else [outcome.value])
        known = values if values and outcome.state is not TrialState.FAILED else None
        state = _TO_OPTUNA[outcome.state]
        if known is None and state is OptunaState.COMPLETE:  # a job of a grid may return anything; Optuna's may not
            state = OptunaState.FAIL
        self._storage.set_trial_state_values(self._ids[outcome.number], state, known)
        self._ended.add(outcome.number)

    def trials(self) -> list[StoredTrial]:
        """Return all trials in the order of their numbers."""
        return _stored(self._study)

    def optuna_trial(self, number: int) -> FrozenTrial:
        """Return a copy of the trial as Optuna has it."""
        return copy.deepcopy(self._storage.get_trial(self._ids[number]))

    def events(self, start: int = 0) -> Iterator[tuple[Event, int]]:
        """Yield the events that stand at or after byte `start`, each with the position behind it."""
        return read_events(self.folder, start)

    def size(self) -> int:
        """Return the event log's length in bytes."""
        return self._events.size

    def close(self) -> None:
        """Release the study, with all of it on the disk."""
        with self._opened:
            self._sync()

    def _sync(self) -> None:
        self._optuna.sync()  # first: an event of a trial that it lacks would be worth nothing
        self._events.sync()
        self._synced = time.monotonic()
        self._unsynced = False


def read_events(folder: Path, start: int = 0) -> Iterator[tuple[Event, int]]:
    """Yield a study's events from byte `start` on, each with the position behind it; a torn tail is left out.

    Begins at the front where no line ends at `start`: then that is a position in another log. Raises UsageError,
    naming the line, for one that is damaged.
    """
    path = folder / EVENTS
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(max(0, start - 1))
        position = start if start and file.read(1) == b"\n" else 0
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):  # it is being written
                return
            try:
                event = event_from_json(_unsealed(line))
            except ValueError as error:
                raise _damaged(path, 1 + path.read_bytes()[:position].count(b"\n")) from error
            position += len(line)
            yield event, position


def holds_study(folder: Path) -> bool:
    """Tell whether a search ever began in the folder."""
    path = folder / EVENTS
    return path.exists() and path.stat().st_size > 0


def set_aside(folder: Path) -> Path:
    """Give a study's folder another name, by which it stays; return it."""
    names = (folder.with_name(f"{folder.name}-{i}") for i in itertools.count(1))
    free = next(name for name in names if not name.exists())
    folder.rename(free)
    return free


def trial_folder(study: Path, number: int) -> Path:
    """Return where a trial's worker writes."""
    return study / "trials" / f"{number:05d}"


def read_trials(folder: Path) -> list[StoredTrial]:
    """Return a study's trials without opening it for writing; none where there is no study."""
    return _stored(load_optuna(folder)) if (folder / OPTUNA).exists() else []


def _stored(study: optuna.Study) -> list[StoredTrial]:
    names = {state: ours for ours, state in _TO_OPTUNA.items()}
    return [
        StoredTrial(number=t.number, params=dict(t.params), state=names[t.state])
        for t in study.get_trials(deepcopy=False)
    ]


def read_attributes(folder: Path) -> Mapping[str, Any]:
    """Return what a study stored beside its trials, without opening it for writing; empty where there is none."""
    return load_optuna(folder).user_attrs if (folder / OPTUNA).exists() else {}


def load_optuna(folder: Path) -> optuna.Study:
    """Return a study as Optuna has it, without opening it for writing."""
    with _readable(folder):
        storage = JournalStorage(JournalFileBackend(str(folder / OPTUNA)))
        return optuna.load_study(study_name=_STUDY, storage=storage)


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Raise UsageError where Optuna cannot make sense of its journal; whatever it stumbles over."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise UsageError(
            f"{folder / OPTUNA}: damaged ({error!r}); put it back from a copy, or choose another name=..."
        ) from error


def outcome_on_disk(directory: Path) -> Outcome | None:
    """Return the Outcome that a worker left in its trial's folder, if it got that far."""
    try:
        event = event_from_json((directory / OUTCOME).read_text())
    except (OSError, ValueError, json.JSONDecodeError):
        return None
    return event if isinstance(event, Outcome) else None


def _sealed(line: str) -> bytes:
    """Return an event's line with its checksum as the last field, so that it stays a line of JSON."""
    body = line.encode()
    return body[:-1] + _SEAL % crc32(body) + b"\n"


def _unsealed(line: bytes) -> str:
    """Return the event's line; raise ValueError where it is not what was written. Without checksum it is by hand."""
    body, seal = line[: -_SEAL_LENGTH - 1] + b"}", line[-_SEAL_LENGTH - 1 : -1]
    if not seal.startswith(_SEAL[:10]):
        text = line.decode()
        event_from_json(text)
        return text
    if seal != _SEAL % crc32(body):
        raise ValueError(f"the checksum is not that of {line[:80]!r}")
    return body.decode()


def _repair(folder: Path) -> None:
    """Cut torn last lines off, which the next one would be glued to; leave all as it is where more is damaged."""
    events, journal = folder / EVENTS, folder / OPTUNA
    whole = {events: _whole(events, _unsealed), journal: _whole(journal, json.loads)}
    if whole[events] and not whole[journal]:
        raise UsageError(f"{journal}: missing or empty; put it back from a copy, or choose another name=...")
    for path, length in whole.items():
        if path.exists() and path.stat().st_size > length:
            os.truncate(path, length)


def _whole(path: Path, check: Callable[[bytes], object]) -> int:
    """Return a file's length without a torn last line; raise UsageError for a line that `check` finds wrong."""
    if not path.exists():
        return 0
    length = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                check(line)
            except ValueError as error:
                raise _damaged(path, number) from error
            length += len(line)
    return length


def _damaged(path: Path, number: int) -> UsageError:
    what = "put the file back from a copy, or choose another name=..."
    if path.name == EVENTS:
        what = "put the file back from a copy, or delete that line alone: how a trial ended stands in its folder, too"
    return UsageError(f"{path}: line {number} is damaged; nothing was changed; {what}")


def _lock(file: IO[bytes], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().decode(errors="replace").strip() or "another process"
        raise UsageError(f"output_dir={folder}: in use by {holder}; wait for it or choose another name=...") from error
    file.truncate(0)
    file.write(f"process {os.getpid()}".encode())
