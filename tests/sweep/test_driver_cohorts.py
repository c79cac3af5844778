"""The driver with workers that take several trials of one shape at once."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from search.errors import StrandedError, UsageError
from search.keyed import keyed_uniform
from search.layout import OUTCOME
from search.records import (
    CohortSpec,
    Decision,
    FailureKind,
    Measured,
    Outcome,
    Params,
    Paused,
    Report,
    Retried,
    Started,
    TrialSpec,
    TrialState,
    Verdict,
    event_to_json,
)
from search.sweep.executor import InProcessExecutor
from search.sweep.failures import FailurePolicy
from search.sweep.journal import OPTUNA, Journal, read_trials
from search.sweep.reading import read_study
from search.sweep.simulated import VirtualClock
from search.sweep.supply import AHEAD
from tests.kits import doubles
from tests.kits.bench import ASHA, PROMOTION, Bench, KilledError, Watched, rate_of

OTHER_DATA = {"seed": 0, "data.digest": "two"}
OTHER_SPACE = {"seed": 0, "space.lr": 2.0}


@pytest.fixture
def bench(in_memory: Path) -> Bench:
    return with_shapes(Bench(in_memory / "study"), 1)


def with_shapes(bench: Bench, shapes: int) -> Bench:
    """Let the trials have so many shapes, by turns."""
    bench.shape_of = lambda spec: "abcdefgh"[spec.number % shapes]
    bench.curve = lambda number, params: {"values": [rate_of(params) + step / 50 for step in range(9)], "sleep": 1.0}
    return bench


def started(bench: Bench) -> list[int]:
    return [e.number for e in bench.events if isinstance(e, Started)]


def retried(bench: Bench) -> list[tuple[int, FailureKind, int]]:
    return [(e.number, e.failure.kind, e.cohort) for e in bench.events if isinstance(e, Retried)]


def drawn(bench: Bench) -> dict[int, Params]:
    return {e.number: e.params for e in bench.events if isinstance(e, Started)}


def limit_reached(bench: Bench, trials: int, **how: Any) -> str | None:
    """Return the limit that a driver finds reached when it takes up the study."""
    journal = Journal(bench.folder, maximize=True)
    try:
        return bench.driver(journal, trials, epochs=9, **how).limit_reached()
    finally:
        journal.close()


def in_a_cohort(bench: Bench, number: int, end: str) -> None:
    """Let a trial end in some way, but only in its first attempt."""
    bench.attempt = lambda n, attempt: {"end": end} if n == number and attempt == 1 else {}


# -------------------------------------------------------------------------------------------------------------- packing


@pytest.mark.parametrize("pruner", [{"kind": "none"}, ASHA, PROMOTION], ids=lambda pruner: pruner["kind"])
@pytest.mark.parametrize("fused", [None, 2, 8, 32])
def test_trials_of_three_shapes_on_two_workers_end_once_each(
    bench: Bench, fused: int | None, pruner: dict[str, Any]
) -> None:
    with_shapes(bench, 3)
    progress = bench.simulate(64, slots=2, fused=fused, pruner=pruner, epochs=9)
    assert bench.all_ended_once(64)
    assert progress.finished == 64
    assert all(len({number % 3 for number in cohort}) == 1 for cohort in bench.cohorts())
    assert all(number % 3 == first % 3 for number, first in bench.joined)
    assert max(map(len, bench.cohorts())) == min(fused or 8, 22)
    for number in range(64):
        steps = [e.step for e in bench.events if isinstance(e, Report) and e.number == number]
        assert steps == list(range(1, len(steps) + 1)), "each step is reported once, in order"


def test_the_first_cohort_is_of_the_first_trials_shape_and_no_more_than_a_workers_share(bench: Bench) -> None:
    with_shapes(bench, 3)
    bench.simulate(12, slots=2, fused=32)
    assert bench.cohorts()[:2] == [[0, 3, 6, 9], [1, 4, 7, 10]]


def test_what_is_drawn_does_not_depend_on_who_shares_a_worker(in_memory: Path) -> None:
    alone, together = Bench(in_memory / "alone"), with_shapes(Bench(in_memory / "together"), 3)
    alone.simulate(30)
    together.simulate(30, slots=2, fused=8, epochs=9)
    assert drawn(alone) == drawn(together)
    assert list(drawn(together)) != sorted(drawn(together)), "though they began in another order"
    assert [t.params for t in read_trials(together.folder)] == [
        {"optimizer.lr": p["optimizer.lr"]} for _, p in sorted(drawn(alone).items())
    ]


def test_a_search_without_fusing_draws_one_trial_ahead_and_asks_for_no_shape(bench: Bench) -> None:
    def refuse(spec: TrialSpec) -> str | None:
        raise AssertionError

    bench.shape_of = refuse
    made: list[int] = []
    curve = bench.curve

    def watched(number: int, params: Params) -> dict[str, Any]:
        made.append(number)
        assert number <= len(started(bench)) + 1
        return curve(number, params)

    bench.curve = watched
    bench.simulate(6, slots=2, epochs=9)
    assert bench.cohorts() == [[number] for number in range(6)]
    assert made == list(range(6))
    assert all(b'"state":4' not in line for line in (bench.folder / OPTUNA).read_bytes().splitlines()), "none waits"


def test_trials_are_drawn_up_to_a_window(bench: Bench) -> None:
    bench.shape_of = lambda spec: str(spec.number)
    made: list[int] = []
    curve = bench.curve

    def watched(number: int, params: Params) -> dict[str, Any]:
        made.append(number)
        assert number <= max(started(bench), default=-1) + AHEAD
        return curve(number, params)

    bench.curve = watched
    bench.simulate(AHEAD + 100, slots=2, fused=8)
    assert made == list(range(AHEAD + 100))


def test_a_sampler_that_looks_at_results_draws_one_ahead(bench: Bench) -> None:
    bench.simulate(12, fused=8, sampler="tpe", epochs=9)
    assert all(len(cohort) == 1 for cohort in bench.cohorts())
    assert bench.all_ended_once(12)


def test_each_trial_of_a_cohort_is_stopped_or_not_on_its_own(bench: Bench) -> None:
    bench.simulate(9, fused=32, pruner=ASHA, epochs=9)
    assert bench.cohorts() == [list(range(9))]
    states = Counter(o.state for o in bench.outcomes().values())
    assert 0 < states[TrialState.PRUNED] < 9
    told = {e.number: e.step for e in bench.events if isinstance(e, Decision) and e.verdict is Verdict.STOP}
    assert told == {n: o.steps for n, o in bench.outcomes().items() if o.state is TrialState.PRUNED}
    best = max(drawn(bench), key=lambda n: float(drawn(bench)[n]["optimizer.lr"] or 0.0))
    assert bench.outcomes()[best].state is TrialState.COMPLETE


def test_the_trials_of_a_cohort_are_compared_with_each_other_before_one_goes_on(bench: Bench) -> None:
    with_shapes(bench, 1)
    bench.simulate(9, slots=1, fused=9, pruner=ASHA, epochs=9)
    stopped = [e.number for e in bench.events if isinstance(e, Decision) and e.step == 1]
    assert len(stopped) == 6, "the first, too, is one of nine"
    reports = [e for e in bench.events if isinstance(e, Report) and e.step == 1]
    best = sorted(reports, key=lambda e: -e.metrics["objective"])[:3]
    assert {e.number for e in best}.isdisjoint(stopped)


def test_a_cohort_that_loses_trials_is_filled_up_with_others(bench: Bench) -> None:
    bench.simulate(40, fused=8, pruner=ASHA, epochs=9)
    assert bench.all_ended_once(40)
    assert len(bench.cohorts()) < 4, "the worker did not have to wait for the slowest of each"
    assert {number for number, _ in bench.joined} | {n for cohort in bench.cohorts() for n in cohort} == set(range(40))
    begun = open_ = 0
    for event in bench.events:
        open_ += isinstance(event, Started) - isinstance(event, Outcome)
        begun = max(begun, open_)
    assert begun <= 16, "who was told to stop is replaced at once; its outcome comes with the next words"


class _OneIsLate(Watched):
    """Another worker than the first is there after three seconds only."""

    @property
    def num_free(self) -> int:
        return super().num_free - (self._clock() < 3.0)


def test_nobody_joins_while_a_worker_is_free(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.5] * (2 if number == 0 else 9), "sleep": 1.0}
    bench.clock = clock = VirtualClock()
    bench.search(5, executor=_OneIsLate(bench, 2, clock), fused=2, epochs=9)
    assert bench.cohorts() == [[0, 1], [2, 3]]
    assert bench.joined == [(4, 0)], "a second later"


def test_what_waits_is_shared_out_by_what_each_worker_has_to_do(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.5] * 9, "sleep": 1.0}
    bench.clock = clock = VirtualClock()
    bench.search(8, executor=_OneIsLate(bench, 2, clock), fused=8, epochs=9)
    assert bench.cohorts() == [[0, 1, 2, 3], [4, 5, 6, 7]], "the first worker is not nearly done with its half"


def test_an_objective_that_plans_no_epoch_is_searched_all_the_same(bench: Bench) -> None:
    bench.simulate(4, slots=2, epochs=0)
    assert bench.all_ended_once(4)


def test_paused_trials_are_promoted_into_cohorts(bench: Bench) -> None:
    bench.simulate(27, fused=8, pruner=PROMOTION, epochs=9)
    assert bench.all_ended_once(27)
    promoted = {e.number for e in bench.events if isinstance(e, Decision) and e.reason == "promoted"}
    together = {n for cohort in bench.cohorts() if len(cohort) > 1 for n in cohort} | {n for n, _ in bench.joined}
    assert promoted & together
    assert any(o.state is TrialState.COMPLETE for o in bench.outcomes().values())


def test_real_threads_do_what_virtual_time_does(in_memory: Path, bench: Bench) -> None:
    real = with_shapes(Bench(in_memory / "real"), 3)
    real.curve = lambda number, params: {"values": [rate_of(params) + step / 50 for step in range(9)]}
    with_shapes(bench, 3)
    for searched in (
        lambda **how: bench.simulate(24, **how),
        lambda **how: real.search(24, executor=InProcessExecutor(real.run), **how),
    ):
        searched(fused=4, pruner=ASHA, epochs=9)
    both = [{n: (o.state, o.steps, o.value) for n, o in b.outcomes().items()} for b in (bench, real)]
    assert both[0] == both[1]
    assert started(bench) == started(real)


# ------------------------------------------------------------------------------------------------------------ measuring


def test_a_shape_is_measured_once_and_for_all_searches(bench: Bench) -> None:
    bench.sizes = {"one": 4}
    bench.shape_of = lambda _: "one"
    bench.simulate(12, slots=2, fused=None, epochs=9)
    assert [(e.shape, e.size) for e in bench.events if isinstance(e, Measured)] == [("one", 4)]
    assert len(bench.measured) == 1
    assert max(map(len, bench.cohorts())) == 4
    handed = len(bench.handed)
    bench.simulate(30, slots=2, fused=None, epochs=9)
    assert len(bench.measured) == 1, "the next driver knows"
    assert isinstance(bench.handed[handed], CohortSpec)
    assert bench.all_ended_once(30)


@pytest.mark.parametrize("end", ["die", "freeze"])
def test_where_measuring_is_cut_off_twice_trials_are_alone_and_nothing_is_remembered(bench: Bench, end: str) -> None:
    bench.measure_ends = end
    bench.shape_of = lambda _: "one"
    bench.curve = lambda number, params: {"values": [rate_of(params)] * 9, "sleep": 30.0}
    policy = FailurePolicy(retries={}, hang_seconds=60.0)
    bench.simulate(12, slots=2, fused=None, epochs=9, policy=policy)
    assert not [e for e in bench.events if isinstance(e, Measured)], "it was the worker's fault: a resume tries again"
    assert bench.cohorts() == [[number] for number in range(12)]
    assert bench.all_ended_once(12)
    assert not retried(bench)


def test_no_search_waits_for_a_measurement_that_nobody_needs(bench: Bench) -> None:
    bench.measure_ends = "freeze"
    bench.shape_of = lambda _: "one"
    bench.simulate(6, slots=4, fused=None, epochs=9)
    assert bench.all_ended_once(6)
    assert bench.clock() < 60.0
    assert not [e for e in bench.events if isinstance(e, Measured)]


def test_an_interruption_ends_a_measurement(bench: Bench) -> None:
    bench.measure_ends = "freeze"
    bench.shape_of = lambda _: "one"
    bench.on_event = lambda event: bench.last.interrupt(100.0) if isinstance(event, Report) else None
    bench.simulate(12, slots=2, fused=None, epochs=9)
    assert bench.clock() < 60.0


def test_a_night_before_a_measurement_is_not_spent(bench: Bench) -> None:
    bench.simulate(3, epochs=9)
    spent = bench.clock()
    bench.clock.now += 1e6  # type: ignore[attr-defined] # a virtual clock
    bench.kill_after(1)
    with pytest.raises(KilledError):
        bench.simulate(12, fused=None, epochs=9)
    assert isinstance(bench.events[-1], Measured)
    bench.on_event = lambda event: None
    assert limit_reached(bench, 12, fused=None, seconds=spent + 5.1) is None
    bench.simulate(12, fused=None, epochs=9, seconds=1e5)
    assert bench.all_ended_once(12)


def test_what_a_cohort_says_out_of_order_is_not_counted_twice(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.5] * 9, "sleep": 10.0 + number}
    bench.simulate(8, fused=8, epochs=9)
    assert limit_reached(bench, 9, fused=8, seconds=bench.clock() + 0.1) is None
    assert limit_reached(bench, 9, fused=8, seconds=bench.clock() - 0.1) == "budget.hours"


# ------------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("end", ["die", FailureKind.PREEMPTED, FailureKind.LOST_WORKER, FailureKind.OUT_OF_MEMORY])
def test_a_failure_of_a_whole_cohort_is_nobodys_and_its_trials_are_tried_again(bench: Bench, end: str) -> None:
    if end == "die":
        in_a_cohort(bench, 2, "die")
    else:
        bench.attempt = lambda number, attempt: {"end": end} if attempt == 1 and number < 5 else {}
    bench.simulate(9, fused=5, epochs=9, policy=FailurePolicy(retries={}))
    kind = FailureKind.LOST_WORKER if end == "die" else FailureKind(end)
    assert retried(bench) == [(number, kind, 5) for number in range(5)]
    assert bench.cohorts()[0] == [0, 1, 2, 3, 4]
    if kind is FailureKind.PREEMPTED:  # the node was taken away, whatever ran there
        assert bench.cohorts()[1] == [0, 1, 2, 3, 4]
    else:
        assert bench.cohorts()[1:6] == [[number] for number in range(5)], "and never in company again"
    assert {o.state for o in bench.outcomes().values()} == {TrialState.COMPLETE}
    assert bench.all_ended_once(9)
    assert {spec.micro_batches for spec in bench.specs} == {1}


def test_where_memory_was_short_for_a_cohort_the_next_ones_are_half_as_large(bench: Bench) -> None:
    """Each trial is alone where the first cohort failed; others of the shape need not go the same way."""
    bench.attempt = lambda number, attempt: {"end": "out-of-memory"} if attempt == 1 and number < 8 else {}
    bench.simulate(24, fused=8, epochs=9, policy=FailurePolicy(retries={}))
    assert {cohort for _, _, cohort in retried(bench)} == {8}
    assert [len(cohort) for cohort in bench.cohorts()] == [8, *[1] * 8, 4, 4, 4, 4]
    assert bench.all_ended_once(24)


def interrupt_behind(bench: Bench, retries: int) -> None:
    """Let the search be interrupted, and leave at once, once so many attempts have failed."""
    bench.on_event = lambda event: bench.last.interrupt(0.0) if len(retried(bench)) == retries else None


def test_the_next_driver_knows_for_how_many_memory_was_short(bench: Bench) -> None:
    bench.attempt = lambda number, attempt: {"end": "out-of-memory"} if attempt == 1 and number < 8 else {}
    interrupt_behind(bench, 8)
    bench.simulate(24, fused=8, epochs=9, policy=FailurePolicy(retries={}))
    bench.on_event = lambda event: None
    bench.simulate(16, fused=8, epochs=9, policy=FailurePolicy(retries={}))
    bench.simulate(24, fused=8, epochs=9, policy=FailurePolicy(retries={}))
    assert [len(cohort) for cohort in bench.cohorts()] == [8, *[1] * 8, 4, 4, 4, 4], "and the one after that"
    assert bench.all_ended_once(24)


def test_the_next_driver_knows_it_though_one_of_them_alone_had_too_little_memory_too(bench: Bench) -> None:
    bench.attempt = lambda number, attempt: {"end": "out-of-memory"} if number < 2 and attempt <= 2 else {}
    interrupt_behind(bench, 2 + 2)
    policy = FailurePolicy(retries={FailureKind.OUT_OF_MEMORY: 1})
    bench.simulate(6, fused=2, epochs=9, policy=policy)
    bench.on_event = lambda event: None
    bench.simulate(6, fused=2, epochs=9, policy=policy)
    assert all(len(cohort) == 1 for cohort in bench.cohorts()[1:])
    assert max(spec.micro_batches for spec in bench.specs) == 2
    assert bench.all_ended_once(6)


@pytest.mark.parametrize("error", [StrandedError, UsageError])
def test_where_nobody_knows_what_shape_lacked_memory_the_search_goes_on(bench: Bench, error: type[Exception]) -> None:
    bench.attempt = lambda number, attempt: {"end": "out-of-memory"} if attempt == 1 and number < 4 else {}
    bench.simulate(4, fused=4, epochs=9)
    before = bench.curve

    def changed(number: int, params: Params) -> dict[str, Any]:
        if number < 4:
            raise error(f"trial {number}: its file is damaged")
        return before(number, params)

    bench.curve = changed
    bench.simulate(8, fused=4, epochs=9)
    assert bench.cohorts()[-1] == [4, 5, 6, 7]
    assert bench.all_ended_once(8)


def test_who_was_struck_stays_alone_after_a_resume(bench: Bench) -> None:
    in_a_cohort(bench, 2, "die")
    bench.on_event = lambda event: bench.last.interrupt(0.0) if isinstance(event, Retried) else None
    bench.simulate(9, fused=5, epochs=9)
    assert len(retried(bench)) == 5
    bench.on_event = lambda event: None
    bench.simulate(9, fused=5, epochs=9, policy=FailurePolicy(retries={}))
    assert bench.cohorts()[1:] == [*([number] for number in range(5)), [5, 6, 7, 8]]
    assert bench.all_ended_once(9)


@pytest.mark.parametrize(("hang", "timeout"), [(60.0, None), (None, 20.0)])
def test_a_cohort_that_hangs_or_takes_too_long_is_ended_by_force(
    bench: Bench, hang: float | None, timeout: float | None
) -> None:
    in_a_cohort(bench, 1, "freeze")
    policy = FailurePolicy(retries={}, hang_seconds=hang, timeout_seconds=timeout)
    bench.simulate(4, fused=4, epochs=9, policy=policy)
    assert {cohort for _, _, cohort in retried(bench)} == {4}
    assert bench.cohorts() == [[0, 1, 2, 3], [0], [1], [2], [3]]
    assert {o.state for o in bench.outcomes().values()} == {TrialState.COMPLETE}


def test_what_takes_too_long_is_a_trials_share_of_its_cohorts_time(bench: Bench) -> None:
    policy = FailurePolicy(retries={}, timeout_seconds=4.0)
    bench.simulate(6, fused=3, epochs=9, policy=policy)
    assert bench.cohorts() == [[0, 1, 2], [3, 4, 5]]
    assert not retried(bench), "nine seconds of three"
    bench.simulate(7, fused=3, epochs=9, policy=policy)
    assert bench.outcomes()[6].state is TrialState.FAILED, "and of one"


def test_a_cohort_is_not_suspected_of_hanging_for_an_epoch_of_all_of_it(bench: Bench) -> None:
    """Two of three leave after their second epoch; a hundred seconds are too long for one."""
    bench.curve = lambda number, _: {"values": [0.5] * (9 if number == 2 else 2), "sleep": 100.0}
    bench.simulate(3, fused=3, epochs=9, policy=FailurePolicy(retries={}, hang_seconds=60.0))
    assert bench.cohorts() == [[0, 1, 2]]
    assert [n for n, o in bench.outcomes().items() if o.state is TrialState.FAILED] == [2]
    assert bench.outcomes()[2].reason == "no report for 60 s (failures.hang_seconds)"
    assert bench.outcomes()[2].steps == 3


def test_who_joins_a_cohort_may_be_waited_for(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.5] * (1 if number == 0 else 4), "sleep": 100.0}
    bench.simulate(4, fused=2, epochs=9, policy=FailurePolicy(retries={FailureKind.HANG: 9}, hang_seconds=60.0))
    assert bench.joined[0] == (2, 0)
    alone = [e for e in bench.events if isinstance(e, Retried)]
    assert {e.cohort for e in alone} == {1}, "two may be silent for a hundred seconds"


def test_a_cohort_that_hangs_is_told_as_one(bench: Bench) -> None:
    in_a_cohort(bench, 1, "freeze")
    bench.simulate(4, fused=4, epochs=9, policy=FailurePolicy(retries={}, hang_seconds=60.0))
    messages = {e.failure.message for e in bench.events if isinstance(e, Retried)}
    assert messages == {"no report for 240 s (failures.hang_seconds for each of 4 trials)"}


@pytest.mark.parametrize("kind", [FailureKind.NON_FINITE, FailureKind.EXCEPTION])
def test_a_failure_of_one_trial_in_a_cohort_is_its_own(bench: Bench, kind: FailureKind) -> None:
    in_a_cohort(bench, 2, kind)
    bench.simulate(4, fused=4, epochs=9, policy=FailurePolicy(retries={}))
    assert bench.outcomes()[2].state is TrialState.FAILED
    assert not retried(bench)
    assert [o.state for n, o in sorted(bench.outcomes().items()) if n != 2] == [TrialState.COMPLETE] * 3


def test_a_failure_of_its_own_is_tried_again_as_its_budget_says_and_may_have_company(bench: Bench) -> None:
    in_a_cohort(bench, 2, FailureKind.EXCEPTION)
    bench.simulate(8, fused=4, epochs=9, policy=FailurePolicy(retries={FailureKind.EXCEPTION: 1}))
    assert retried(bench) == [(2, FailureKind.EXCEPTION, 1)]
    assert [2, 4, 5, 6] in bench.cohorts()


def test_an_exception_that_ends_all_of_a_cohort_is_nobodys_and_then_each_ones_own(bench: Bench) -> None:
    """A layer that cannot be fused must not fail a search that trains well without that; a user's mistake must."""
    bench.curve = lambda number, _: {"values": [0.5] * 3}
    bench.attempt = lambda number, attempt: {"end": "raise"} if number == 1 else {}
    bench.search(3, executor=InProcessExecutor(bench.run), fused=3, policy=FailurePolicy(retries={}))
    assert retried(bench) == [(number, FailureKind.EXCEPTION, 3) for number in range(3)]
    states = {n: o.state for n, o in bench.outcomes().items()}
    assert states == {0: TrialState.COMPLETE, 1: TrialState.FAILED, 2: TrialState.COMPLETE}
    assert bench.all_ended_once(3)


