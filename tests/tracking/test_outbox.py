"""The background delivery: it follows the event log, survives a server that is away, and goes on after a restart."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from search.records import Event, Report, Started, TrialState
from search.sweep.journal import Journal
from search.tracking import outbox
from search.tracking.outbox import Delivered, MlflowTracker, delivered
from search.tracking.projection import Projection
from search.tracking.tracker import NullTracker, SearchInfo, Summary, Tracker
from tests.kits.doubles import outcome
from tests.kits.mlflow_store import differences, trial_run

INFO = SearchInfo(uid="u1", name="mine", maximize=True, params={})
SUMMARY = Summary(metrics={"test/greedy": 0.9}, note="a table", files=(), time=1000.0)


class Server:
    """Opens projections of a store, or fails as a server that is away does."""

    def __init__(
        self, store: str, folder: Path, failures: int = 0, error: Exception | None = None, uid: str = "u1"
    ) -> None:
        self.uid = uid
        self.store, self.folder, self.failures = store, folder, failures
        self.error = error or ConnectionError("connection refused")

    def __call__(self) -> Projection:
        if self.failures:
            self.failures -= 1
            raise self.error
        return Projection(self.store, "experiment", self.folder, replace(INFO, uid=self.uid))


def events_of(number: int, key: str = "objective") -> list[Event]:
    return [
        Started(number=number, params={"x": number}, seed=0, time=1.0),
        Report(number=number, step=1, metrics={key: 0.5}, time=2.0),
        outcome(number, TrialState.COMPLETE, 0.5, 1, time=3.0),  # an end at 0 is none to MLflow: it takes now instead
    ]


def write(journal: Journal, numbers: range, key: str = "objective") -> None:
    for number in numbers:
        journal.create({}, {})
        for event in events_of(number, key):
            journal.append(event)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path, maximize=True)
    yield journal
    journal.close()


def deliver(server: Server, folder: Path, journal: Journal) -> str | None:
    return MlflowTracker(server, journal.events, server.store, folder).finish("FINISHED")


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


def test_everything_is_delivered_and_noted(store: str, tmp_path: Path, journal: Journal) -> None:
    write(journal, range(3))
    assert deliver(Server(store, tmp_path), tmp_path, journal) is None
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED", "2 FINISHED"]
    state = delivered(tmp_path, store)
    assert state is not None
    assert state.position == journal.size()


def test_what_is_logged_meanwhile_is_followed(store: str, tmp_path: Path, journal: Journal) -> None:
    tracker = MlflowTracker(Server(store, tmp_path), journal.events, store, tmp_path)
    for number in range(3):
        write(journal, range(number, number + 1))
        time.sleep(0.1)
    assert tracker.finish("FINISHED") is None
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED", "2 FINISHED"]


def test_a_server_that_comes_back_gets_everything(store: str, tmp_path: Path, journal: Journal) -> None:
    write(journal, range(2))
    assert deliver(Server(store, tmp_path, failures=3), tmp_path, journal) is None
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED"]


def test_a_server_that_stays_away_is_told_later(
    store: str, tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_PATIENCE_SECONDS", 0.2)
    write(journal, range(2))
    problem = deliver(Server(store, tmp_path, failures=10_000), tmp_path, journal)
    assert problem == "MLflow is away (connection refused); the same command delivers it later"
    assert delivered(tmp_path, store) is None
    assert deliver(Server(store, tmp_path), tmp_path, journal) is None
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED"]


def test_a_server_that_refuses_is_not_asked_again(store: str, tmp_path: Path, journal: Journal) -> None:
    server = Server(store, tmp_path, failures=10_000, error=MlflowException.invalid_parameter_value("bad experiment"))
    assert deliver(server, tmp_path, journal) == "MLflow refuses it: bad experiment"
    assert server.failures == 9_999


def test_a_refused_event_does_not_take_others_with_it(store: str, tmp_path: Path, journal: Journal) -> None:
    write(journal, range(1))
    write(journal, range(1, 2), key="k" * 300 + "(")
    write(journal, range(2, 3))
    problem = deliver(Server(store, tmp_path), tmp_path, journal)
    assert problem is not None
    assert problem.startswith("MLflow refused an event of trial 1: ")
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED", "2 FINISHED"]


def test_a_restart_tells_only_what_is_missing(store: str, tmp_path: Path, journal: Journal) -> None:
    write(journal, range(1))
    assert deliver(Server(store, tmp_path), tmp_path, journal) is None
    before = journal.size()
    write(journal, range(1, 2))
    asked: list[int] = []

    def follow(start: int) -> list[tuple[Event, int]]:
        asked.append(start)
        return list(journal.events(start))

    assert MlflowTracker(Server(store, tmp_path), follow, store, tmp_path).finish("FINISHED") is None
    assert asked[1] == before, "the first look back is for the best value so far"
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED"]


def test_a_store_that_lost_the_search_is_told_everything_again(
    store: str, migrated_store: Path, tmp_path: Path, journal: Journal
) -> None:
    write(journal, range(2))
    deliver(Server(store, tmp_path), tmp_path, journal)
    path = Path(store.removeprefix("sqlite:///"))
    for file in tmp_path.glob("mlflow.db*"):
        file.unlink()
    assert delivered(tmp_path, store) is None
    path.write_bytes(migrated_store.read_bytes())
    assert deliver(Server(store, tmp_path), tmp_path, journal) is None
    assert trial_runs(store) == ["0 FINISHED", "1 FINISHED"]


def test_a_run_deleted_meanwhile_is_made_again_with_all_its_points(
    store: str, tmp_path: Path, journal: Journal
) -> None:
    write(journal, range(2))
    journal.append(Started(number=2, params={}, seed=0, time=1.0))
    tracker = MlflowTracker(Server(store, tmp_path, uid=journal.uid), journal.events, store, tmp_path)
    deadline = time.monotonic() + 20
    while (
        delivered(tmp_path, store) or Delivered(store="", position=0, experiment="", run="")
    ).position < journal.size():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    journal.append(Report(number=2, step=1, metrics={"objective": 0.7}, time=2.0))
    for number in (0, 2):
        MlflowClient(tracking_uri=store).delete_run(trial_run(store, "experiment", number))
    journal.append(Report(number=2, step=2, metrics={"objective": 0.8}, time=3.0))
    assert tracker.finish("FINISHED") is None
    assert differences(tmp_path, store, "experiment") == []


def test_a_server_that_never_answers_is_given_up_after_the_patience(tmp_path: Path, journal: Journal) -> None:
    hang = threading.Event()

    def opened() -> Projection:
        hang.wait(60)
        raise ConnectionError("at last")

    tracker = MlflowTracker(opened, journal.events, "http://127.0.0.1:9", tmp_path)
    began = time.monotonic()
    assert tracker.finish("KILLED", 0.3) == (
        "MLflow has not taken everything in 0.3 s; the same command delivers it later"
    )
    assert time.monotonic() - began < 2
    hang.set()


def test_a_search_that_goes_on_runs_again(store: str, tmp_path: Path, journal: Journal) -> None:
    assert MlflowTracker(Server(store, tmp_path), journal.events, store, tmp_path).finish("KILLED") is None
    state = delivered(tmp_path, store)
    assert state is not None
    assert state.ended
    client = MlflowClient(tracking_uri=store)
    assert client.get_run(state.run).info.status == "KILLED"
    tracker = MlflowTracker(Server(store, tmp_path), journal.events, store, tmp_path)
    deadline = time.monotonic() + 20
    while client.get_run(state.run).info.status != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = delivered(tmp_path, store)
    assert again is not None
    assert not again.ended
    assert tracker.finish("FINISHED") is None
    assert client.get_run(state.run).info.status == "FINISHED"


def test_a_summary_is_told_once(store: str, tmp_path: Path, journal: Journal) -> None:
    for _ in range(2):
        tracker = MlflowTracker(Server(store, tmp_path), journal.events, store, tmp_path)
        tracker.summarize(SUMMARY)
        assert tracker.finish("FINISHED") is None
    state = delivered(tmp_path, store)
    assert isinstance(state, Delivered)
    points = MlflowClient(tracking_uri=store).get_metric_history(state.run, "test/greedy")
    assert len(points) == 1
    assert state.told == outbox.summary_digest(SUMMARY)


def test_a_trial_that_is_drawn_again_is_told_again(tmp_path: Path) -> None:
    summary, file = replace(SUMMARY, looks={3: tmp_path}), tmp_path / "look-weights.png"
    file.write_bytes(b"one")
    before = outbox.summary_digest(summary)
    assert outbox.summary_digest(summary) == before
    file.write_bytes(b"another")
    assert outbox.summary_digest(summary) != before


def test_results_that_mlflow_refuses_do_not_keep_it_from_the_trials(
    store: str, tmp_path: Path, journal: Journal
) -> None:
    tracker = MlflowTracker(Server(store, tmp_path), journal.events, store, tmp_path)
    tracker.summarize(replace(SUMMARY, metrics={"a name with @": 1.0}))
    write(journal, range(3))
    problem = tracker.finish("FINISHED")
    assert problem is not None
    assert problem.startswith("MLflow refused some of the results: ")
    state = delivered(tmp_path, store)
    assert state is not None
    client = MlflowClient(tracking_uri=store)
    trials = client.search_runs([state.experiment], f"tags.`mlflow.parentRunId` = '{state.run}'")
    assert [trial.info.status for trial in trials] == ["FINISHED"] * 3
    assert client.get_run(state.run).info.status == "FINISHED"


def test_no_address_stands_in_the_note(store: str, tmp_path: Path, journal: Journal) -> None:
    deliver(Server(store, tmp_path), tmp_path, journal)
    assert store not in (tmp_path / "tracking.json").read_text()
    assert delivered(tmp_path, "sqlite:////elsewhere.db") is None


def test_the_null_tracker_is_a_tracker() -> None:
    tracker: Tracker = NullTracker()
    tracker.summarize(SUMMARY)
    assert (tracker.parent_run(), tracker.finish("FINISHED")) == (None, None)
