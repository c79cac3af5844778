"""What the driver does when work fails, hangs or is lost."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from search.errors import StrandedError
from search.layout import OUTCOME
from search.records import (
    Failure,
    FailureKind,
    Outcome,
    Params,
    Paused,
    Report,
    Retried,
    Started,
    TrialState,
    event_to_json,
)
from search.sweep.executor import InProcessExecutor
from search.sweep.failures import FailurePolicy
from search.sweep.journal import Journal
from search.sweep.simulated import VirtualClock
from search.sweep.study import Study
from tests.kits import doubles
from tests.kits.bench import PROMOTION, SPACE, Bench, KilledError

NO_MEMORY = FailurePolicy(retries={FailureKind.OUT_OF_MEMORY: 2})
PATIENT = FailurePolicy(retries={FailureKind.HANG: 1, FailureKind.TIMEOUT: 1}, hang_seconds=60.0)


@pytest.fixture
def bench(in_memory: Path) -> Bench:
    return Bench(in_memory / "study")


def failing(trial: int, end: str, times: int) -> Any:
    """Return what is different in the first attempts at a trial."""

    def attempt(number: int, attempt: int) -> Mapping[str, Any]:
        return {"end": end} if number == trial and attempt <= times else {}

    return attempt


def retried(bench: Bench) -> list[tuple[int, FailureKind]]:
    return [(e.number, e.failure.kind) for e in bench.events if isinstance(e, Retried)]


@pytest.mark.parametrize(
    "kind", [k for k in FailureKind if k is not FailureKind.DISK_FULL]
)  # which is nobody's failure
@pytest.mark.parametrize(("budget", "state"), [(2, TrialState.COMPLETE), (1, TrialState.FAILED)])
def test_a_failure_is_tried_again_as_often_as_its_budget_says(
    bench: Bench, kind: FailureKind, budget: int, state: TrialState
) -> None:
    bench.attempt = failing(1, kind, 2)
    bench.simulate(3, policy=FailurePolicy(retries={kind: budget}))
    assert bench.outcomes()[1].state is state
    assert Counter(bench.trained)[1] == budget + 1
    assert retried(bench) == [(1, kind)] * budget
    assert bench.all_ended_once(3)


def test_a_failure_without_a_limit_is_always_tried_again(bench: Bench) -> None:
    bench.attempt = failing(0, FailureKind.PREEMPTED, 40)
    progress = bench.simulate(1, policy=FailurePolicy(retries={FailureKind.PREEMPTED: None}))
    assert progress.states == Counter({TrialState.COMPLETE: 1})
    assert len(bench.trained) == 41


def test_a_steps_figures_are_recorded_once_however_often_it_is_trained(bench: Bench) -> None:
    bench.attempt = failing(0, FailureKind.EXCEPTION, 2)
    bench.simulate(1, policy=FailurePolicy(retries={FailureKind.EXCEPTION: 2}))
    assert [e.step for e in bench.events if isinstance(e, Report)] == [1, 2, 3]


@pytest.mark.parametrize("killed_after", range(1, 14))
def test_budgets_are_those_of_the_study_and_not_of_a_driver(bench: Bench, killed_after: int) -> None:
    bench.attempt = failing(0, FailureKind.EXCEPTION, 100)
    policy = FailurePolicy(retries={FailureKind.EXCEPTION: 3})
    bench.kill_after(killed_after)
    with pytest.raises(KilledError):
        bench.simulate(2, policy=policy)
    bench.simulate(2, policy=policy)
    assert bench.outcomes()[0].state is TrialState.FAILED
    assert retried(bench) == [(0, FailureKind.EXCEPTION)] * 3
    assert bench.all_ended_once(2)


def test_where_memory_was_short_batches_are_worked_through_in_twice_as_many_parts(bench: Bench) -> None:
    bench.attempt = failing(0, FailureKind.OUT_OF_MEMORY, 2)
    bench.simulate(2, policy=NO_MEMORY)
    assert [(s.number, s.micro_batches) for s in bench.specs] == [(0, 1), (0, 2), (0, 4), (1, 1)]


def test_the_next_driver_knows_where_memory_was_short(bench: Bench) -> None:
    bench.attempt = failing(0, FailureKind.OUT_OF_MEMORY, 1)
    bench.kill_after(6)
    with pytest.raises(KilledError):
        bench.simulate(1, policy=NO_MEMORY)
    assert isinstance(bench.events[-1], Started)
    bench.simulate(1, policy=NO_MEMORY)
    assert [s.micro_batches for s in bench.specs] == [1, 2]


def test_another_failure_leaves_batches_whole(bench: Bench) -> None:
    bench.attempt = failing(0, FailureKind.EXCEPTION, 1)
    bench.simulate(1, policy=FailurePolicy(retries={FailureKind.EXCEPTION: 1}))
    assert [s.micro_batches for s in bench.specs] == [1, 1]


# ---------------------------------------------------------------------------------------------------- hanging, too long


def test_a_trial_that_hangs_is_ended_by_force_and_tried_again(bench: Bench) -> None:
    bench.attempt = failing(1, "freeze", 1)
    progress = bench.simulate(4, slots=2, policy=PATIENT)
    assert progress.states == Counter({TrialState.COMPLETE: 4})
    assert retried(bench) == [(1, FailureKind.HANG)]


def test_a_trial_that_always_hangs_fails_in_the_end(bench: Bench) -> None:
    bench.attempt = failing(1, "freeze", 100)
    bench.simulate(3, policy=PATIENT)
    assert bench.outcomes()[1].reason == "no report for 60 s (failures.hang_seconds)"
    assert bench.outcomes()[1].seconds == pytest.approx(60.0, abs=5.0)
    assert bench.all_ended_once(3)


def test_a_trial_that_reports_now_and_then_does_not_hang(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.5] * 5, "sleep": 50.0}
    assert bench.simulate(2, policy=PATIENT).states == Counter({TrialState.COMPLETE: 2})


def test_a_trial_that_takes_too_long_is_ended_by_force(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.5] * 9, "sleep": 50.0 if number == 1 else 1.0}
    bench.simulate(3, epochs=9, policy=FailurePolicy(retries={}, timeout_seconds=200.0))
    ended = bench.outcomes()
    assert [ended[n].state for n in range(3)] == [TrialState.COMPLETE, TrialState.FAILED, TrialState.COMPLETE]
    assert ended[1].failure is not None
    assert ended[1].failure.kind is FailureKind.TIMEOUT
    assert ended[1].steps == 4, "it knows how far it came"


def test_a_thread_that_hangs_is_left_to_itself(bench: Bench) -> None:
    """The clock is the bench's, which moves a second at each look; the thread really sleeps."""
    bench.attempt = failing(0, "freeze", 1)
    policy = FailurePolicy(retries={FailureKind.HANG: 1}, hang_seconds=3.0)
    progress = bench.search(2, executor=InProcessExecutor(bench.run), policy=policy, poll_seconds=0.01)
    assert progress.states == Counter({TrialState.COMPLETE: 2})
    assert retried(bench) == [(0, FailureKind.HANG)]