def test_an_outcome_that_a_lost_cohorts_worker_wrote_counts(bench: Bench) -> None:
    left = doubles.outcome(1, TrialState.COMPLETE, 0.9, 9)

    def write_and_die(number: int, attempt: int) -> Mapping[str, Any]:
        if number == 1:
            bench.directory(1).mkdir(parents=True)
            (bench.directory(1) / OUTCOME).write_text(event_to_json(left))
        return {"end": "die"} if number == 2 and attempt == 1 else {}

    bench.attempt = write_and_die
    bench.simulate(3, fused=3, epochs=9)
    assert bench.outcomes()[1] == left
    assert [number for number, _, _ in retried(bench)] == [0, 2]


# ------------------------------------------------------------------------------------------------- pauses and recovery


def test_an_interrupted_cohort_pauses_and_goes_on_together(bench: Bench) -> None:
    bench.on_event = lambda event: bench.last.interrupt(100.0) if isinstance(event, Report) else None
    bench.simulate(8, fused=4, epochs=9)
    assert sorted(e.number for e in bench.events if isinstance(e, Paused)) == [0, 1, 2, 3]
    bench.on_event = lambda event: None
    bench.simulate(8, fused=4, epochs=9)
    assert bench.cohorts() == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert bench.all_ended_once(8)
    for number in range(8):
        assert [e.step for e in bench.events if isinstance(e, Report) and e.number == number] == list(range(1, 10))


