"""Events in, MLflow runs out: over real stores."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from search.errors import UsageError
from search.records import (
    Decision,
    Event,
    Failure,
    FailureKind,
    Measured,
    ParamValue,
    Report,
    Retried,
    Started,
    TrialState,
    Verdict,
)
from search.sweep.journal import Journal
from search.tracking.pages import pages_of
from search.tracking.projection import LostRunError, Projection, store_uri
from search.tracking.tracker import SearchInfo, Summary
from tests.kits.doubles import outcome
from tests.kits.mlflow_store import differences, trial_run
from tests.tracking.conftest import LOST, everything, open_projection

INFO = SearchInfo(uid="u1", name="mine", maximize=True, params={"seed": 0}, tags={"search.name": "mine"})


def events_of(number: int, state: TrialState, value: float | None, failure: Failure | None = None) -> list[Event]:
    params: dict[str, ParamValue] = {"model": "cnn", "model.width": 8, "optimizer.lr": 0.1 * (number + 1)}
    reports = [
        Report(number=number, step=s, metrics={"objective": s / 10, "val/loss": 1 / s}, time=1000.0 + s) for s in (1, 2)
    ]
    return [
        Started(number=number, params=params, seed=5, time=1000.0),
        *reports,
        Decision(number=number, step=2, verdict=Verdict.STOP, reason="rung", time=1002.0),
        outcome(number, state, value, 2, "why it ended", failure),
    ]


EVENTS = [
    *events_of(0, TrialState.COMPLETE, 0.2),
    *events_of(1, TrialState.PRUNED, 0.1),
    *events_of(2, TrialState.FAILED, None, Failure(kind=FailureKind.EXCEPTION, message="m", traceback="line 7")),
]


def project(store: str, folder: Path, events: list[Event], before: list[Event] | None = None) -> Projection:
    projection = Projection(store, "experiment", folder, INFO)
    projection.go_on_after(before or [])
    projection.apply(events)
    return projection


def runs(store: str) -> dict[str, Run]:
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("experiment")
    assert experiment is not None
    return {r.data.tags["search.uid"]: r for r in client.search_runs([experiment.experiment_id])}


def history(store: str, run: Run, key: str) -> list[tuple[int, float, int]]:
    points = MlflowClient(tracking_uri=store).get_metric_history(run.info.run_id, key)
    return sorted((p.step, p.value, p.timestamp) for p in points)


def test_a_parent_and_a_nested_run_per_trial(store: str, tmp_path: Path) -> None:
    projection = project(store, tmp_path, EVENTS)
    found = runs(store)
    assert set(found) == {"u1", "u1/0", "u1/1", "u1/2"}
    assert found["u1"].info.run_id == projection.parent
    for number in range(3):
        tags = found[f"u1/{number}"].data.tags
        assert tags["mlflow.parentRunId"] == projection.parent
        assert tags["search.number"] == str(number)
        assert tags["mlflow.runName"] == f"000{number} cnn"


def test_parameters_states_and_reasons(store: str, tmp_path: Path) -> None:
    project(store, tmp_path, EVENTS)
    found = runs(store)
    assert found["u1/0"].data.params == {"model": "cnn", "model.width": "8", "optimizer.lr": "0.1", "seed": "5"}
    assert [found[f"u1/{n}"].data.tags["search.state"] for n in range(3)] == ["complete", "pruned", "failed"]
    assert [found[f"u1/{n}"].info.status for n in range(3)] == ["FINISHED", "FINISHED", "FAILED"]
    assert found["u1/1"].data.tags["search.reason"] == "why it ended"
    assert found["u1/2"].data.tags["search.failure"] == "exception"
    assert found["u1/2"].data.tags["search.traceback"] == "line 7"


def test_curves_carry_step_and_time_of_measurement(store: str, tmp_path: Path) -> None:
    project(store, tmp_path, EVENTS)
    found = runs(store)
    assert history(store, found["u1/0"], "objective") == [(1, 0.1, 1_001_000), (2, 0.2, 1_002_000)]
    assert found["u1/0"].data.metrics["best"] == 0.2
    assert [value for _, value, _ in history(store, found["u1"], "best")] == [0.2, 0.2]


def test_a_paused_trial_rests_and_runs_again(told: str, store: str, study: Journal) -> None:
    found = {uid.partition("/")[2]: run for uid, run in runs(store).items()}
    assert (found["3"].info.status, found["3"].data.tags["search.state"]) == ("SCHEDULED", "paused")
    assert (found["4"].info.status, found["4"].data.tags["search.state"]) == ("RUNNING", "running")
    again = Started(number=3, params={"model": "cnn", "lr": 0.1 * 3}, seed=3, time=1_700_000_050.0)
    open_projection(store, study).apply([again])
    run = runs(store)[f"{study.uid}/3"]
    assert (run.info.status, run.data.tags["search.state"]) == ("RUNNING", "running")
    study.append(again)
    assert differences(study.folder, store, "experiment") == []


def test_another_attempt_is_counted_with_what_ended_the_one_before(told: str, store: str, study: Journal) -> None:
    tags = runs(store)[f"{study.uid}/2"].data.tags
    assert tags["search.attempts"] == "2"
    assert tags["search.retried"] == "lost-worker: the worker died"
    assert tags["search.failure"] == "exception", "how it ended"
    assert "search.attempts" not in runs(store)[f"{study.uid}/0"].data.tags


def test_attempts_are_counted_across_restarts(told: str, store: str, study: Journal) -> None:
    projection = open_projection(store, study)
    projection.go_on_after([event for event, _ in study.events()])
    projection.apply([Retried(number=2, failure=LOST, time=5.0)])
    assert runs(store)[f"{study.uid}/2"].data.tags["search.attempts"] == "3"


def test_memory_is_shown_in_megabytes(told: str, store: str, study: Journal) -> None:
    metrics = runs(store)[f"{study.uid}/0"].data.metrics
    assert (metrics["memory/host_mb"], metrics["memory/device_mb"]) == (300.0, 2.5)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_batches_of_any_size_give_the_same(store: str, study: Journal, size: int) -> None:
    projection = open_projection(store, study)
    for start in range(0, len(everything()), size):
        projection.apply(everything()[start : start + size])
    assert differences(study.folder, store, "experiment") == []


@pytest.mark.parametrize("cut", [3, 8, 14])
def test_a_batch_cut_short_and_told_again_gives_the_same(store: str, study: Journal, cut: int) -> None:
    events = everything()
    open_projection(store, study).apply(events[:cut])
    again = open_projection(store, study)
    again.go_on_after(events[: cut - 3])
    again.apply(events[cut - 3 :])
    assert differences(study.folder, store, "experiment") == []


def test_a_deleted_experiment_is_restored(told: str, store: str, study: Journal) -> None:
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("experiment")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    open_projection(store, study).apply(everything())
    assert differences(study.folder, store, "experiment") == []


def test_a_run_deleted_meanwhile_is_told_of(told: str, store: str, study: Journal) -> None:
    projection = open_projection(store, study)
    projection.apply(everything())
    MlflowClient(tracking_uri=store).delete_run(trial_run(store, "experiment", 1))
    with pytest.raises(LostRunError):
        projection.apply(everything()[-2:] + everything()[5:7])


def test_told_twice_is_told_once(store: str, tmp_path: Path) -> None:
    project(store, tmp_path, EVENTS)
    before = {uid: (r.data.params, r.data.metrics, r.data.tags, r.info.status) for uid, r in runs(store).items()}
    project(store, tmp_path, EVENTS)
    after = runs(store)
    assert {uid: (r.data.params, r.data.metrics, r.data.tags, r.info.status) for uid, r in after.items()} == before
    assert len(history(store, after["u1/0"], "objective")) == 2
    assert len(history(store, after["u1"], "best")) == 2


def test_a_trial_started_again_keeps_its_run(store: str, tmp_path: Path) -> None:
    project(store, tmp_path, [EVENTS[0], EVENTS[1], EVENTS[0], *EVENTS[2:5]])
    assert set(runs(store)) == {"u1", "u1/0"}


def test_the_curve_of_the_best_goes_on_where_it_was(store: str, tmp_path: Path) -> None:
    project(store, tmp_path, EVENTS[:5])
    project(store, tmp_path, EVENTS[5:10], before=EVENTS[:5])
    assert [value for _, value, _ in history(store, runs(store)["u1"], "best")] == [0.2, 0.2]


def test_a_search_cut_in_two_is_one_search(store: str, tmp_path: Path) -> None:
    project(store, tmp_path, EVENTS[:2])
    project(store, tmp_path, EVENTS[2:], before=EVENTS[:2])
    found = runs(store)
    assert set(found) == {"u1", "u1/0", "u1/1", "u1/2"}
    assert history(store, found["u1/0"], "objective") == [(1, 0.1, 1_001_000), (2, 0.2, 1_002_000)]


def test_results_stand_on_the_parent(store: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text("{}")
    projection = project(store, tmp_path, [])
    projection.summarize(Summary(metrics={"test/greedy": 0.98}, note="| a table |", files=(file,), time=1000.0))
    projection.end("FINISHED")
    parent = runs(store)["u1"]
    assert parent.data.metrics["test/greedy"] == 0.98
    assert parent.data.tags["mlflow.note.content"] == "| a table |"
    assert parent.info.status == "FINISHED"
    artifacts = MlflowClient(tracking_uri=store).list_artifacts(parent.info.run_id)
    assert [a.path for a in artifacts] == ["results.json"]


def test_non_finite_figures_are_kept(store: str, tmp_path: Path) -> None:
    events: list[Event] = [
        Started(number=0, params={}, seed=0, time=1.0),
        Report(number=0, step=1, metrics={"train/loss": float("nan")}, time=2.0),
    ]
    project(store, tmp_path, events)
    (_, value, _) = history(store, runs(store)["u1/0"], "train/loss")[0]
    assert value != value


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (None, "sqlite:///{folder}/mlflow.db"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("sqlite:///b.db", "sqlite:///{cwd}/b.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
    ],
)
def test_where_runs_are_kept(uri: str | None, expected: str, tmp_path: Path) -> None:
    assert store_uri(uri, tmp_path) == expected.format(folder=tmp_path, cwd=Path.cwd())


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns"])
def test_file_stores_are_refused_with_what_to_write(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"tracking\.uri={uri}: MLflow 3 keeps runs in a database; e\.g\. sqlite:///"):
        store_uri(uri, tmp_path)


def test_outcomes_without_value_leave_the_best_alone(store: str, tmp_path: Path) -> None:
    failed: Any = events_of(0, TrialState.FAILED, None)
    project(store, tmp_path, failed)
    assert "best" not in runs(store)["u1"].data.metrics


def test_several_objectives_are_a_figure_each() -> None:
    ended = dataclasses.replace(outcome(0, TrialState.COMPLETE, None, 1), values=(0.25, 4.0))
    page = pages_of([Started(number=0, params={}, seed=0, time=1.0), ended], maximize=False).trials[0]
    assert {(p.key, p.value) for p in page.points} >= {("best_0", 0.25), ("best_1", 4.0)}


def test_a_measurement_is_no_trial() -> None:
    measured = Measured(number=7, shape="a", rates={"1": 1.0}, size=1, reason="alone", seconds=1.0, time=1000.0)
    with_it, without = (pages_of(events, maximize=True) for events in ([*EVENTS, measured], EVENTS))
    assert with_it == without
