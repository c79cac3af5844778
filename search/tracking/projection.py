"""A search as MLflow runs: one parent, one nested run per trial. Idempotent: events may be told again.

Runs are found by our own tag and every figure carries the time of its measurement, so a batch that was cut short is
simply sent once more, by a projection that is opened anew.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.records import Event
from search.tracking.pages import (
    RUNNING,
    UID,
    Page,
    Point,
    Standing,
    belonging,
    milliseconds,
    pages_of,
    text_of,
    trial_uid,
)
from search.tracking.stages import write_stage
from search.tracking.tracker import SearchInfo, Summary

_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
_HEADER = b"SQLite format 3\0"
"""What a database begins with; one that is just made is empty."""
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # a server that hangs is one that is away
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the tracker tries again itself, and looks for what was made unanswered
}
_SQLITE = "sqlite:///"


class LostRunError(Exception):
    """A run that MLflow had is there no more, e.g. deleted in its UI: all of the study has to be told again."""


def store_uri(uri: str | None, folder: Path) -> str:
    """Return where MLflow keeps runs: `uri` made absolute, or a SQLite file in `folder`.

    Raises UsageError for a plain folder, because MLflow 3 refuses file stores, and for what it does not know.
    """
    if uri is None:
        return _database(folder.resolve() / "mlflow.db", "delete it, and it is made again from the study")
    if uri.startswith(_SQLITE):
        return _database(Path(uri.removeprefix(_SQLITE)).resolve(), f"tracking.uri={uri} must name one")
    if uri.startswith("file:") or "://" not in uri:
        raise UsageError(
            f"tracking.uri={uri}: MLflow 3 keeps runs in a database; e.g. {_SQLITE}{uri.split(':')[-1]}.db"
        )
    scheme = uri.partition("://")[0]
    if scheme.partition("+")[0] not in _SCHEMES and scheme not in entry_points(group="mlflow.tracking_store").names:
        raise UsageError(f"tracking.uri={public_uri(uri)}: MLflow knows no {scheme}://; allowed: {', '.join(_SCHEMES)}")
    return uri


def _database(path: Path, what: str) -> str:
    """Return the address of a SQLite file, which need not be there yet; raise UsageError for what is none."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, no SQLite database; {what}")
    if path.is_file():
        with path.open("rb") as file:
            begins = file.read(len(_HEADER))
        if begins and begins != _HEADER:
            raise UsageError(f"{path}: is no SQLite database; {what}")
    return f"sqlite:///{path}"