# ----------------------------------------------------------------------------------------------------------- giving up


BREAKER = FailurePolicy(retries={}, window=4, share=0.75)


def test_a_search_whose_trials_fail_for_one_cause_gives_up(bench: Bench) -> None:
    bench.attempt = lambda number, attempt: {"end": "exception", "message": f"ValueError: {number}"}
    progress = bench.simulate(50, policy=BREAKER)
    assert bench.gave_up() == "4 of the last 4 trials failed: exception (ValueError)"
    assert progress.finished == 4
    assert not bench.interrupted()


def test_a_search_whose_trials_fail_for_many_causes_goes_on(bench: Bench) -> None:
    causes = ["ValueError", "KeyError", "OSError"]
    bench.attempt = lambda number, attempt: {"end": "exception", "message": f"{causes[number % 3]}: bad luck"}
    assert bench.simulate(12, policy=BREAKER).states == Counter({TrialState.FAILED: 12})
    assert bench.gave_up() is None


def test_an_attempt_that_is_tried_again_is_no_failure_yet(bench: Bench) -> None:
    bench.attempt = lambda number, attempt: {"end": "exception"} if attempt <= 2 else {}
    policy = FailurePolicy(retries={FailureKind.EXCEPTION: 2}, window=4, share=0.5)
    assert bench.simulate(6, policy=policy).states == Counter({TrialState.COMPLETE: 6})
    assert bench.gave_up() is None


def test_what_runs_when_a_search_gives_up_pauses_and_goes_on_once_it_is_mended(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.5] * 9, "sleep": 10.0 if number == 0 else 0.1}
    bench.attempt = lambda number, attempt: {} if number == 0 else {"end": "non-finite"}
    progress = bench.simulate(9, slots=2, epochs=9, policy=BREAKER)
    assert bench.gave_up() == "4 of the last 4 trials failed: non-finite"
    assert progress.states == Counter({TrialState.FAILED: 4})
    (left,) = [e for e in bench.events if isinstance(e, Paused)]
    assert left.number == 0

    bench.attempt = lambda number, attempt: {}
    bench.simulate(9, slots=2, epochs=9, policy=BREAKER)
    assert bench.gave_up() is None
    assert bench.trained.count(0) == 2
    assert [e.step for e in bench.events if isinstance(e, Report) and e.number == 0] == list(range(1, 10))
    assert bench.all_ended_once(9)