@pytest.mark.parametrize("pruner", [{"kind": "none"}, ASHA, PROMOTION], ids=lambda pruner: pruner["kind"])
@pytest.mark.parametrize("fused", [4, None])
def test_a_driver_may_die_behind_any_event(
    in_memory: Path, bench: Bench, fused: int | None, pruner: dict[str, Any]
) -> None:
    rng = random.Random(0)
    how: dict[str, Any] = {"slots": 2, "fused": fused, "pruner": pruner, "epochs": 9}
    with_shapes(bench, 3).simulate(20, **how)
    for position in sorted(rng.sample(range(1, len(bench.events)), 12)):
        again = with_shapes(Bench(in_memory / str(position)), 3)
        for after in (position, rng.randrange(1, 20)):
            again.kill_after(after)
            try:
                again.simulate(20, **how)
            except KilledError:
                continue
        again.on_event = lambda event: None
        again.simulate(20, **how)
        assert again.all_ended_once(20), position
        assert drawn(again) == drawn(bench)
        for number in range(20):
            steps = [e.step for e in again.events if isinstance(e, Report) and e.number == number]
            assert steps == sorted(set(steps)), "no step is recorded twice"
            assert again.outcomes()[number].steps == max(steps)
        assert len(again.measured) <= 3 + 2, "only a measurement that nobody heard of is made again"