def public_uri(uri: str) -> str:
    """Return the address without a user's name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def prepare_mlflow() -> None:
    """Set what MLflow reads when it is imported, unless the user did."""
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)


class Projection:
    """Writes to MLflow; used by one thread."""

    def __init__(self, uri: str, experiment: str, folder: Path, info: SearchInfo) -> None:
        """Open the store (making its schema) and the parent run; raises what MLflow raises where it is away.

        In a database of its own the experiment keeps artifacts in `folder`.
        """
        from mlflow import MlflowClient

        self._file = Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None
        if self._file is not None:
            _write_ahead(self._file)
        self.client = MlflowClient(tracking_uri=uri)
        self._info, self._folder = info, folder
        self._runs: dict[int, str] = {}
        self._standing = Standing()
        self.experiment = self._open_experiment(experiment)
        found = self._find(f"= '{info.uid}'")
        self._may_have_runs = found is not None or self._find(f"LIKE '{trial_uid(info.uid, '%')}'") is not None
        self.parent: str = found or self._create_parent()

    def go_on_after(self, events: Iterable[Event]) -> None:
        """Take in what was written before, so that the curve of the best value goes on where it was."""
        self._standing = pages_of(events, maximize=self._info.maximize).standing

    def know(self, runs: Mapping[int, str]) -> None:
        """Take the runs of all trials that have one, so that none is looked for."""
        self._runs, self._may_have_runs = dict(runs), False

    def apply(self, events: Sequence[Event]) -> None:
        """Write the events, all that is said of one trial at once."""
        pages = pages_of(events, maximize=self._info.maximize, before=self._standing)
        for page in pages.trials.values():
            self.write(page)
        self.draw_best(pages.best)
        self._make_durable()
        self._standing = pages.standing

    def draw_best(self, points: Sequence[Point]) -> None:
        """Draw the best value so far over the trials that ended, on the parent."""
        self._tell(self.client.log_batch, self.parent, metrics=_metrics(points))

    def summarize(self, summary: Summary) -> None:
        """Put figures, a note and files on the parent run, and the stages' runs under it."""
        points = [Point(key, 0, milliseconds(summary.time), value) for key, value in summary.metrics.items()]
        self._tell(
            self.client.log_batch,
            self.parent,
            metrics=_metrics(points),
            tags=_tags({"mlflow.note.content": summary.note}),
        )
        for file in summary.files:
            self.client.log_artifact(self.parent, str(file))
        for number, folder in summary.looks.items():
            if (run := self._run_of(number)) is not None:
                self.client.log_artifacts(run, str(folder), folder.name)
        for stage in summary.stages:
            write_stage(self.client, self.experiment, self._info.uid, self.parent, stage)

    def begin(self) -> None:
        """Say that the search runs, if it had ended before."""
        self.client.update_run(self.parent, status=RUNNING)

    def end(self, status: str, time: float | None = None) -> None:
        """End the parent run, now or at `time`."""
        self.client.set_terminated(self.parent, status, end_time=None if time is None else milliseconds(time))
        self._make_durable()

    def trash(self, runs: Iterable[str]) -> None:
        """Delete runs; MLflow can restore them."""
        for run in runs:
            self.client.delete_run(run)

    def _open_experiment(self, name: str) -> str:
        existing = self.client.get_experiment_by_name(name)
        if existing is not None:
            if existing.lifecycle_stage != "active":
                self.client.restore_experiment(existing.experiment_id)  # its name cannot be given to another one
            return str(existing.experiment_id)
        location = None if self._file is None else (self._folder / "artifacts").resolve().as_uri()
        tags = {
            "mlflow.experimentKind": "custom_model_development",
            "mlflow.experiment.primaryMetric.name": "best",
            "mlflow.experiment.primaryMetric.greaterIsBetter": str(self._info.maximize).lower(),
        }
        return str(self.client.create_experiment(name, artifact_location=location, tags=tags))

    def _create_parent(self) -> str:
        info = self._info
        run = self.client.create_run(
            self.experiment,
            start_time=None if info.began is None else milliseconds(info.began),
            run_name=info.name,
            tags={UID: info.uid, **info.tags},
        ).info.run_id
        self._tell(
            self.client.log_batch, run, params=_params({key: text_of(value) for key, value in info.params.items()})
        )
        for file in info.files:
            self.client.log_artifact(run, str(file))
        return str(run)

    def write(self, page: Page) -> None:
        """Write a trial's page with as few calls as there can be: each costs milliseconds, whatever it holds.

        Raises LostRunError where a run is gone that was there.
        """
        tags = {**belonging(self._info.uid, page.number, self.parent), **page.tags}
        run = self._run_of(page.number)
        begins = run is None
        if run is None:
            created = self.client.create_run(self.experiment, page.start, tags, page.name)
            run = self._runs[page.number] = str(created.info.run_id)
            tags = {}
        elif page.start is None:
            tags = page.tags
        self._tell(
            self.client.log_batch, run, metrics=_metrics(page.points), params=_params(page.params), tags=_tags(tags)
        )
        if page.end is not None:
            self._tell(self.client.set_terminated, run, status=page.status, end_time=page.end)
        elif page.status is not None and not (begins and page.status == RUNNING):
            self._tell(self.client.update_run, run, status=page.status)

    def _run_of(self, number: int) -> str | None:
        if number not in self._runs and self._may_have_runs:
            found = self._find(f"= '{trial_uid(self._info.uid, number)}'")
            if found is not None:
                self._runs[number] = found
        return self._runs.get(number)

    def _find(self, uid: str) -> str | None:
        found = self.client.search_runs([self.experiment], f"tags.`{UID}` {uid}", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _tell(self, tell: Callable[..., Any], run: str, **what: Any) -> None:
        """Call MLflow about a run; raise LostRunError where it is gone."""
        try:
            tell(run, **what)
        except Exception as error:
            if self._is_gone(run, error):
                raise LostRunError(f"MLflow has run {run} no more") from error
            raise

    def _is_gone(self, run: str, error: Exception) -> bool:
        """Tell whether what MLflow refused was refused because the run was deleted, or its traces removed."""
        from mlflow.exceptions import MlflowException

        if not isinstance(error, MlflowException) or error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return isinstance(error, MlflowException)
        if error.error_code != "INVALID_PARAMETER_VALUE":
            return False
        return str(self.client.get_run(run).info.lifecycle_stage) != "active"

    def _make_durable(self) -> None:
        """Have the disk hold what was written: once for many trials, not at each of MLflow's commits."""
        log = None if self._file is None else self._file.with_name(f"{self._file.name}-wal")
        if log is not None and log.exists():
            with log.open("rb") as file:
                os.fsync(file.fileno())


def _write_ahead(path: Path) -> None:
    """Let readers (the UI) and the writer not wait for each other, nor the writer for the disk at each commit."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")  # stays with the file
    finally:
        connection.close()
    if not event.contains(Engine, "connect", _synchronize_at_checkpoints):
        event.listen(Engine, "connect", _synchronize_at_checkpoints)


def _synchronize_at_checkpoints(connection: object, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):  # MLflow's; nobody else here opens databases through SQLAlchemy
        connection.execute("PRAGMA synchronous=NORMAL")


def _metrics(points: Iterable[Point]) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(p.key, p.value, p.time, p.step) for p in points]


def _params(params: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(key, value) for key, value in params.items()]


def _tags(tags: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(key, value) for key, value in tags.items()]
