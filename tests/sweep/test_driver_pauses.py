"""Trials that leave their workers and go on later: promoted, interrupted, or never."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from search.layout import CHECKPOINT
from search.records import Decision, Event, Outcome, Paused, Report, Started, TrialState, Verdict
from search.sweep.failures import FailurePolicy
from tests.kits.bench import PROMOTION, Bench, KilledError, rate_of

PROMOTED: dict[str, Any] = {"pruner": PROMOTION, "epochs": 9}


@pytest.fixture
def bench(in_memory: Path) -> Bench:
    bench = Bench(in_memory / "study")
    bench.curve = lambda number, params: {
        "values": [rate_of(params) + step / 100 for step in range(9)],
        "sleep": 1.0 + number / 100,
        "leaving": 2.5,
    }
    return bench


def steps_of(bench: Bench, number: int) -> list[int]:
    return [e.step for e in bench.events if isinstance(e, Report) and e.number == number]


def interrupt_at(bench: Bench, number: int, step: int, grace: float = 1000.0) -> None:
    """Let the search be interrupted once a trial has reported that step."""

    def look(event: Event) -> None:
        if isinstance(event, Report) and (event.number, event.step) == (number, step):
            bench.last.interrupt(grace)

    bench.on_event = look


# ------------------------------------------------------------------------------------------------------------ promotion


def test_the_best_of_a_rung_go_on_and_the_others_end_where_they_paused(bench: Bench) -> None:
    progress = bench.simulate(18, slots=3, **PROMOTED)
    assert bench.all_ended_once(18)
    assert progress.states[TrialState.PRUNED] >= 12
    assert progress.states[TrialState.COMPLETE] >= 1
    for number, ended in bench.outcomes().items():
        assert steps_of(bench, number) == list(range(1, ended.steps + 1)), "each epoch is trained once"
        if ended.state is TrialState.PRUNED:
            assert ended.steps in (1, 3)
            assert ended.reason.startswith(f"rung at step {ended.steps}: not among the best 1/3")
    rates = {e.number: e.params["optimizer.lr"] for e in bench.events if isinstance(e, Started)}
    best = max(rates, key=lambda number: float(rates[number] or 0.0))
    assert bench.outcomes()[best].state is TrialState.COMPLETE


def test_a_promotion_is_recorded_and_the_trial_started_again(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [1.0 - number / 100] * 9}
    bench.simulate(12, slots=2, **PROMOTED)
    promoted = [e.number for e in bench.events if isinstance(e, Decision) and e.verdict is Verdict.GO_ON]
    started = Counter(e.number for e in bench.events if isinstance(e, Started))
    assert promoted
    assert started == Counter([*range(12), *promoted])


def test_a_trial_may_be_promoted_while_it_leaves_its_worker(bench: Bench) -> None:
    """Trial 0 takes long to leave; meanwhile two worse ones reach the rung, so that it is the one to go on."""
    bench.curve = lambda number, _: {
        "values": [1.0 - number / 10] * 9,
        "sleep": 1.0,
        "leaving": 500.0 if number == 0 else 0.0,
    }
    bench.simulate(3, slots=2, **PROMOTED)
    told = [e for e in bench.events if e.number == 0 and isinstance(e, Decision | Paused)]
    assert [type(e) for e in told[:3]] == [Decision, Decision, Paused], "it was promoted before it had left"
    assert steps_of(bench, 0)[:2] == [1, 2]
    assert bench.all_ended_once(3)


def promoted_search(bench: Bench) -> dict[int, tuple[TrialState, int, float | None]]:
    bench.simulate(9, slots=2, **PROMOTED)
    return {n: (o.state, o.steps, o.value) for n, o in bench.outcomes().items()}


def test_a_driver_may_die_behind_every_event(in_memory: Path, bench: Bench) -> None:
    promoted_search(bench)
    for position in range(1, len(bench.events), 2):
        again = Bench(in_memory / str(position))
        again.curve = bench.curve
        again.kill_after(position)
        with pytest.raises(KilledError):
            promoted_search(again)
        again.on_event = lambda event: None
        promoted_search(again)
        assert again.all_ended_once(9)
        for number, ended in again.outcomes().items():
            steps = steps_of(again, number)
            assert steps == sorted(set(steps)), "no step is recorded twice"
            assert ended.state is TrialState.COMPLETE or ended.steps in (1, 2, 3, 4)


def test_with_one_worker_a_killed_search_ends_like_an_undisturbed_one(in_memory: Path, bench: Bench) -> None:
    bench.simulate(9, **PROMOTED)
    for position in range(1, len(bench.events), 4):
        again = Bench(in_memory / str(position))
        again.curve = bench.curve
        again.kill_after(position)
        with pytest.raises(KilledError):
            again.simulate(9, **PROMOTED)
        again.on_event = lambda event: None
        again.simulate(9, **PROMOTED)
        found, expected = again.outcomes(), bench.outcomes()
        assert {n: o.state for n, o in found.items()} == {n: o.state for n, o in expected.items()}, position


def test_a_worker_that_dies_after_it_was_told_to_pause_pauses_again(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [1.0 - number / 10] * 9, "leaving": 1.0}
    bench.kill_after(3)
    with pytest.raises(KilledError):
        bench.simulate(1, **PROMOTED)
    assert isinstance(bench.events[-1], Decision)
    bench.directory(0).mkdir(parents=True)
    (bench.directory(0) / CHECKPOINT).write_text("1")  # the worker got that far
    bench.on_event = lambda event: None
    bench.simulate(2, **PROMOTED)
    assert [e.step for e in bench.events if isinstance(e, Paused) and e.number == 0] == [2]
    assert bench.outcomes()[0].state is TrialState.PRUNED, "of two none goes on"


def test_one_that_died_as_it_paused_and_is_the_best_of_the_next_rung_goes_on(bench: Bench) -> None:
    """It was told to pause at the rung at step 1; the next is at step 2, where its worker takes it before that."""
    rising = {"values": [0.2, 0.95, 0.96, 0.97, 0.98], "sleep": 100.0}
    bench.curve = lambda number, _: {"values": [0.3 + number / 100] * 5, "sleep": 1.0} if number else rising
    bench.attempt = lambda number, attempt: {"end": "die as it pauses"} if (number, attempt) == (0, 1) else {}
    bench.simulate(7, slots=2, epochs=5, pruner=PROMOTION)
    ended = bench.outcomes()[0]
    assert (ended.state, ended.value, ended.steps) == (TrialState.COMPLETE, 0.98, 5)


def test_who_lost_its_checkpoint_trains_again_from_the_start(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [1.0 - number / 10] * 9}

    def lose(event: Event) -> None:
        if isinstance(event, Paused):
            (bench.directory(event.number) / CHECKPOINT).unlink()

    bench.on_event = lose
    bench.simulate(4, **PROMOTED)
    assert bench.outcomes()[0].steps > 1
    assert steps_of(bench, 0) == list(range(1, bench.outcomes()[0].steps + 1))


# --------------------------------------------------------------------------------------------------------- interruption


def test_what_runs_at_an_interruption_pauses_and_goes_on_under_its_number(bench: Bench) -> None:
    interrupt_at(bench, number=1, step=4)
    progress = bench.simulate(5, slots=2, epochs=9)
    assert bench.interrupted()
    assert progress.finished == 0
    paused = {e.number: e.step for e in bench.events if isinstance(e, Paused)}
    assert sorted(paused) == [0, 1]
    assert not any(isinstance(e, Decision) for e in bench.events), "it is told to nobody but the workers"

    bench.on_event = lambda event: None
    assert bench.simulate(5, slots=2, epochs=9).states == Counter({TrialState.COMPLETE: 5})
    assert not bench.interrupted()
    assert bench.all_ended_once(5)
    for number in (0, 1):
        assert steps_of(bench, number) == list(range(1, 10))
        assert bench.trained.count(number) == 2


def test_an_interruption_changes_no_outcome(in_memory: Path, bench: Bench) -> None:
    bench.simulate(6, **PROMOTED)
    for step in (1, 2, 5):
        again = Bench(in_memory / str(step))
        again.curve = bench.curve
        interrupt_at(again, number=0, step=step)
        again.simulate(6, **PROMOTED)
        again.on_event = lambda event: None
        again.simulate(6, **PROMOTED)
        assert {n: (o.state, o.steps, o.value) for n, o in again.outcomes().items()} == {
            n: (o.state, o.steps, o.value) for n, o in bench.outcomes().items()
        }


def test_the_search_leaves_when_the_grace_runs_out(bench: Bench) -> None:
    """Trial 0 never reports; trial 1 pauses in time."""
    bench.attempt = lambda number, attempt: {"end": "freeze"} if number == 0 and attempt == 1 else {}
    interrupt_at(bench, number=1, step=2, grace=30.0)
    bench.simulate(3, slots=2, epochs=9)
    asked_at = next(e.time for e in bench.events if isinstance(e, Report) and (e.number, e.step) == (1, 2))
    assert asked_at + 30.0 <= bench.clock() <= asked_at + 32.0
    assert [e.number for e in bench.events if isinstance(e, Paused)] == [1]

    bench.on_event = lambda event: None
    assert bench.simulate(3, slots=2, epochs=9).finished == 3
    assert bench.all_ended_once(3)


def test_an_interrupted_search_starts_nothing(bench: Bench) -> None:
    interrupt_at(bench, number=0, step=9)
    bench.simulate(5, epochs=9)
    assert bench.trained == [0]
    assert bench.outcomes()[0].state is TrialState.COMPLETE


# ---------------------------------------------------------------------------------------------------------------- hours


def test_when_the_hours_are_spent_paused_trials_end_and_running_ones_stop(bench: Bench) -> None:
    bench.simulate(200, slots=2, seconds=60.0, **PROMOTED)
    begun = {e.number for e in bench.events if isinstance(e, Started)}
    assert set(bench.outcomes()) == begun
    assert len(begun) < 200
    reasons = Counter(o.reason.partition(":")[0] for o in bench.outcomes().values())
    assert reasons["budget.hours is spent"] > 0
    assert reasons["rung at step 1"] > 0
    events = len(bench.events)
    bench.simulate(200, slots=2, seconds=60.0, **PROMOTED)
    assert len(bench.events) == events


def test_a_night_between_two_searches_is_not_spent(in_memory: Path, bench: Bench) -> None:
    """Whatever a search begins with: a start, a promotion, an attempt that failed, the end of a paused trial."""
    policy = FailurePolicy(retries={})
    bench.simulate(9, slots=2, policy=policy, **PROMOTED)
    for position in range(2, len(bench.events), 5):
        again = Bench(in_memory / str(position))
        again.curve = bench.curve
        again.kill_after(position)
        with pytest.raises(KilledError):
            promoted_search(again)
        again.on_event = lambda event: None
        again.clock.now += 1e6  # type: ignore[attr-defined] # a virtual clock
        promoted_search(again)
        again.simulate(9, slots=2, seconds=1000.0, **PROMOTED)
        assert again.last.limit_reached() == "budget.trials", position


def test_paused_trials_have_outcomes_worth_what_they_reached(bench: Bench) -> None:
    bench.simulate(5, **PROMOTED)
    for number, ended in bench.outcomes().items():
        assert isinstance(ended, Outcome)
        reports = [e.metrics["objective"] for e in bench.events if isinstance(e, Report) and e.number == number]
        assert ended.value == max(reports)
