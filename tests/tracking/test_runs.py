"""Which of MLflow's runs are whose."""

from search.sweep.journal import Journal
from search.tracking.runs import runs_of_trials
from tests.tracking.conftest import open_projection


def test_trials_are_found_by_their_numbers(told: str, study: Journal) -> None:
    projection = open_projection(told, study)
    runs = runs_of_trials(told, projection.parent, study.uid, [1, 3, 77])
    assert runs.keys() == {1, 3}, "there is no trial 77"
    for number, run in runs.items():
        assert projection.client.get_run(run).data.tags["search.number"] == str(number)
    assert runs_of_trials(told, projection.parent, "another", [1]) == {}