def test_trials_that_wait_are_stored_as_waiting_and_begin_later(bench: Bench) -> None:
    with_shapes(bench, 3)
    bench.kill_after(9)
    with pytest.raises(KilledError):
        bench.simulate(30, fused=8, epochs=9)
    assert started(bench) == [0, 3, 6, 9, 12, 15, 18, 21]
    stored = read_trials(bench.folder)
    assert len(stored) == 22
    waiting = [trial.number for trial in stored if trial.state is TrialState.WAITING]
    assert waiting == [n for n in range(22) if n % 3]
    study = read_study(bench.folder)
    assert [t.number for t in study.trials if t.state is TrialState.WAITING] == waiting
    bench.on_event = lambda event: None
    bench.simulate(30, fused=8, epochs=9)
    assert bench.all_ended_once(30)


# --------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("limit", [{"seconds": 12.0}, {"patience": 5}], ids=["hours", "patience"])
def test_a_limit_ends_the_search_and_trials_that_wait_begin_with_a_larger_one(
    bench: Bench, limit: dict[str, Any]
) -> None:
    with_shapes(bench, 3)
    bench.curve = lambda number, _: {"values": [0.5] * 9, "sleep": 1.0}
    progress = bench.simulate(64, fused=4, epochs=9, **limit)
    begun = set(started(bench))
    assert set(bench.outcomes()) == begun
    assert 0 < len(begun) < max(begun) + 1, "some below the last were never begun"
    assert progress.finished == len(begun)
    assert bench.last.remaining() == 0
    assert bench.last.limit_reached() is not None
    events = len(bench.events)
    bench.simulate(64, fused=4, epochs=9, **limit)
    assert len(bench.events) == events
    bench.simulate(64, fused=4, epochs=9)
    assert bench.all_ended_once(64)