# ---------------------------------------------------------------------------------------- outcomes that nobody heard


def with_a_running_trial(bench: Bench, left: Outcome) -> Path:
    """Leave a study whose driver died while trial 0 ran, and the outcome that its worker wrote after that."""
    journal = Journal(bench.folder, maximize=True)
    study = Study(journal, SPACE, {"seed": 0}, maximize=True)
    study.create({"optimizer.lr": 0.1})
    study.record(Started(number=0, params={}, seed=0, time=100.0))
    journal.close()
    path = bench.directory(0) / OUTCOME
    path.parent.mkdir(parents=True)
    path.write_text(event_to_json(left))
    return path


def test_an_outcome_that_a_worker_left_is_taken(bench: Bench) -> None:
    with_a_running_trial(bench, doubles.outcome(0, TrialState.COMPLETE, 0.9, 3, time=200.0))
    progress = bench.simulate(1)
    assert bench.trained == []
    assert progress.best is not None
    assert progress.best.value == 0.9


FAILED = doubles.outcome(
    0, TrialState.FAILED, None, 0, "bad", Failure(kind=FailureKind.EXCEPTION, message="bad"), time=200.0
)


def test_a_failure_that_a_worker_left_is_taken(bench: Bench) -> None:
    with_a_running_trial(bench, FAILED)
    assert bench.simulate(1).states == Counter({TrialState.FAILED: 1})
    assert bench.trained == []


def test_a_failure_that_a_worker_left_is_tried_again_where_there_is_a_budget(bench: Bench) -> None:
    path = with_a_running_trial(bench, FAILED)
    policy = FailurePolicy(retries={FailureKind.EXCEPTION: 1})
    bench.kill_after(2)
    with pytest.raises(KilledError):
        bench.simulate(1, policy=policy)
    assert not path.exists(), "or it would be counted twice"
    bench.simulate(1, policy=policy)
    assert retried(bench) == [(0, FailureKind.EXCEPTION)]
    assert bench.outcomes()[0].state is TrialState.COMPLETE


@pytest.mark.parametrize("kind", [FailureKind.HANG, FailureKind.TIMEOUT, FailureKind.PREEMPTED])
def test_the_outcome_of_a_worker_that_ended_behind_it_counts(bench: Bench, kind: FailureKind) -> None:
    left = doubles.outcome(0, TrialState.COMPLETE, 0.9, 3)

    def write_and_fail(number: int, attempt: int) -> Mapping[str, Any]:
        bench.directory(number).mkdir(parents=True)
        (bench.directory(number) / OUTCOME).write_text(event_to_json(left))
        return {"end": kind}

    bench.attempt = write_and_fail
    bench.simulate(1, policy=FailurePolicy(retries={kind: 5}))
    assert bench.outcomes()[0] == left


# ----------------------------------------------------------------------------------------- what is no longer composed


@pytest.mark.parametrize("settings", [{}, {"pruner": PROMOTION, "epochs": 9}], ids=["running", "paused"])
def test_trials_that_cannot_go_on_end_as_failed_and_are_held_against_nobody(
    bench: Bench, settings: dict[str, Any]
) -> None:
    bench.curve = lambda number, _: {"values": [number / 100] * settings.get("epochs", 3), "sleep": 1.0}
    policy = FailurePolicy(retries={FailureKind.EXCEPTION: 1}, window=1, share=0.1)
    bench.kill_after(8)
    with pytest.raises(KilledError):
        bench.simulate(12, slots=3, policy=policy, **settings)
    ended = set(bench.outcomes())
    begun = {e.number for e in bench.events if isinstance(e, Started)}
    last = bench.events[-1].time
    before, trained = bench.curve, len(bench.trained)

    def stranded(number: int, params: Params) -> dict[str, Any]:
        if number in begun - ended:
            raise StrandedError(f"trial {number}: no longer composed")
        return before(number, params)

    bench.on_event, bench.curve = (lambda event: None), stranded
    assert isinstance(bench.clock, VirtualClock)
    bench.clock.now += 1e6
    progress = bench.simulate(12, slots=3, policy=policy, seconds=1000.0, **settings)
    assert bench.all_ended_once(12)
    assert begun - ended
    assert {n: o.reason for n, o in bench.outcomes().items() if o.state is TrialState.FAILED} == {
        number: f"trial {number}: no longer composed" for number in begun - ended
    }
    assert all(bench.outcomes()[number].time == last for number in begun - ended), "it was not heard of since"
    assert not (begun - ended) & set(bench.trained[trained:])
    assert progress.finished == 12
    assert bench.gave_up() is None
    assert not retried(bench)
