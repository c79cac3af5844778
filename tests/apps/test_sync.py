"""The stage sync, as a user runs it after something became of a search in MLflow."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.sweep.journal import read_events
from tests.kits.commands import events, search
from tests.kits.mlflow_store import damage, differences, trial_run

pytestmark = pytest.mark.slow

SEARCH = ("model=linear", "budget.trials=4", "trainer.epochs=3")
SYNC = (*SEARCH, "stages=[sync]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    search(folder, *SEARCH)
    return folder


def test_a_search_that_was_delivered_shows_no_difference(folder: Path) -> None:
    study = folder / "outputs" / "digits"
    before = (study / "config.yaml").read_bytes()
    assert differences(study, f"sqlite:///{study / 'mlflow.db'}", "digits") == []
    printed = search(folder, *SYNC)
    assert "MLflow has 4 trials, " in printed
    assert printed.endswith("points: nothing differed\n")
    assert "starting the workers" not in printed
    assert (study / "config.yaml").read_bytes() == before, "it stays the search's"


def test_deleted_runs_and_changed_figures_are_mended(folder: Path) -> None:
    study = folder / "outputs" / "digits"
    uri = f"sqlite:///{study / 'mlflow.db'}"
    MlflowClient(tracking_uri=uri).delete_run(trial_run(uri, "digits", 0))
    damage(uri, "UPDATE metrics SET value = 9.5 WHERE run_uuid = {run} AND key = 'objective' AND step = 1")
    assert len(differences(study, uri, "digits")) == 2
    assert search(folder, *SYNC).endswith(": 2 differences mended\n")
    assert differences(study, uri, "digits") == []
    again = search(folder, *SEARCH)
    assert "starting the workers" not in again
    assert differences(study, uri, "digits") == []


def test_another_store_gets_the_search_with_its_results(folder: Path) -> None:
    study, uri = folder / "outputs" / "digits", f"sqlite:///{folder / 'other.db'}"
    search(folder, *SYNC, f"tracking.uri={uri}")
    assert differences(study, uri, "digits") == []
    client = MlflowClient(tracking_uri=uri)
    parent = client.get_run(client.get_run(trial_run(uri, "digits", 0)).data.tags["mlflow.parentRunId"])
    results = json.loads((study / "results.json").read_text())
    greedy = next(c for c in results["contenders"] if c["name"] == "greedy ensemble")
    assert parent.data.metrics["test/greedy_ensemble"] == greedy["test"]["value"]
    judged = {path.name for path in (study / "judgement").glob("*.png")}
    assert len(judged) == 3
    assert {a.path for a in client.list_artifacts(parent.info.run_id)} == {"config.yaml", "results.json"} | judged
    assert parent.info.status == "FINISHED"
    first = next(event for event, _ in read_events(study))
    assert parent.info.start_time == int(first.time * 1000)
    ended = {e["number"]: int(e["time"] * 1000) for e in events(study, "outcome")}
    assert client.get_run(trial_run(uri, "digits", 2)).info.end_time == ended[2]


def test_a_run_of_somebody_else_is_named_and_the_exit_code_says_so(folder: Path) -> None:
    study = folder / "outputs" / "digits"
    uri = f"sqlite:///{study / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    first = client.get_run(trial_run(uri, "digits", 0))
    tags = {"mlflow.parentRunId": first.data.tags["mlflow.parentRunId"]}
    extra = client.create_run(first.info.experiment_id, tags=tags, run_name="by hand").info.run_id
    printed = search(folder, *SYNC, code=1)
    assert f"run {extra} (by hand) stands under the search and is none of its trials" in printed
    assert printed.endswith(": 1 difference left\n")
    client.delete_run(extra)


def test_a_server_that_is_away_is_told_in_one_line(folder: Path) -> None:
    printed = search(folder, *SYNC, "tracking=server", "tracking.uri=http://127.0.0.1:9", code=2)
    assert printed.splitlines()[-1].startswith("search: tracking.uri=http://127.0.0.1:9: MLflow is away (")


def test_what_cannot_be_synchronised_is_refused(folder: Path) -> None:
    assert search(folder, *SYNC, "name=none", code=2).startswith("search: stages=['sync']: ")
    assert search(folder, *SYNC, "tracking=none", code=2) == "search: stages=[sync]: runs alone and needs tracking\n"
