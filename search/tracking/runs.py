"""Which of MLflow's runs are whose."""

from __future__ import annotations

from collections.abc import Iterable

from search.tracking.pages import UID, trial_uid


def runs_of_trials(uri: str, parent: str, uid: str, numbers: Iterable[int]) -> dict[int, str]:
    """Return the run of each of a study's trials that has one, beside the search's own run `parent`.

    Raises what MLflow raises where it is away.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_run(parent).info.experiment_id
    runs = {}
    for number in numbers:
        found = client.search_runs([experiment], f"tags.`{UID}` = '{trial_uid(uid, number)}'", max_results=1)
        if found:
            runs[number] = str(found[0].info.run_id)
    return runs