def test_a_budget_counts_trials_that_began(bench: Bench) -> None:
    with_shapes(bench, 3)
    bench.curve = lambda number, _: {"values": [0.5] * 9, "sleep": 1.0}
    bench.simulate(64, fused=4, epochs=9, seconds=12.0)
    begun = len(started(bench))
    assert bench.simulate(begun + 3, fused=4, epochs=9).finished == begun + 3
    waited = [n for n in range(max(started(bench))) if n not in started(bench)[:begun]]
    assert sorted(started(bench)[begun:]) == waited[:3], "those that wait come first"
    assert bench.simulate(64, epochs=9).finished == 64
    assert bench.all_ended_once(64)


def test_a_grid_is_walked_once_whoever_shares_a_worker(bench: Bench) -> None:
    from omegaconf import OmegaConf

    from search.space import Space

    node = {"lr": 0.1, "depth": 1, "space": {"lr": {"choices": [0.1, 0.2, 0.3]}, "depth": {"low": 1, "high": 4}}}
    space = Space.of(OmegaConf.create({"optimizer": node, "choose": {}}))
    with_shapes(bench, 3)
    bench.kill_after(20)
    with pytest.raises(KilledError):
        bench.simulate(50, sampler="grid", space=space, fused=4, epochs=9)
    bench.on_event = lambda event: None
    assert bench.simulate(50, sampler="grid", space=space, fused=4, epochs=9).finished == 12
    assert Counter(tuple(p.values()) for p in drawn(bench).values()) == Counter(
        (lr, depth) for lr in (0.1, 0.2, 0.3) for depth in (1, 2, 3, 4)
    )


