"""A search as MLflow runs: one parent, one nested run per trial. Idempotent: events may be told again.

Runs are found by our own tag and every figure carries the time of its measurement, so a batch that was cut short is
simply sent once more, by a projection that is opened anew.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.records import Event, Outcome, Params, Report, Started, TrialState
from search.tracking.tracker import SearchInfo, Summary

UID = "search.uid"
_STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "FINISHED", TrialState.FAILED: "FAILED"}
_LONGEST_TAG = 5000
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
_SQLITE = b"SQLite format 3\0"
"""What a database begins with; one that is just made is empty."""


def store_uri(uri: str | None, folder: Path) -> str:
    """Return where MLflow keeps runs: `uri` made absolute, or a SQLite file in `folder`.

    Raises UsageError for a plain folder, because MLflow 3 refuses file stores, and for what it does not know.
    """
    if uri is None:
        return _database(folder.resolve() / "mlflow.db", "delete it, and it is made again from the study")
    if uri.startswith("sqlite:///"):
        return _database(Path(uri.removeprefix("sqlite:///")).resolve(), f"tracking.uri={uri} must name one")
    if uri.startswith("file:") or "://" not in uri:
        raise UsageError(
            f"tracking.uri={uri}: MLflow 3 keeps runs in a database; e.g. sqlite:///{uri.split(':')[-1]}.db"
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
            begins = file.read(len(_SQLITE))
        if begins and begins != _SQLITE:
            raise UsageError(f"{path}: is no SQLite database; {what}")
    return f"sqlite:///{path}"


def public_uri(uri: str) -> str:
    """Return the address without a user's name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


