"""Who is told of a sweep beside its own record: an Optuna storage of the user's, and MLflow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from search.apps.driving import DELIVERING
from search.apps.sweeper.settings import Settings
from search.sweep.copy import StorageCopy
from search.sweep.journal import Journal
from search.sweep.study import Study
from search.tracking.outbox import MlflowTracker, delivered
from search.tracking.projection import Projection, prepare_mlflow, store_uri
from search.tracking.tracker import NullTracker, SearchInfo, Tracker

_NAME = "name"
"""Attribute of a sweep that was told to others: the name by which they know it."""


class Followers:
    """Makes them as the settings want them."""

    def __init__(self, settings: Settings, jobs: Path, folder: Path, console: Console) -> None:
        """`jobs` is the sweep's folder, `folder` that of its record; raises UsageError for no address of MLflow's."""
        self._settings, self._jobs, self._folder, self._console = settings, jobs, folder, console
        wanted = settings.tracking_uri
        self._uri = None if wanted is None else store_uri(None if wanted == "sqlite" else wanted, jobs)

    def storage(self, study: Study) -> StorageCopy | None:
        """Return what copies trials to the user's storage, if wanted; raise UsageError where that cannot be."""
        settings = self._settings
        if settings.storage is None:
            return None
        name = self._name(study.journal)
        return StorageCopy(settings.storage, name, settings.maximize, study, key="hydra.sweeper.storage")

    def finish(self, copy: StorageCopy | None) -> None:
        """Copy what the storage missed; say so where that cannot be."""
        if copy is not None and (problem := copy.finish()):
            self._console.print(problem, style="red", markup=False)

    @contextlib.contextmanager
    def tracked(self, journal: Journal) -> Iterator[list[str]]:
        """Follow the sweep in MLflow, if wanted; the last entry of what is yielded says how it ended."""
        status = ["KILLED"]
        tracker = self._tracker(journal)
        try:
            yield status
        finally:
            patience = DELIVERING * self._settings.grace if status[-1] == "KILLED" else None
            if problem := tracker.finish(status[-1], patience):
                self._console.print(f"not everything stands in MLflow: {problem}", style="red", markup=False)

    def catch_up(self, study: Study) -> None:
        """Tell storage and MLflow what they missed of a complete sweep."""
        self.finish(self.storage(study))
        if self._uri is None:
            return
        told = delivered(self._folder, self._uri)
        if told is None or told.position != study.journal.size() or not told.ended:
            with self.tracked(study.journal) as status:
                status.append("FINISHED")

    def _tracker(self, journal: Journal) -> Tracker:
        settings, uri = self._settings, self._uri
        if uri is None:
            return NullTracker()
        prepare_mlflow()
        first = next((event for event, _ in journal.events()), None)
        info = SearchInfo(
            uid=journal.uid,
            name=self._name(journal),
            maximize=settings.maximize[0],
            params={"sampler": settings.sampler, "pruner": settings.pruner, "seed": settings.seed},
            files=(self._jobs / "multirun.yaml",),
            began=None if first is None else first.time,
        )
        return MlflowTracker(
            lambda: Projection(uri, settings.experiment, self._jobs, info), journal.events, uri, self._folder
        )

    def _name(self, journal: Journal) -> str:
        """Return the study's name when it began: by default it has the time in it."""
        if _NAME not in journal.attributes:
            journal.set_attribute(_NAME, self._settings.study_name)
        return str(journal.attributes[_NAME])
