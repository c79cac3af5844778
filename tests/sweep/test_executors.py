import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.records import (
    CohortSpec,
    FailureKind,
    Measured,
    MeasureSpec,
    Outcome,
    Report,
    TrialState,
    Work,
)
from search.sweep.executor import Answer, Executor, InProcessExecutor, Said, Talk
from search.sweep.ray_executor import RayExecutor, Resources
from search.sweep.simulated import Playing, SimulatedExecutor, VirtualClock, WorkerLostError
from tests.kits.doubles import outcome, run, script, spec
from tests.kits.executors import (
    ExecutorConformance,
    answer,
    cohort,
    drain,
    failures_of,
    next_of,
    reports_of,
    wait_for_room,
    words_of,
)


def test_the_conformance_suite_is_what_every_kind_of_executor_passes() -> None:
    kinds = {InProcessExecutor, RayExecutor, SimulatedExecutor}
    assert kinds == set(Executor.__subclasses__())
    assert {f"Test{kind.__name__}" for kind in kinds} <= set(globals())


class TestSimulatedExecutor(ExecutorConformance):
    @pytest.fixture
    def clock(self) -> VirtualClock:
        return VirtualClock()

    @pytest.fixture
    def executor(self, clock: VirtualClock) -> Iterator[Executor]:
        with SimulatedExecutor(script(clock), 2, clock) as executor:
            yield executor

    def test_the_clock_moves_with_what_happens_and_nothing_waits_for_real(
        self, executor: Executor, clock: VirtualClock
    ) -> None:
        slots = [executor.start(spec(number, [0.1], sleep=3600.0 * (2 - number))) for number in (0, 1)]
        heard = [executor.wait(1e6)[0] for _ in slots]
        assert [(slot, said.number, said.time) for slot, (said,) in heard] == [
            (slots[1], 1, 3600.0),
            (slots[0], 0, 7200.0),
        ]
        assert clock() == 7200.0

    def test_where_nothing_happens_the_timeout_passes(self, executor: Executor, clock: VirtualClock) -> None:
        executor.start(spec(0, [0.1], end="freeze"))
        assert executor.wait(20.0) == []
        assert clock() == 20.0

    def test_waiting_for_ever_for_what_never_happens_is_an_error(self, executor: Executor) -> None:
        executor.start(spec(0, [0.1], end="freeze"))
        with pytest.raises(RuntimeError, match="every simulated worker hangs"):
            executor.wait(math.inf)

    def test_a_script_whose_worker_dies_is_told_as_lost(self, executor: Executor) -> None:
        lost = next_of(executor, executor.start(spec(3, [0.1], end="die")))
        assert isinstance(lost, Outcome)
        assert lost.failure is not None
        assert (lost.number, lost.failure.kind) == (3, FailureKind.LOST_WORKER)

    def test_a_worker_that_dies_between_reports_is_told_as_lost(self, clock: VirtualClock) -> None:
        def dies(work: Work) -> Playing:
            yield 1.0, Report(number=work.number, step=1, metrics={}, time=1.0)
            raise WorkerLostError

        with SimulatedExecutor(dies, 1, clock) as executor:
            slot = executor.start(spec(1, []))
            first = next_of(executor, slot)
            assert isinstance(first, Report)
            executor.resume(slot, answer(first))
            assert isinstance(next_of(executor, slot), Outcome)
            assert executor.num_free == 1

    def test_what_a_cancelled_script_was_about_to_say_is_forgotten(self, executor: Executor) -> None:
        slot = executor.start(spec(1, [0.1], sleep=10.0))
        executor.cancel(slot)
        assert executor.num_free == 2
        assert executor.wait(20.0) == []

    def test_a_cohort_is_as_slow_as_its_slowest_times_what_its_size_costs(self, clock: VirtualClock) -> None:
        def reports(work: Work) -> Playing:
            yield 10.0 * (1 + work.number), Report(number=work.number, step=1, metrics={}, time=0.0)
            return 1.0, outcome(work.number, TrialState.COMPLETE, 0.5, 1)

        with SimulatedExecutor(reports, 1, clock, cohort_factor=lambda size: 1 + size / 10) as executor:
            slot = executor.start(CohortSpec(trials=(spec(0, []), spec(1, []))))
            first = reports_of(words_of(executor, slot))
            assert clock() == 20.0 * 1.2
            executor.resume(slot, Answer(answer(*first).decisions, (spec(2, []),)))
            assert [type(said) for said in words_of(executor, slot)] == [Outcome, Outcome, Report]
            assert clock() == 20.0 * 1.2 + 30.0 * 1.3

    def test_a_worker_that_dies_takes_all_of_its_cohort(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(cohort(tmp_path, {1: [0.1], 2: [0.1], 3: [0.1]}, end="die"))
        assert failures_of(words_of(executor, slot)) == dict.fromkeys((1, 2, 3), FailureKind.LOST_WORKER)
        assert executor.num_free == 2

    def test_a_measurement_whose_worker_dies_found_nothing_out(self, clock: VirtualClock) -> None:
        def dies(work: Work) -> Playing:
            yield from ()
            raise WorkerLostError

        with SimulatedExecutor(dies, 1, clock) as executor:
            slot = executor.start(MeasureSpec(number=4, shape="a", trials=(spec(4, []), spec(6, [])), waiting=2))
            said = next_of(executor, slot)
            assert isinstance(said, Measured)
            assert (said.number, said.shape, said.size, said.reason) == (4, "a", 0, "the worker process died")


class TestInProcessExecutor(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        with InProcessExecutor(run, num_slots=2) as executor:
            yield executor

    def test_what_a_cohort_raises_is_a_failure_of_all_that_are_open(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(cohort(tmp_path, {1: [0.1], 2: [0.1, 0.2]}))
        first = answer(*reports_of(words_of(executor, slot)))
        executor.resume(slot, Answer(first.decisions, (spec(5, [0.1, 0.2, 0.3]),)))
        second = words_of(executor, slot)
        assert failures_of(second) == {1: None}
        joining = (spec(6, [0.1], end="raise"),)
        executor.resume(slot, Answer(answer(*reports_of(second)).decisions, joining))
        assert failures_of(words_of(executor, slot)) == dict.fromkeys((2, 5, 6), FailureKind.EXCEPTION)
        assert executor.num_free == 2

    def test_trials_that_are_left_without_an_outcome_failed(self, tmp_path: Path) -> None:
        def forgets(work: Work, talk: Talk) -> Outcome:
            return outcome(work.number, TrialState.COMPLETE, 0.5, 1)

        with InProcessExecutor(forgets) as executor:
            words = words_of(executor, executor.start(cohort(tmp_path, {1: [0.1], 2: [0.1]})))
        assert failures_of(words) == {1: None, 2: FailureKind.EXCEPTION}

    def test_a_measurement_that_raises_says_alone(self, tmp_path: Path) -> None:
        def raises(work: Work, talk: Talk) -> Outcome:
            raise ValueError("no such shape")

        with InProcessExecutor(raises) as executor:
            trials = cohort(tmp_path, {1: [0.1], 2: [0.1]}).trials
            said = next_of(executor, executor.start(MeasureSpec(number=1, shape="a", trials=trials, waiting=4)))
        assert isinstance(said, Measured)
        assert (said.size, said.rates) == (1, {})
        assert said.reason.startswith("ValueError: no such shape")


@pytest.fixture(scope="module", params=[True, False], ids=["on lines", "through Ray"])
def on_ray(request: pytest.FixtureRequest) -> Iterator[Executor]:
    resources = Resources(address=None, cpus=2, gpus=0, workers=None, cpus_per_trial=1, gpus_per_trial=0)
    with RayExecutor("tests.kits.doubles:scripted", resources, lines=request.param) as executor:
        executor.equip(None)
        yield executor


class TestRayExecutor(ExecutorConformance):
    @pytest.fixture
    def executor(self, on_ray: Executor) -> Executor:
        wait_for_room(on_ray, 2)  # the workers are those of the test before
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

    def test_a_worker_that_dies_right_behind_its_report_is_lost_once(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(spec(3, [0.1, 0.2], str(tmp_path), end="die behind a report"))
        time.sleep(1.0)  # both are there when they are asked for
        said: list[Said] = []
        while not said or isinstance(said[-1], Report):
            for where, (each,) in executor.wait(1.0):
                assert where == slot
                said.append(each)
                if isinstance(each, Report):
                    executor.resume(where, answer(each))
        assert isinstance(said[-1], Outcome)
        assert said[-1].failure is not None
        assert said[-1].failure.kind is FailureKind.LOST_WORKER
        wait_for_room(executor)
        assert isinstance(drain(executor, executor.start(spec(4, [0.1], str(tmp_path))))[-1], Outcome)
        assert executor.wait(0.3) == []

    def test_a_cohorts_output_is_in_the_log_of_its_first_trial_and_the_others_say_so(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        slot = executor.start(cohort(tmp_path, {3: [0.1, 0.2], 4: [0.1]}, end="exception"))
        first = answer(*reports_of(words_of(executor, slot)))
        drain(executor, slot, Answer(first.decisions, cohort(tmp_path, {9: [0.5]}).trials))
        logs = {number: (tmp_path / str(number) / "log.txt").read_text() for number in (3, 4, 9)}
        assert logs[3].splitlines() == [f"a step of trial {n}" for n in (3, 4, 3, 9)]
        said = f"trained beside trial 3: what they print is in {tmp_path / '3' / 'log.txt'}"
        assert logs[4].splitlines() == [said, "Traceback ..."], "a failure is told where it belongs"
        assert logs[9].splitlines() == [said]

    def test_a_dead_worker_takes_all_of_its_cohort_that_are_open(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(cohort(tmp_path, {1: [0.1], 2: [0.1, 0.2]}))
        first = answer(*reports_of(words_of(executor, slot)))
        executor.resume(slot, Answer(first.decisions, (spec(5, [0.1, 0.2, 0.3], str(tmp_path / "5")),)))
        second = words_of(executor, slot)
        assert failures_of(second) == {1: None}
        dying = (spec(6, [0.1], str(tmp_path / "6"), end="die"),)
        executor.resume(slot, Answer(answer(*reports_of(second)).decisions, dying))
        assert failures_of(words_of(executor, slot)) == dict.fromkeys((2, 5, 6), FailureKind.LOST_WORKER)
        wait_for_room(executor)
        assert isinstance(drain(executor, executor.start(spec(7, [0.1], str(tmp_path))))[-1], Outcome)
