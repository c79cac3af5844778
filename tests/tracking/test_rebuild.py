"""Whatever became of a search in MLflow, it can be rebuilt from the study."""

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from search.sweep.journal import Journal
from search.tracking.pages import UID, pages_of
from search.tracking.projection import Projection
from search.tracking.rebuild import Rebuilt, rebuild
from search.tracking.tracker import Summary
from tests.kits.mlflow_store import damage, differences, trial_run
from tests.tracking.conftest import open_projection
from tests.tracking.test_compare import DAMAGES

SUMMARY = Summary(metrics={"test/greedy": 0.9}, note="a table", files=(), time=1_700_000_100.0)


def rebuilt(store: str, journal: Journal) -> Rebuilt:
    pages = pages_of((event for event, _ in journal.events()), maximize=True)
    ended = ("KILLED", 1_700_000_099.0)
    told: list[int] = []
    done = rebuild(
        lambda: open_projection(store, journal),
        journal.uid,
        pages,
        SUMMARY,
        ended=ended,
        told=lambda done, of, points: told.append(done),
    )
    assert told == list(range(1, len(told) + 1))
    return done


def parent(store: str) -> str:
    client = MlflowClient(tracking_uri=store)
    return str(client.get_run(trial_run(store, "experiment", 0)).data.tags["mlflow.parentRunId"])


@pytest.mark.parametrize("statement", [statement for statement, _ in DAMAGES.values()], ids=DAMAGES)
def test_every_damage_is_mended(told: str, study: Journal, statement: str) -> None:
    damage(told, statement)
    done = rebuilt(told, study)
    assert len(done.before.differences) == 3, "the damage, and two of results that were never told"
    assert done.after.differences == []
    assert differences(study.folder, told, "experiment") == []


def test_an_empty_store_gets_everything(store: str, study: Journal) -> None:
    assert rebuilt(store, study).after.differences == []
    run = MlflowClient(tracking_uri=store).get_run(parent(store))
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_000, 1_700_000_099_000)
    assert run.info.status == "KILLED"
    assert run.data.tags["mlflow.note.content"] == "a table"


def test_what_is_right_is_not_written_again(told: str, study: Journal) -> None:
    rebuilt(told, study)
    client = MlflowClient(tracking_uri=told)
    before = [trial_run(told, "experiment", number) for number in range(5)]
    done = rebuilt(told, study)
    assert done.before.differences == []
    assert [trial_run(told, "experiment", number) for number in range(5)] == before
    assert len(client.get_metric_history(parent(told), "test/greedy")) == 1


def test_a_run_too_many_is_put_into_the_trash(told: str, study: Journal) -> None:
    client = MlflowClient(tracking_uri=told)
    experiment = client.get_run(parent(told)).info.experiment_id
    extra = client.create_run(experiment, start_time=1, tags={UID: f"{study.uid}/0"}).info.run_id
    assert rebuilt(told, study).after.differences == []
    assert client.get_run(extra).info.lifecycle_stage == "deleted"


def test_a_run_of_somebody_else_is_named_and_left_alone(told: str, study: Journal) -> None:
    client = MlflowClient(tracking_uri=told)
    experiment = client.get_run(parent(told)).info.experiment_id
    extra = client.create_run(experiment, tags={"mlflow.parentRunId": parent(told)}).info.run_id
    (left,) = rebuilt(told, study).after.differences
    assert extra in str(left)
    assert client.get_run(extra).info.lifecycle_stage == "active"


@pytest.mark.parametrize("with_trials", [False, True])
def test_a_deleted_search_comes_back_as_a_new_run_over_its_trials(
    told: str, study: Journal, *, with_trials: bool
) -> None:
    client = MlflowClient(tracking_uri=told)
    old = parent(told)
    for number in range(5 if with_trials else 0):
        client.delete_run(trial_run(told, "experiment", number))
    client.delete_run(old)
    assert rebuilt(told, study).after.differences == []
    assert parent(told) != old
    assert client.get_run(old).info.lifecycle_stage == "deleted"


def test_a_wrong_point_on_the_search_makes_a_new_run_of_it(told: str, study: Journal) -> None:
    old = parent(told)
    damage(told, "UPDATE metrics SET value = 77 WHERE key = 'best' AND step = 1 AND run_uuid = ?", old)
    assert rebuilt(told, study).after.differences == []
    assert parent(told) != old


def test_a_deleted_experiment_is_restored(told: str, study: Journal) -> None:
    client = MlflowClient(tracking_uri=told)
    client.delete_experiment(client.get_run(parent(told)).info.experiment_id)
    assert rebuilt(told, study).after.differences == []


def test_what_mlflow_refuses_is_told_and_left(store: str, study: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Projection.write

    def refusing(self: Projection, page: object) -> None:
        if getattr(page, "number", None) == 2:
            raise MlflowException.invalid_parameter_value("too bad")
        write(self, page)  # type: ignore[arg-type]

    monkeypatch.setattr(Projection, "write", refusing)
    done = rebuilt(store, study)
    assert done.refused == ["trial 2: too bad"]
    assert [str(d) for d in done.after.differences] == ["trial 2 has no run"]