# ------------------------------------------------------------------------------------------ other compositions, damage


def test_trials_drawn_for_other_data_end_without_being_begun(bench: Bench) -> None:
    with_shapes(bench, 3)
    bench.kill_after(9)
    with pytest.raises(KilledError):
        bench.simulate(30, fused=8, epochs=9, identity={"seed": 0, "data.digest": "one"})
    begun, waiting = set(started(bench)), [n for n in range(22) if n % 3]
    bench.on_event = lambda event: None
    progress = bench.simulate(40, fused=8, epochs=9, identity=OTHER_DATA, extend=True)
    assert bench.all_ended_once(40)
    assert progress.finished == 40
    assert not set(waiting) & set(bench.trained)
    assert {bench.outcomes()[n].reason for n in waiting} == {"was drawn for other data, and never began"}
    assert bench.gave_up() is None
    assert begun <= set(bench.trained)


def test_trials_drawn_from_an_earlier_space_begin_where_they_still_can(bench: Bench) -> None:
    with_shapes(bench, 3)
    bench.kill_after(9)
    with pytest.raises(KilledError):
        bench.simulate(30, fused=8, epochs=9, identity={"seed": 0, "space.lr": 1.0})
    before, ahead = bench.curve, set(range(22))

    def stranded(number: int, params: Params) -> dict[str, Any]:
        if number in ahead and number % 3 == 1:
            raise StrandedError(f"trial {number}: no longer composed")
        return before(number, params)

    bench.on_event, bench.curve = (lambda event: None), stranded
    bench.simulate(40, fused=8, epochs=9, identity=OTHER_SPACE, extend=True)
    assert bench.all_ended_once(40)
    failed = {n for n, o in bench.outcomes().items() if o.state is TrialState.FAILED}
    assert failed == {n for n in ahead if n % 3 == 1}
    assert {n for n in ahead if n % 3 == 2} <= set(bench.trained)


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
def test_what_a_power_failure_took_of_optunas_journal_is_drawn_again(
    in_memory: Path, bench: Bench, sampler: str
) -> None:
    from omegaconf import OmegaConf

    from search.space import Space

    node = {"lr": 0.5, "space": {"lr": {"choices": [number / 40 for number in range(40)]}}}
    space = Space.of(OmegaConf.create({"optimizer": node, "choose": {}}))
    how: dict[str, Any] = {"fused": 4, "epochs": 9, "sampler": sampler, "space": space}
    with_shapes(bench, 3)
    bench.kill_after(30)
    with pytest.raises(KilledError):
        bench.simulate(30, **how)
    bench.on_event = lambda event: None
    before = read_trials(bench.folder)
    assert any(trial.state is TrialState.WAITING for trial in before)
    lines = (bench.folder / OPTUNA).read_bytes().splitlines(keepends=True)
    for kept in range(len(lines) - 1, 4, -3):
        (bench.folder / OPTUNA).write_bytes(b"".join(lines[:kept]))
        journal = Journal(bench.folder, maximize=True)
        driver = bench.driver(journal, 30, **how)
        assert [t.params for t in journal.trials()] == [t.params for t in before][: len(driver._study.params)]
        assert len(driver._study.params) > max(started(bench))
        assert set(driver._study.waiting).isdisjoint(started(bench))
        journal.close()
    bench.simulate(30, **how)
    assert bench.all_ended_once(30)


