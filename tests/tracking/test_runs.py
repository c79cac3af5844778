"""Which of MLflow's runs are whose."""

from hashlib import blake2b
from pathlib import Path

from search.sweep.journal import Journal
from search.tracking.outbox import Delivered, await_delivery, note
from search.tracking.runs import runs_of_trials
from tests.tracking.conftest import open_projection


def test_trials_are_found_by_their_numbers(told: str, study: Journal) -> None:
    projection = open_projection(told, study)
    runs = runs_of_trials(told, projection.parent, study.uid, [1, 3, 77])
    assert runs.keys() == {1, 3}, "there is no trial 77"
    for number, run in runs.items():
        assert projection.client.get_run(run).data.tags["search.number"] == str(number)
    assert runs_of_trials(told, projection.parent, "another", [1]) == {}


def test_a_delivery_is_awaited_for_a_while(store: str, tmp_path: Path) -> None:
    assert not await_delivery(tmp_path, store, 7, patience=0.0)
    digest = blake2b(store.encode(), digest_size=8).hexdigest()
    note(tmp_path, Delivered(store=digest, position=7, experiment="1", run="r"))
    assert await_delivery(tmp_path, store, 7, patience=0.0)
    assert not await_delivery(tmp_path, store, 8, patience=0.0)
