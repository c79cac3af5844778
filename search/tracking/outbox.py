"""Delivers a search's events to MLflow from a thread of its own, in batches, off the driver's hot path.

The event log is the outbox: the thread notes how far it has delivered, so a tracking server that was away, or a
driver that was killed, costs nothing but a later delivery.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from search.records import Event
from search.tracking.projection import Projection

POSITION = "tracking.json"
_BATCH_SECONDS = 0.5
_RETRY_SECONDS = 2.0
_PATIENCE_SECONDS = 20.0
_REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")
"""MLflow's codes for what will not go through however often it is tried."""


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """How much of a study's event log a tracking store has (bytes), and where it stands there."""

    uri: str
    position: int
    experiment: str
    run: str


@dataclass(frozen=True, kw_only=True)
class _Told:
    event: Event
    position: int


@dataclass(frozen=True, kw_only=True)
class _Summary:
    metrics: Mapping[str, float]
    note: str
    files: tuple[Path, ...]
    time: float


@dataclass(frozen=True, kw_only=True)
class _End:
    status: str


class MlflowTracker:
    """A `Tracker` whose projection is opened and used by one background thread."""

    def __init__(self, open_projection: Callable[[bool], Projection], uri: str, folder: Path) -> None:
        """`open_projection(resumed)` opens the store; it runs in the thread, because MLflow takes seconds to import."""
        self._uri, self._file = uri, folder / POSITION
        self._open_projection = open_projection
        stored = delivered(folder, uri)
        self._resumed, self._position = stored is not None, stored.position if stored else 0
        self._queue: queue.SimpleQueue[_Told | _Summary | _End] = queue.SimpleQueue()
        self._deadline: float | None = None
        self._problem: str | None = None
        self._parent: str | None = None
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def position(self) -> int:
        """How far the event log was delivered."""
        return self._position

    def record(self, event: Event, position: int) -> None:
        """Hand an event to the thread."""
        self._queue.put(_Told(event=event, position=position))

    def parent_run(self) -> str | None:
        """Wait for the parent run as long as the server may be away at the end of a search."""
        self._opened.wait(_PATIENCE_SECONDS)
        return self._parent

    def summarize(self, metrics: Mapping[str, float], note: str, files: tuple[Path, ...]) -> None:
        """Hand results to the thread."""
        self._queue.put(_Summary(metrics=metrics, note=note, files=files, time=time.time()))

    def finish(self, status: str) -> str | None:
        """Wait for the thread to deliver what is left; return why something could not be delivered."""
        self._deadline = time.monotonic() + _PATIENCE_SECONDS
        self._queue.put(_End(status=status))
        self._thread.join()
        return self._problem

    def _deliver(self) -> None:
        projection: Projection | None = None
        batch: list[_Told | _Summary | _End] = []
        while True:
            try:
                if projection is None:  # at once, while workers start: nothing waits for the driver yet
                    projection = self._open_projection(self._resumed)
                    self._parent = projection.parent
                    self._opened.set()
                    self._store_position(projection)
                batch = batch or self._next_items()
                self._write(projection, batch)
            except Exception as error:  # noqa: BLE001 - whatever the tracking server does, the search goes on
                if not _is_refusal(error) and self._try_again():
                    continue
                self._problem = f"MLflow at {self._uri}: {' '.join(str(error).split())[:300]}"
                if not _is_refusal(error):
                    return
            if any(isinstance(item, _End) for item in batch):
                return
            batch = []

    def _next_items(self) -> list[_Told | _Summary | _End]:
        items = [self._queue.get()]
        time.sleep(0 if self._deadline else _BATCH_SECONDS)  # let a batch gather
        with contextlib.suppress(queue.Empty):
            while True:
                items.append(self._queue.get_nowait())
        return items

    def _write(self, projection: Projection, batch: list[_Told | _Summary | _End]) -> None:
        told = [item for item in batch if isinstance(item, _Told)]
        projection.apply([item.event for item in told])
        for item in batch:
            if isinstance(item, _Summary):
                projection.summarize(item.metrics, item.note, item.files, item.time)
            elif isinstance(item, _End):
                projection.end(item.status)
        if told:
            self._position = told[-1].position
            self._store_position(projection)

    def _try_again(self) -> bool:
        """Wait before the next attempt; return False when the search has ended and patience with it."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            return False
        time.sleep(_RETRY_SECONDS)
        return True

    def _store_position(self, projection: Projection) -> None:
        state = Delivered(
            uri=self._uri, position=self._position, experiment=projection.experiment, run=projection.parent
        )
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(state)))
        temporary.replace(self._file)


def delivered(folder: Path, uri: str) -> Delivered | None:
    """Return what the store at `uri` has of a study, or None where it has nothing of it."""
    try:
        stored = Delivered(**json.loads((folder / POSITION).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return stored if stored.uri == uri else None


def _is_refusal(error: Exception) -> bool:
    return getattr(error, "error_code", None) in _REFUSED