class Projection:
    """Writes to MLflow; used by one thread."""

    def __init__(self, uri: str, experiment: str, folder: Path, info: SearchInfo, known_run: str | None = None) -> None:
        """Open the store (making its schema) and the parent run; raises what MLflow raises where it is away.

        `known_run` is the run that this search had there before; without one, trials' runs are not looked for.
        """
        from mlflow import MlflowClient

        if uri.startswith("sqlite:///"):
            _write_ahead(uri)
        self._client = MlflowClient(tracking_uri=uri)
        self._info, self._folder = info, folder
        self._runs: dict[int, str] = {}
        self.experiment = self._open_experiment(experiment, local=uri.startswith("sqlite:"))
        found = self._find(info.uid)
        self._may_have_runs = found is not None or known_run is not None
        self.parent: str = found or self._create_parent()
        self._best: float | None = None

    def go_on_after(self, events: Iterable[Event]) -> None:
        """Take in what was written before, so that the curve of the best value goes on where it was."""
        for event in events:
            if isinstance(event, Outcome) and event.value is not None:
                self._best = self._better(event.value)

    def apply(self, events: Sequence[Event]) -> None:
        """Write the events, figures of one run in one batch."""
        figures: dict[str, list[Any]] = defaultdict(list)
        for event in events:
            if isinstance(event, Started):
                self._start(event)
            elif isinstance(event, Report):
                run = self._run_of(event.number)
                figures[run] += [_metric(k, v, event.time, event.step) for k, v in event.metrics.items()]
            elif isinstance(event, Outcome):
                self._end(event, figures)  # what is left out, decisions and attempts, shows in it
        for run, metrics in figures.items():
            self._client.log_batch(run, metrics=metrics)

    def summarize(self, summary: Summary) -> None:
        """Put figures, a note and files on the parent run."""
        metrics = [_metric(key, value, summary.time, 0) for key, value in summary.metrics.items()]
        self._client.log_batch(self.parent, metrics=metrics)
        self._client.set_tag(self.parent, "mlflow.note.content", summary.note)
        for file in summary.files:
            self._client.log_artifact(self.parent, str(file))

    def end(self, status: str) -> None:
        """End the parent run."""
        self._client.set_terminated(self.parent, status)

    def _open_experiment(self, name: str, *, local: bool) -> str:
        existing = self._client.get_experiment_by_name(name)
        if existing is not None:
            return str(existing.experiment_id)
        location = (self._folder / "artifacts").resolve().as_uri() if local else None
        experiment = str(self._client.create_experiment(name, artifact_location=location))
        self._client.set_experiment_tag(experiment, "mlflow.experimentKind", "custom_model_development")
        self._client.set_experiment_tag(experiment, "mlflow.experiment.primaryMetric.name", "best")
        better = str(self._info.maximize).lower()
        self._client.set_experiment_tag(experiment, "mlflow.experiment.primaryMetric.greaterIsBetter", better)
        return experiment

    def _create_parent(self) -> str:
        run = self._client.create_run(
            self.experiment, run_name=self._info.name, tags={UID: self._info.uid, **self._info.tags}
        )
        self._client.log_batch(run.info.run_id, params=_params(self._info.params))
        for file in self._info.files:
            self._client.log_artifact(run.info.run_id, str(file))
        return str(run.info.run_id)

    def _start(self, event: Started) -> None:
        run = self._runs.get(event.number)
        if run is None and self._may_have_runs:
            run = self._find(self._trial_uid(event.number))
        if run is None:
            tags = {
                UID: self._trial_uid(event.number),
                "mlflow.parentRunId": self.parent,
                "search.number": str(event.number),
                "search.state": TrialState.RUNNING.value,
            }
            created = self._client.create_run(
                self.experiment, start_time=_milliseconds(event.time), run_name=_run_name(event), tags=tags
            )
            run = str(created.info.run_id)
        elif event.number not in self._runs:
            self._client.update_run(run, status="RUNNING")  # taken up again by another driver
        self._runs[event.number] = run
        self._client.log_batch(run, params=_params({**event.params, "seed": event.seed}))

    def _end(self, outcome: Outcome, figures: dict[str, list[Any]]) -> None:
        from mlflow.entities import RunTag

        run = self._run_of(outcome.number)
        final = {"seconds": outcome.seconds, "steps": float(outcome.steps)}
        if outcome.value is not None:
            final |= {"best": outcome.value, "best_step": float(outcome.best_step or 0)}
        metrics = figures.pop(run, []) + [_metric(k, v, outcome.time, 0) for k, v in final.items()]
        tags = {"search.state": outcome.state.value, "search.reason": outcome.reason[:_LONGEST_TAG]}
        if outcome.failure is not None:
            tags |= {"search.failure": outcome.failure.kind.value}
            tags |= {"search.traceback": outcome.failure.traceback[-_LONGEST_TAG:]}
        self._client.log_batch(run, metrics=metrics, tags=[RunTag(k, v) for k, v in tags.items()])
        self._client.set_terminated(run, _STATUS[outcome.state], end_time=_milliseconds(outcome.time))
        self._show_best(outcome)

    def _show_best(self, outcome: Outcome) -> None:
        """Draw the best value so far over the trials that ended, on the parent."""
        if outcome.value is None:
            return
        self._best = self._better(outcome.value)
        self._client.log_batch(self.parent, metrics=[_metric("best", self._best, outcome.time, outcome.number)])

    def _better(self, value: float) -> float:
        if self._best is None:
            return value
        return max(self._best, value) if self._info.maximize else min(self._best, value)

    def _run_of(self, number: int) -> str:
        if number not in self._runs:
            run = self._find(self._trial_uid(number))
            if run is None:
                raise LookupError(f"trial {number} has no run: its start was never told")
            self._runs[number] = run
        return self._runs[number]

    def _find(self, uid: str) -> str | None:
        found = self._client.search_runs([self.experiment], f"tags.`{UID}` = '{uid}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _trial_uid(self, number: int) -> str:
        return f"{self._info.uid}/{number}"


def _write_ahead(uri: str) -> None:
    """Let readers (the UI) and the writer not wait for each other; the mode stays with the file."""
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _metric(key: str, value: float, time: float, step: int) -> Any:
    from mlflow.entities import Metric

    return Metric(key, value, _milliseconds(time), step)


def _params(params: Params | Mapping[str, object]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(key, "null" if value is None else str(value)) for key, value in params.items()]


def _run_name(event: Started) -> str:
    """Return e.g. `0017 cnn`: the number and the model."""
    return f"{event.number:04d} {event.params.get('model', '')}".strip()


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
