"""The driver over real storage and in-process workers that do what their configuration says."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from search.errors import UsageError
from search.records import (
    Decision,
    Failure,
    FailureKind,
    Outcome,
    Report,
    Started,
    TrialState,
    Verdict,
    Work,
    event_to_json,
    failed,
)
from search.space import Space
from search.sweep.executor import Happening, InProcessExecutor, Said
from search.sweep.journal import Journal
from search.sweep.study import Study
from tests.kits import doubles
from tests.kits.bench import ASHA, MAX_LOST_WORKERS, SPACE, Bench

IDENTITY = {"seed": 0}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "study")


def test_every_trial_is_started_reported_and_ended_once(bench: Bench) -> None:
    progress = bench.search(6, slots=2)
    assert progress.finished == 6
    assert progress.states[TrialState.COMPLETE] == 6
    for number in range(6):
        own = [type(e).__name__ for e in bench.events if e.number == number]
        assert own == ["Started", "Report", "Report", "Report", "Outcome"]


def test_the_budget_is_a_total_of_the_study(bench: Bench) -> None:
    bench.search(3)
    bench.search(5)
    assert bench.trained == [0, 1, 2, 3, 4]
    bench.search(5)
    assert bench.trained == [0, 1, 2, 3, 4]


def test_a_resumed_search_draws_what_an_undisturbed_one_draws(tmp_path: Path) -> None:
    whole, parts = Bench(tmp_path / "whole"), Bench(tmp_path / "parts")
    whole.search(8, slots=2)
    for trials in (2, 3, 8):
        parts.search(trials)
    params = [{e.number: e.params for e in b.events if isinstance(e, Started)} for b in (whole, parts)]
    assert params[0] == params[1]


def test_trial_zero_is_the_default_and_enqueued_ones_follow(bench: Bench) -> None:
    bench.search(3, first=[SPACE.default(), SPACE.complete({"optimizer.lr": 0.75})])
    started = {e.number: e.params["optimizer.lr"] for e in bench.events if isinstance(e, Started)}
    assert (started[0], started[1]) == (0.1, 0.75)
    assert started[2] not in (0.1, 0.75)


def test_a_trial_that_was_running_is_taken_up_under_its_number(bench: Bench) -> None:
    journal = Journal(bench.folder, maximize=True)
    study = Study(journal, SPACE, IDENTITY, maximize=True)
    for lr in (0.1, 0.2):
        study.create({"optimizer.lr": lr})
    study.record(Report(number=1, step=1, metrics={"objective": 0.2}, time=0.0))
    journal.close()

    bench.search(3)
    assert bench.trained == [0, 1, 2]
    assert sorted(bench.outcomes()) == [0, 1, 2]
    steps = [e["step"] for e in bench.stored_events() if e["event"] == "report" and e["number"] == 1]
    assert steps == [1, 2, 3], "a step that is trained again is recorded once"


def test_an_outcome_that_only_the_worker_wrote_is_adopted(bench: Bench) -> None:
    journal = Journal(bench.folder, maximize=True)
    study = Study(journal, SPACE, IDENTITY, maximize=True)
    study.create({"optimizer.lr": 0.1})
    left = study.directory(0) / "outcome.json"
    left.parent.mkdir(parents=True)
    left.write_text(event_to_json(doubles.outcome(0, TrialState.COMPLETE, 0.9, 3)))
    journal.close()

    progress = bench.search(2)
    assert bench.trained == [1]
    assert progress.best is not None
    assert progress.best.value == 0.9


def test_an_outcome_that_optunas_journal_missed_is_told_to_it(bench: Bench) -> None:
    journal = Journal(bench.folder, maximize=True)
    study = Study(journal, SPACE, IDENTITY, maximize=True)
    study.create({"optimizer.lr": 0.1})
    journal.close()
    with (bench.folder / "events.jsonl").open("a") as log:
        log.write(event_to_json(doubles.outcome(0, TrialState.COMPLETE, 0.4, 3)) + "\n")

    bench.search(1)
    assert bench.trained == []
    journal = Journal(bench.folder, maximize=True)
    assert [t.state for t in journal.trials()] == [TrialState.COMPLETE]
    journal.close()


@pytest.mark.parametrize("name", ["events.jsonl", "optuna.journal"])
def test_a_torn_last_line_is_cut_off(bench: Bench, name: str) -> None:
    bench.search(2)
    path = bench.folder / name
    path.write_bytes(path.read_bytes() + b'{"torn": ')
    bench.search(4)
    assert bench.trained == [0, 1, 2, 3]
    journal = Journal(bench.folder, maximize=True)
    assert [t.number for t in journal.trials()] == [0, 1, 2, 3]
    journal.close()


def test_optunas_orphaned_lock_does_not_hold_up_a_new_driver(bench: Bench) -> None:
    bench.search(1)
    (bench.folder / "optuna.journal.lock").touch()
    bench.search(2)
    assert bench.trained == [0, 1]


def test_a_second_driver_is_refused(bench: Bench) -> None:
    journal = Journal(bench.folder, maximize=True)
    with pytest.raises(UsageError, match="in use by process"):
        Journal(bench.folder, maximize=True)
    journal.close()
    Journal(bench.folder, maximize=True).close()


def test_a_study_of_something_else_is_refused(bench: Bench) -> None:
    other = "the study in .* is another one; choose another name=.*, or resume=extend"
    bench.search(1, identity={"seed": 0, "trainer.epochs": 9})
    with pytest.raises(UsageError, match=rf"^trainer\.epochs: was 9, now 3: {other}"):
        bench.search(2, identity={"seed": 0, "trainer.epochs": 3})
    with pytest.raises(UsageError, match=rf"^trainer\.epochs: was 9, now absent: {other}"):
        bench.search(2, identity={"seed": 0})


def test_a_study_without_trials_may_become_anything(bench: Bench) -> None:
    journal = Journal(bench.folder, maximize=True)
    Study(journal, SPACE, {"seed": 1}, maximize=True)
    journal.close()
    assert bench.search(1).finished == 1


def test_starting_points_named_later_run_next(bench: Bench) -> None:
    bench.search(2)
    bench.search(4, first=[SPACE.default(), SPACE.complete({"optimizer.lr": 0.75})])
    started = {e.number: e.params["optimizer.lr"] for e in bench.events if isinstance(e, Started)}
    assert started[2] == 0.75
    assert 0.75 not in (started[1], started[3])


def test_a_trial_that_reached_its_end_has_completed_whatever_the_rung_says(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [1.0 - number / 10] * 9}
    bench.search(6, pruner={"kind": "median", "startup_trials": 1, "warmup_steps": 9}, epochs=9)
    assert {o.state for o in bench.outcomes().values()} == {TrialState.COMPLETE}


def test_a_step_after_a_stop_that_was_decided_is_not_trained_on(bench: Bench) -> None:
    """The trial went on from a checkpoint behind the step at which it was told to stop."""
    journal = Journal(bench.folder, maximize=True)
    study = Study(journal, SPACE, IDENTITY, maximize=True)
    study.create({"optimizer.lr": 0.1})
    study.record(Decision(number=0, step=0, verdict=Verdict.STOP, reason="rung", time=0.0))
    journal.close()
    bench.search(1)
    assert bench.outcomes()[0].steps == 1


def test_the_outcome_of_a_worker_that_died_after_it_was_written_counts(bench: Bench) -> None:
    def write_and_die(work: Work, report: Callable[[Report], Decision]) -> Outcome:
        Path(work.directory).mkdir(parents=True)  # type: ignore[union-attr]
        done = doubles.outcome(work.number, TrialState.COMPLETE, 0.9, 3)
        (Path(work.directory) / "outcome.json").write_text(event_to_json(done))  # type: ignore[union-attr]
        return failed(work.number, FailureKind.LOST_WORKER, "died", time=0.0)

    progress = bench.search(1, executor=InProcessExecutor(write_and_die))
    assert progress.states == Counter({TrialState.COMPLETE: 1})
    assert progress.best is not None
    assert progress.best.value == 0.9


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_work_that_ends_without_an_outcome_is_told_as_failed(end: BaseException, bench: Bench) -> None:
    def ends(work: Work, report: Callable[[Report], Decision]) -> Outcome:
        raise end

    progress = bench.search(1, executor=InProcessExecutor(ends))
    assert progress.states == Counter({TrialState.FAILED: 1})
    assert bench.outcomes()[0].reason.startswith(type(end).__name__)


def test_poor_trials_are_stopped_at_a_rung(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [1.0 - number / 10] * 9}
    progress = bench.search(6, pruner=ASHA, epochs=9)
    assert progress.states[TrialState.PRUNED] > 0
    pruned = [o for o in bench.outcomes().values() if o.state is TrialState.PRUNED]
    assert all(o.steps in (1, 3) and o.reason.startswith("rung at step") for o in pruned)
    assert bench.outcomes()[0].state is TrialState.COMPLETE


def test_rungs_stand_again_after_a_resume(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [1.0 if number < 3 else 0.1] * 9}
    bench.search(3, pruner=ASHA, epochs=9)
    bench.search(4, pruner=ASHA, epochs=9)
    assert bench.outcomes()[3].steps == 1


def test_a_stop_that_was_decided_before_the_crash_is_decided_again(bench: Bench) -> None:
    journal = Journal(bench.folder, maximize=True)
    study = Study(journal, SPACE, IDENTITY, maximize=True)
    study.create({"optimizer.lr": 0.1})
    study.record(Report(number=0, step=1, metrics={"objective": 0.2}, time=0.0))
    study.record(Decision(number=0, step=1, verdict=Verdict.STOP, reason="rung", time=0.0))
    journal.close()
    bench.search(1)
    assert bench.outcomes()[0].state is TrialState.PRUNED
    assert bench.outcomes()[0].steps == 1


@pytest.mark.parametrize("pruner", [{"kind": "median", "startup_trials": 1, "warmup_steps": 0}])
def test_optunas_pruners_see_the_reports(bench: Bench, pruner: dict[str, Any]) -> None:
    bench.curve = lambda number, _: {"values": [1.0 - number / 10] * 9}
    progress = bench.search(4, pruner=pruner, epochs=9)
    assert progress.states[TrialState.PRUNED] == 3


def test_hyperband_runs_and_prunes(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [1.0 - number / 20] * 9}
    hyperband = {"kind": "hyperband", "min_resource": 1, "reduction_factor": 3}
    assert bench.search(15, pruner=hyperband, epochs=9).states[TrialState.PRUNED] > 0


def test_a_failed_trial_is_recorded_and_the_search_goes_on(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.5], "end": "exception" if number == 1 else "complete"}
    progress = bench.search(3)
    assert progress.states == Counter({TrialState.COMPLETE: 2, TrialState.FAILED: 1})
    assert bench.outcomes()[1].reason == "as told"
    assert bench.outcomes()[1].steps == 1


def test_patience_ends_the_search(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [1.0 if number == 0 else 0.5]}
    assert bench.search(50, patience=4).finished == 5
    assert bench.search(50, patience=4).finished == 5, "and a resumed one asks for no more"


def test_hours_stop_what_runs_and_count_over_sessions(bench: Bench) -> None:
    bench.curve = lambda number, _: {"values": [0.5] * 10}
    progress = bench.search(50, seconds=30.0, epochs=10)
    assert 0 < progress.finished < 50
    assert bench.outcomes()[max(bench.outcomes())].reason == "budget.hours is spent"
    before = progress.finished
    assert bench.search(50, seconds=30.0, epochs=10).finished == before


def test_a_grid_is_walked_once_and_then_the_search_is_complete(bench: Bench) -> None:
    node = {"lr": 0.1, "depth": 1, "space": {"lr": {"choices": [0.1, 0.2]}, "depth": {"low": 1, "high": 2}}}
    space = Space.of(OmegaConf.create({"optimizer": node, "choose": {}}))
    assert bench.search(50, sampler="grid", space=space).finished == 4
    drawn = [tuple(e.params.values()) for e in bench.events if isinstance(e, Started)]
    assert sorted(drawn) == [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]
    bench.search(50, sampler="grid", space=space)
    assert len(bench.trained) == 4


class _LosesWorkers(InProcessExecutor):
    """Lets the first `losses` pieces of work of trial 1 end as lost."""

    def __init__(self, bench: Bench, losses: int) -> None:
        super().__init__(bench.run, 1)
        self.losses = losses

    def wait(self, timeout: float) -> list[Happening]:
        happened = super().wait(timeout)
        return [(slot, tuple(map(self._lost, words))) for slot, words in happened]

    def _lost(self, said: Said) -> Said:
        if isinstance(said, Outcome) and said.number == 1 and self.losses:
            self.losses -= 1
            failure = Failure(kind=FailureKind.LOST_WORKER, message="died")
            return doubles.outcome(1, TrialState.FAILED, None, 0, "died", failure)
        return said


def test_a_trial_whose_worker_died_is_handed_to_another(bench: Bench) -> None:
    progress = bench.search(3, executor=_LosesWorkers(bench, 2))
    assert progress.states[TrialState.COMPLETE] == 3
    assert Counter(bench.trained)[1] == 3


def test_a_trial_that_kills_every_worker_fails_in_the_end(bench: Bench) -> None:
    progress = bench.search(3, executor=_LosesWorkers(bench, 100))
    assert progress.states[TrialState.FAILED] == 1
    assert Counter(bench.trained)[1] == 1 + MAX_LOST_WORKERS


def test_no_slot_waits_for_the_slowest_trial(bench: Bench) -> None:
    """Trial 0 ends last: the other slot does all the rest meanwhile."""
    bench.curve = lambda number, _: {"values": [0.5] * (30 if number == 0 else 1), "sleep": 0.02}
    bench.search(10, slots=2)
    order = [e.number for e in bench.events if isinstance(e, Outcome)]
    assert order[-1] == 0


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    signal.alarm(60)
    yield
    signal.alarm(0)
