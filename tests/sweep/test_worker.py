"""A worker's process, but for Ray: when it should be replaced."""

from pathlib import Path

import pytest

from search.records import CohortSpec, Work
from search.sweep.worker import Worker, unpacked
from tests.kits.doubles import spec


def worn_after(works: list[Work], recycle_trials: int | None) -> list[bool]:
    """Tell after each piece of work whether the worker should be replaced."""
    worker = Worker("tests.kits.doubles:scripted", None, [], recycle_trials, None)
    worker.ready(None, "")
    return [unpacked(worker.start(work))[1] for work in works]


def trial(folder: Path, number: int) -> Work:
    return spec(number, [], directory=str(folder / str(number)))


@pytest.mark.parametrize(("limit", "worn"), [(None, [False] * 3), (1, [True] * 3), (3, [False, False, True])])
def test_a_worker_is_worn_after_so_many_trials(tmp_path: Path, limit: int | None, worn: list[bool]) -> None:
    assert worn_after([trial(tmp_path, number) for number in range(3)], limit) == worn


def test_each_trial_of_a_cohort_counts(tmp_path: Path) -> None:
    trials = [spec(number, [], directory=str(tmp_path / str(number))) for number in range(6)]
    works: list[Work] = [trials[0], CohortSpec(trials=tuple(trials[1:4])), trials[4], trials[5]]
    assert worn_after(works, 5) == [False, False, True, True]
