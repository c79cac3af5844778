"""The background delivery: batches, a server that is away, and what a restart still has to say."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.records import Event, Report, Started, TrialState
from search.sweep.journal import Journal
from search.tracking import outbox
from search.tracking.outbox import MlflowTracker, delivered
from search.tracking.projection import Projection
from search.tracking.tracker import NullTracker, SearchInfo, Tracker
from tests.kits.doubles import outcome

INFO = SearchInfo(uid="u1", name="mine", maximize=True, params={})


class Server:
    """Opens projections of a store, or fails as a server that is away does."""

    def __init__(self, store: str, folder: Path, failures: int = 0) -> None:
        self.store, self.folder, self.failures = store, folder, failures

    def __call__(self, resumed: bool) -> Projection:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("connection refused")
        return Projection(self.store, "experiment", self.folder, INFO, resumed=resumed)


def write_events(folder: Path, num_trials: int) -> Journal:
    """Make a study of trials with one report each; the caller closes it."""
    journal = Journal(folder, maximize=True)
    for number in range(num_trials):
        journal.create({}, {})
        events: list[Event] = [
            Started(number=number, params={"x": number}, seed=0, time=1.0),
            Report(number=number, step=1, metrics={"objective": 0.5}, time=2.0),
            outcome(number, TrialState.COMPLETE, 0.5, 1),
        ]
        for event in events:
            journal.append(event)
    return journal


def deliver(server: Server, folder: Path, journal: Journal, *, most: int = 1000) -> str | None:
    tracker = MlflowTracker(server, server.store, folder)
    for event, position in list(journal.events(start=tracker.position))[:most]:
        tracker.record(event, position)
    return tracker.finish("FINISHED")


def trial_runs(store: str) -> list[str]:
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("experiment")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`search.number` != ''")
    return sorted(r.data.tags["search.number"] + " " + r.info.status for r in found)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(outbox, "_BATCH_SECONDS", 0.05)


def test_everything_is_delivered_and_noted(store: str, tmp_path: Path) -> None:
    journal = write_events(tmp_path, 3)
    assert deliver(Server(store, tmp_path), tmp_path, journal) is None
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED", "2 FINISHED"]
    state = delivered(tmp_path, store)
    assert state is not None
    assert state.position == journal.size()
    journal.close()


def test_a_server_that_comes_back_gets_everything(store: str, tmp_path: Path) -> None:
    journal = write_events(tmp_path, 2)
    assert deliver(Server(store, tmp_path, failures=3), tmp_path, journal) is None
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED"]
    journal.close()


def test_a_server_that_stays_away_is_told_later(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_PATIENCE_SECONDS", 0.2)
    journal = write_events(tmp_path, 2)
    problem = deliver(Server(store, tmp_path, failures=10_000), tmp_path, journal)
    assert problem is not None
    assert "connection refused" in problem
    assert delivered(tmp_path, store) is None
    assert deliver(Server(store, tmp_path), tmp_path, journal) is None
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED"]
    journal.close()


def test_a_restart_tells_only_what_is_missing(store: str, tmp_path: Path) -> None:
    journal = write_events(tmp_path, 2)
    deliver(Server(store, tmp_path), tmp_path, journal, most=4)
    tracker = MlflowTracker(Server(store, tmp_path), store, tmp_path)
    assert len(list(journal.events(start=tracker.position))) == 2
    tracker.finish("KILLED")
    assert deliver(Server(store, tmp_path), tmp_path, journal) is None
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED"]
    journal.close()


def test_another_store_is_told_from_the_beginning(store: str, tmp_path: Path) -> None:
    journal = write_events(tmp_path, 1)
    deliver(Server(store, tmp_path), tmp_path, journal)
    assert delivered(tmp_path, "sqlite:////elsewhere.db") is None
    journal.close()


def test_the_null_tracker_is_a_tracker() -> None:
    tracker: Tracker = NullTracker()
    tracker.record(Started(number=0, params={}, seed=0, time=0.0), 10)
    tracker.summarize({}, "", ())
    assert (tracker.position, tracker.parent_run(), tracker.finish("FINISHED")) == (0, None, None)
