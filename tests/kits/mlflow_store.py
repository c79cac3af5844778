"""An MLflow store held against the study it shows, and ways of damaging one."""

import sqlite3
from pathlib import Path

from mlflow import MlflowClient

from search.sweep.journal import read_attributes, read_events
from search.tracking.compare import Comparison, compare
from search.tracking.pages import pages_of


def compared(study: Path, uri: str, experiment: str, *, maximize: bool = True) -> Comparison:
    """Hold the store at `uri` against all events of a study's folder."""
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    pages = pages_of((event for event, _ in read_events(study)), maximize=maximize)
    return compare(client, found.experiment_id, str(read_attributes(study)["uid"]), pages)


def differences(study: Path, uri: str, experiment: str, *, maximize: bool = True) -> list[str]:
    """Return in plain sentences what the store says otherwise."""
    return [str(d) for d in compared(study, uri, experiment, maximize=maximize).differences]


def damage(uri: str, statement: str, *values: object) -> None:
    """Change a SQLite store behind MLflow's back; `{run}` in the statement is trial 1's run."""
    connection = sqlite3.connect(uri.removeprefix("sqlite:///"))
    with connection:
        number = "SELECT run_uuid FROM tags WHERE key = 'search.number' AND value = '1'"
        done = connection.execute(statement.format(run=f"({number})"), values)
        assert done.rowcount == 1, "exactly one thing is damaged"
    connection.close()


def trial_run(uri: str, experiment: str, number: int) -> str:
    """Return the id of a trial's run."""
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id], f"tags.`search.number` = '{number}'")
    return str(run.info.run_id)
