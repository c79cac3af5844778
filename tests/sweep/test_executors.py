from collections.abc import Iterator
from pathlib import Path

import pytest

from search.records import FailureKind, Outcome
from search.sweep.executor import Executor, InProcessExecutor
from search.sweep.ray_executor import RayExecutor, Resources
from tests.kits.doubles import run, scripted, spec
from tests.kits.executors import ExecutorConformance, drain, next_of, wait_for_room


class TestInProcessExecutor(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        with InProcessExecutor(run, num_slots=2) as executor:
            yield executor


@pytest.fixture(scope="module")
def on_ray() -> Iterator[Executor]:
    resources = Resources(address=None, cpus=2, gpus=0, workers=None, cpus_per_trial=1, gpus_per_trial=0)
    with RayExecutor(scripted, resources) as executor:
        executor.equip(None)
        yield executor


class TestRayExecutor(ExecutorConformance):
    @pytest.fixture
    def executor(self, on_ray: Executor) -> Executor:
        return on_ray

    def test_as_many_workers_as_fit(self, executor: Executor) -> None:
        assert executor.num_slots == 2

    def test_what_a_trial_prints_lies_in_its_own_log(self, executor: Executor, tmp_path: Path) -> None:
        drain(executor, executor.start(spec(5, [0.1, 0.2], str(tmp_path))))
        assert (tmp_path / "log.txt").read_text() == "step 1 of trial 5\nstep 2 of trial 5\n"

    def test_a_dead_worker_is_told_as_lost_and_replaced(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(spec(3, [0.1], str(tmp_path), end="die"))
        lost = next_of(executor, slot)
        assert isinstance(lost, Outcome)
        assert lost.failure is not None
        assert (lost.number, lost.failure.kind) == (3, FailureKind.LOST_WORKER)
        wait_for_room(executor)
        assert isinstance(drain(executor, executor.start(spec(4, [0.1], str(tmp_path))))[-1], Outcome)
