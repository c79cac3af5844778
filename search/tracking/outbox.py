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
from search.tracking.projection import Projection
from search.tracking.tracker import Summary

POSITION = "tracking.json"
_BATCH_SECONDS = 0.5
_BATCH_EVENTS = 1000
_RETRY_SECONDS = 2.0
_PATIENCE_SECONDS = 20.0
_REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED", "INVALID_STATE")
"""MLflow's codes for what will not go through however often it is tried."""

Follow = Callable[[int], Iterable[tuple[Event, int]]]
"""Yields the events that stand at or after that byte of the log, each with the position behind it."""


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """How much of a study's event log a tracking store has (bytes), and where it stands there.

    `store` is a digest of the store's address, which may hold a password. `told` is the digest of the last summary.
    """

    store: str
    position: int
    experiment: str
    run: str
    told: str = ""


class MlflowTracker:
    """A `Tracker` whose projection is opened and used by one background thread."""

    def __init__(
        self, open_projection: Callable[[str | None], Projection], follow: Follow, uri: str, folder: Path
    ) -> None:
        """`open_projection(run)` opens the store, with the search's run where there should be one already.

        It is called in the thread, because MLflow takes seconds to import.
        """
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

    def finish(self, status: str) -> str | None:
        """Wait for the thread to deliver what is left; return why something could not be delivered."""
        self._status = status
        self._ending = True
        self._wake.set()
        self._thread.join()
        return "; ".join(self._problems) or None

    def _deliver(self) -> None:
        """Open, follow the log to the end, and begin again from the last note after whatever went wrong."""
        while True:
            try:
                stored = delivered(self._folder, self._uri)
                projection = self._open(stored.run if stored else None)
                self._parent = projection.parent
                self._opened.set()
                self._failing_since = None
                return self._follow_log(projection, stored)
            except Exception as error:  # noqa: BLE001 - whatever the tracking server does, the search goes on
                self._failing_since = self._failing_since or time.monotonic()
                if is_refusal(error) or (self._ending and self._out_of_patience()):
                    self._opened.set()
                    self._problems.append(_explained(error))
                    return None
            self._wake.wait(_RETRY_SECONDS)
            time.sleep(_RETRY_SECONDS if self._wake.is_set() else 0)

    def _out_of_patience(self) -> bool:
        return self._failing_since is not None and time.monotonic() - self._failing_since > _PATIENCE_SECONDS

    def _follow_log(self, projection: Projection, stored: Delivered | None) -> None:
        fresh = Delivered(store=_digest(self._uri), position=0, experiment=projection.experiment, run=projection.parent)
        state = stored if stored is not None and stored.run == projection.parent else fresh
        self._note(state)
        before = takewhile(lambda item: item[1] <= state.position, self._follow(0))
        projection.go_on_after(event for event, _ in before)
        while True:
            ending = self._status  # read before the log: what is written after it can wait for the next round
            batch = list(islice(self._follow(state.position), _BATCH_EVENTS))
            if batch:
                self._apply(projection, [event for event, _ in batch])
                state = replace(state, position=batch[-1][1])
                self._note(state)
            if self._summary is not None and (digest := summary_digest(self._summary)) != state.told:
                projection.summarize(self._summary)
                state = replace(state, told=digest)
                self._note(state)
            if ending is not None and not batch:
                projection.end(ending)
                return
            if len(batch) < _BATCH_EVENTS:
                self._wake.wait(_BATCH_SECONDS)

    def _apply(self, projection: Projection, events: Sequence[Event]) -> None:
        """Write a batch; where MLflow refuses something in it, find that and go on without it."""
        try:
            projection.apply(events)
        except Exception as error:
            if not is_refusal(error):
                raise
            if len(events) == 1:
                self._problems.append(f"MLflow refused an event of trial {events[0].number}: {_one_line(error)}")
                return
            for event in events:
                self._apply(projection, [event])

    def _note(self, state: Delivered) -> None:
        write_atomically(self._folder / POSITION, json.dumps(asdict(state)).encode())


def delivered(folder: Path, uri: str) -> Delivered | None:
    """Return what the store at `uri` has of a study, or None where it has nothing of it."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return None
    try:
        stored = Delivered(**json.loads((folder / POSITION).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return stored if stored.store == _digest(uri) else None


def summary_digest(summary: Summary) -> str:
    """Return a digest of what a summary says, whenever it is said."""
    return _digest(json.dumps([dict(summary.metrics), summary.note, [str(f) for f in summary.files]]))


def is_refusal(error: Exception) -> bool:
    """Tell whether MLflow will never take what it was given."""
    return getattr(error, "error_code", None) in _REFUSED


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _explained(error: Exception) -> str:
    if is_refusal(error):
        return f"MLflow refuses it: {_one_line(error)}"
    what = _one_line(error).partition(" with exception ")[0]  # the rest is urllib3's
    return f"MLflow is away ({what[:150]}); the same command delivers it later"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