def test_an_outcome_of_a_trial_whose_start_a_power_failure_took_is_taken(bench: Bench) -> None:
    with_shapes(bench, 3)
    bench.kill_after(6)
    with pytest.raises(KilledError):
        bench.simulate(12, fused=4, epochs=9)
    bench.on_event = lambda event: None
    left = doubles.outcome(1, TrialState.COMPLETE, 0.9, 9)
    bench.directory(1).mkdir(parents=True, exist_ok=True)
    (bench.directory(1) / OUTCOME).write_text(event_to_json(left))
    bench.simulate(12, fused=4, epochs=9)
    assert bench.outcomes()[1] == left
    assert 1 not in bench.trained
    assert bench.all_ended_once(12)


# ---------------------------------------------------------------------------------------------------------------- scale


def test_thousands_of_trials_on_hundreds_of_workers_cost_a_few_calls_each(in_memory: Path) -> None:
    bench = with_shapes(Bench(in_memory / "study"), 5)
    calls: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            calls[name] += 1
            return function(*given)

        return call

    bench.curve = counted(
        "make_spec",
        lambda number, params: {"values": [rate_of(params)] * 3, "sleep": 30.0 + 60 * keyed_uniform(number, "s")},
    )
    bench.shape_of = counted("shape_of", bench.shape_of)
    bench.simulate(4_000, slots=400, fused=4, epochs=3)
    assert bench.all_ended_once(4_000)
    assert calls["make_spec"] == 4_000
    assert calls["shape_of"] <= 2 * 4_000
    assert max(map(len, bench.cohorts())) == 4
    assert len(bench.events) == 4_000 * 5
