"""The comparison finds nothing in an intact store, and each kind of damage by its name."""

import re
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from search.records import Event, Started
from search.sweep.journal import Journal
from search.tracking import compare as module
from search.tracking.compare import compare
from search.tracking.pages import UID, pages_of
from search.tracking.tracker import Summary
from tests.kits.mlflow_store import compared, damage, differences, trial_run

DAMAGES = {
    "a point deleted": (
        "DELETE FROM metrics WHERE run_uuid = {run} AND key = 'objective' AND step = 2",
        r"trial 1: objective at step 2 is missing, not 1\.2 \(1700000012001 ms\)",
    ),
    "a point changed": (
        "UPDATE metrics SET value = 9.5 WHERE run_uuid = {run} AND key = 'objective' AND step = 2",
        r"trial 1: objective at step 2 is 9\.5 \(1700000012001 ms\), not 1\.2 \(1700000012001 ms\)",
    ),
    "a time changed by a millisecond": (
        "UPDATE metrics SET timestamp = timestamp + 1 WHERE run_uuid = {run} AND key = 'train/loss' AND step = 1",
        r"trial 1: train/loss at step 1 is 1\.0 \(1700000011002 ms\), not 1\.0 \(1700000011001 ms\)",
    ),
    "a point twice": (
        """INSERT INTO metrics SELECT key, value, timestamp + 5, run_uuid, step, is_nan FROM metrics
        WHERE run_uuid = {run} AND key = 'objective' AND step = 1""",
        r"trial 1: objective at step 1 is 1\.1 \(1700000011001 ms\) and 1\.1 \(1700000011006 ms\), not 1\.1 \(.*\)",
    ),
    "a parameter missing": (
        "DELETE FROM params WHERE run_uuid = {run} AND key = 'lr'",
        r"trial 1: parameter lr is missing, not 0\.1",
    ),
    "a parameter changed": (
        "UPDATE params SET value = '7' WHERE run_uuid = {run} AND key = 'lr'",
        r"trial 1: parameter lr is 7, not 0\.1",
    ),
    "another status": (
        "UPDATE runs SET status = 'KILLED' WHERE run_uuid = {run}",
        r"trial 1: status is KILLED, not FINISHED",
    ),
    "another state": (
        "UPDATE tags SET value = 'complete' WHERE run_uuid = {run} AND key = 'search.state'",
        r"trial 1: tag search\.state is 'complete', not 'pruned'",
    ),
    "another end": (
        "UPDATE runs SET end_time = end_time + 1 WHERE run_uuid = {run}",
        r"trial 1: ended at 1700000013251 ms, not 1700000013250 ms",
    ),
    "a run deleted": (
        "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = {run}",
        r"trial 1 has no run",
    ),
    "a point of the best deleted": (
        "DELETE FROM metrics WHERE key = 'best' AND step = 1",
        r"the search: best at step 1 is missing, not 1\.2 \(1700000013250 ms\)",
    ),
}


def test_an_intact_store_shows_no_difference(told: str, study: Journal) -> None:
    done = compared(study.folder, told, "experiment")
    assert done.differences == []
    assert sorted(done.runs) == [0, 1, 2, 3, 4]
    assert done.points == 34, "two a report, four to six at an end"


@pytest.mark.parametrize(("statement", "sentence"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_named(told: str, study: Journal, statement: str, sentence: str) -> None:
    damage(told, statement)
    (found,) = differences(study.folder, told, "experiment")
    assert re.fullmatch(sentence, found)


def test_a_run_of_somebody_else_under_the_search_is_found(told: str, study: Journal) -> None:
    client = MlflowClient(tracking_uri=told)
    first = client.get_run(trial_run(told, "experiment", 0))
    tags = {"mlflow.parentRunId": first.data.tags["mlflow.parentRunId"]}
    extra = client.create_run(first.info.experiment_id, tags=tags, run_name="by hand")
    (found,) = differences(study.folder, told, "experiment")
    assert found == f"run {extra.info.run_id} (by hand) stands under the search and is none of its trials"


@pytest.mark.parametrize("number", [0, 99])
def test_a_second_run_and_one_of_no_trial_are_found(told: str, study: Journal, number: int) -> None:
    client = MlflowClient(tracking_uri=told)
    first = client.get_run(trial_run(told, "experiment", 0))
    extra = client.create_run(first.info.experiment_id, start_time=1, tags={UID: f"{study.uid}/{number}"})
    (found,) = compared(study.folder, told, "experiment").differences
    assert str(found) == f"trial {number} has a run too many ({extra.info.run_id})"
    assert found.wrong_run == extra.info.run_id


def test_a_metric_and_a_parameter_that_the_study_does_not_know_are_found(told: str, study: Journal) -> None:
    client = MlflowClient(tracking_uri=told)
    run = trial_run(told, "experiment", 0)
    client.log_batch(run, metrics=[Metric("mine", 1.0, 5, 3)])
    client.log_param(run, "mine", "x")
    assert differences(study.folder, told, "experiment") == [
        "trial 0: parameter mine is x, not there",
        "trial 0: mine at step 3 is 1.0 (5 ms), not missing",
    ]


def test_a_trial_more_in_the_study_is_found(told: str, study: Journal) -> None:
    begun: Event = Started(number=5, params={}, seed=0, time=1.0)
    study.append(begun)
    assert differences(study.folder, told, "experiment") == ["trial 5 has no run"]


def test_a_search_without_its_run_is_found(told: str, study: Journal) -> None:
    client = MlflowClient(tracking_uri=told)
    parent = client.get_run(trial_run(told, "experiment", 0)).data.tags["mlflow.parentRunId"]
    client.delete_run(parent)
    found = differences(study.folder, told, "experiment")
    assert found[0] == "the search has no run"
    assert found[1].endswith(f"tag mlflow.parentRunId is {parent!r}, not ''")


def test_results_that_are_missing_are_found(told: str, study: Journal) -> None:
    client = MlflowClient(tracking_uri=told)
    experiment = client.get_run(trial_run(told, "experiment", 0)).info.experiment_id
    pages = pages_of((event for event, _ in study.events()), maximize=True)
    summary = Summary(metrics={"test/greedy": 0.9}, note="a table", files=(), time=1000.0)
    done = compare(client, experiment, study.uid, pages, summary)
    assert [str(d) for d in done.differences] == [
        "the search: test/greedy is missing, not 0.9",
        "the search: the note is another one",
    ]


def test_many_runs_are_read_in_pages(told: str, study: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RUNS_AT_ONCE", 2)
    assert compared(study.folder, told, "experiment").points == 34
    assert differences(study.folder, told, "experiment") == []


def test_the_wrong_study_has_nothing_in_common(told: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.mktemp("other")
    journal = Journal(folder, maximize=True)
    journal.append(Started(number=0, params={}, seed=0, time=1.0))
    journal.close()
    assert differences(folder, told, "experiment") == ["the search has no run", "trial 0 has no run"]
