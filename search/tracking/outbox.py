"""Delivers a search's events to MLflow from a thread of its own, in batches, off the driver's hot path.

The study's event log is the outbox: the thread follows it and notes how far it came. A tracking server that was away,
or a driver that was killed, costs nothing but a later delivery.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, takewhile
from pathlib import Path

from search.files import write_atomically
from search.records import Event
from search.tracking.projection import LostRunError, Projection
from search.tracking.stages import stage_digest
from search.tracking.tracker import Summary

POSITION = "tracking.json"
_BATCH_SECONDS = 0.5
_BATCH_EVENTS = 1000
_RETRY_SECONDS = 2.0
_PATIENCE_SECONDS = 20.0
_SHOWN_PROBLEMS = 3
_LATER = "the same command delivers it later"
_REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED", "INVALID_STATE")
"""MLflow's codes for what will not go through however often it is tried."""

Follow = Callable[[int], Iterable[tuple[Event, int]]]
"""Yields the events that stand at or after that byte of the log, each with the position behind it."""


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """How much of a study's event log a tracking store has (bytes), and where it stands there.

    `store` is a digest of the store's address, which may hold a password. `told` is the digest of the last summary;
    `ended` says whether the search's run was ended since the last event.
    """

    store: str
    position: int
    experiment: str
    run: str
    told: str = ""
    ended: bool = False


class MlflowTracker:
    """A `Tracker` whose projection is opened and used by one background thread."""

    def __init__(self, open_projection: Callable[[], Projection], follow: Follow, uri: str, folder: Path) -> None:
        """`open_projection` is called in the thread, because MLflow takes seconds to import."""
        self._open, self._follow, self._uri, self._folder = open_projection, follow, uri, folder
        self._summary: Summary | None = None
        self._status: str | None = None
        self._problems: list[str] = []
        self._parent: str | None = None
        self._opened, self._wake = threading.Event(), threading.Event()
        self._ending = False
        self._failing_since: float | None = None
        self._thread = threading.Thread(target=self._deliver, name="mlflow", daemon=True)
        self._thread.start()

    def parent_run(self) -> str | None:
        """Wait for the parent run, but not for a server that has been away for long."""
        while not self._opened.wait(0.1) and not self._out_of_patience():
            pass
        return self._parent

    def summarize(self, summary: Summary) -> None:
        """Hand results to the thread."""
        self._summary = summary

    def finish(self, status: str, patience: float | None = None) -> str | None:
        """Wait for the thread to deliver what is left; return why something could not be delivered.

        After `patience` seconds the thread is given up: it may hang in a request, and dies with the program.
        """
        self._status = status
        self._ending = True
        self._wake.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            return f"MLflow has not taken everything in {patience:g} s; {_LATER}"
        shown = "; ".join(self._problems[:_SHOWN_PROBLEMS])
        more = len(self._problems) - _SHOWN_PROBLEMS
        return f"{shown}; and {more} more" if more > 0 else shown or None

    def _deliver(self) -> None:
        """Open, follow the log to the end, and begin again from the last note after whatever went wrong."""
        while True:
            try:
                stored = delivered(self._folder, self._uri)
                projection = self._open()
                self._parent = projection.parent
                return self._follow_log(projection, stored)
            except LostRunError:
                forget(self._folder)  # told again from the start, into what is there and new runs
                continue
            except Exception as error:  # noqa: BLE001 - whatever the tracking server does, the search goes on
                self._failing_since = self._failing_since or time.monotonic()
                if is_refusal(error) or (self._ending and self._out_of_patience()):
                    self._opened.set()
                    self._problems.append(explained(error))
                    return None
            self._wake.wait(_RETRY_SECONDS)
            time.sleep(_RETRY_SECONDS if self._wake.is_set() else 0)

    def _out_of_patience(self) -> bool:
        return self._failing_since is not None and time.monotonic() - self._failing_since > _PATIENCE_SECONDS

    def _follow_log(self, projection: Projection, stored: Delivered | None) -> None:
        fresh = Delivered(store=_digest(self._uri), position=0, experiment=projection.experiment, run=projection.parent)
        state = stored if stored is not None and stored.run == projection.parent else fresh
        if state.ended:
            projection.begin()
        state = replace(state, ended=False)
        note(self._folder, state)
        self._opened.set()
        before = takewhile(lambda item: item[1] <= state.position, self._follow(0))
        projection.go_on_after(event for event, _ in before)
        while True:
            began = time.monotonic()
            ending = self._status  # read before the log: what is written after it can wait for the next round
            batch = list(islice(self._follow(state.position), _BATCH_EVENTS))
            if batch:
                self._apply(projection, [event for event, _ in batch])
                state = replace(state, position=batch[-1][1])
                note(self._folder, state)
                self._failing_since = None  # not before: a store may open and take nothing
            if self._summary is not None and (digest := summary_digest(self._summary)) != state.told:
                self._tell_results(projection, self._summary)
                state = replace(state, told=digest)
                note(self._folder, state)
            if ending is not None and not batch:
                projection.end(ending)
                note(self._folder, replace(state, ended=True))
                return
            if not self._ending:  # half of the time at most: the driver runs in the same interpreter
                self._wake.wait(max(_BATCH_SECONDS, time.monotonic() - began))

    def _tell_results(self, projection: Projection, summary: Summary) -> None:
        """Write the results; what MLflow refuses of them must not keep it from the trials."""
        try:
            projection.summarize(summary)
        except Exception as error:
            if not is_refusal(error):
                raise
            self._problems.append(f"MLflow refused some of the results: {_one_line(error)}")

    def _apply(self, projection: Projection, events: Sequence[Event]) -> None:
        """Write a batch; where MLflow refuses something in it, find that by halving and go on without it."""
        try:
            projection.apply(events)
        except Exception as error:
            if not is_refusal(error):
                raise
            if len(events) == 1:
                self._problems.append(f"MLflow refused an event of trial {events[0].number}: {_one_line(error)}")
                return
            middle = len(events) // 2
            self._apply(projection, events[:middle])
            self._apply(projection, events[middle:])


def delivered(folder: Path, uri: str) -> Delivered | None:
    """Return what the store at `uri` has of a study, or None where it has nothing of it."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return None
    try:
        stored = Delivered(**json.loads((folder / POSITION).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return stored if stored.store == _digest(uri) else None


def await_delivery(folder: Path, uri: str, position: int, patience: float = _PATIENCE_SECONDS) -> bool:
    """Wait until the store has a study's event log up to `position`; tell whether it has, after `patience` seconds."""
    ends = time.monotonic() + patience
    while (state := delivered(folder, uri)) is None or state.position < position:
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True


def note(folder: Path, state: Delivered) -> None:
    """Store how far a delivery came."""
    write_atomically(folder / POSITION, json.dumps(asdict(state)).encode())


def forget(folder: Path) -> None:
    """Have the next delivery begin at the start of the log."""
    (folder / POSITION).unlink(missing_ok=True)


def all_delivered(uri: str, position: int, projection: Projection, summary: Summary | None) -> Delivered:
    """Return the note of a search that stands in MLflow with all its events and results, and has ended there."""
    told = "" if summary is None else summary_digest(summary)
    return Delivered(
        store=_digest(uri),
        position=position,
        experiment=projection.experiment,
        run=projection.parent,
        told=told,
        ended=True,
    )


def summary_digest(summary: Summary) -> str:
    """Return a digest of what a summary says, whenever it is said."""
    stages = [stage_digest(stage) for stage in summary.stages]
    looks = {number: sorted(map(_drawn, folder.iterdir())) for number, folder in summary.looks.items()}
    return _digest(json.dumps([dict(summary.metrics), summary.note, [str(f) for f in summary.files], stages, looks]))


def _drawn(file: Path) -> tuple[str, int, int]:
    """Return what is another for a file that was drawn again."""
    stat = file.stat()
    return file.name, stat.st_size, stat.st_mtime_ns


def is_refusal(error: Exception) -> bool:
    """Tell whether MLflow will never take what it was given."""
    return getattr(error, "error_code", None) in _REFUSED


def is_from_mlflow(error: Exception) -> bool:
    """Tell whether it is MLflow's own: a server that is away, a store that is broken, something refused."""
    return isinstance(getattr(error, "error_code", None), str) or isinstance(error, LostRunError)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def explained(error: Exception) -> str:
    """Return in one line what became of a call of MLflow."""
    if is_refusal(error):
        return f"MLflow refuses it: {_one_line(error)}"
    what = _one_line(error).partition(" with exception ")[0]  # the rest is urllib3's
    return f"MLflow is away ({what[:150]}); {_LATER}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
