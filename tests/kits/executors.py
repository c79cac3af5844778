"""What every executor must do; subclass it and give `executor`, one whose workers run `tests.kits.doubles`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.records import (
    CohortSpec,
    Decision,
    FailureKind,
    Measured,
    MeasureSpec,
    Outcome,
    Paused,
    Report,
    TrialState,
    Verdict,
)
from search.sweep.executor import Answer, Executor, Happening, Said, Words
from tests.kits.doubles import spec

PATIENCE = 30.0


def decision(report: Report, verdict: Verdict = Verdict.GO_ON) -> Decision:
    reason = "" if verdict is Verdict.GO_ON else "told to"
    return Decision(number=report.number, step=report.step, verdict=verdict, reason=reason, time=0.0)


def answer(*reports: Report, verdict: Verdict = Verdict.GO_ON) -> Answer:
    return Answer(tuple(decision(report, verdict) for report in reports))


def words_of(executor: Executor, slot: int) -> Words:
    """Return the next words of the slot's work; nothing else may be running."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for where, words in executor.wait(0.5):
            assert where == slot
            return words
    raise AssertionError(f"slot {slot} said nothing for {PATIENCE} s")


def next_of(executor: Executor, slot: int) -> Said:
    """Return the next thing that the slot's work, which is one trial, says."""
    (said,) = words_of(executor, slot)
    return said


def drain(executor: Executor, slot: int, first: Answer | None = None) -> list[Said]:
    """Answer every report with "go on", once with `first`; return all that was said."""
    said: list[Said] = []
    if first is not None:
        executor.resume(slot, first)
    while True:
        words = words_of(executor, slot)
        said += words
        reports = [each for each in words if isinstance(each, Report)]
        if not reports:
            return said
        executor.resume(slot, answer(*reports))


def wait_for_room(executor: Executor, slots: int = 1) -> None:
    """Wait until work can start: a lost worker is being replaced."""
    deadline = time.monotonic() + PATIENCE
    while executor.num_free < slots and time.monotonic() < deadline:
        assert executor.wait(0.5) == []


def cohort(folder: Path, values: Mapping[int, list[float]], **config: Any) -> CohortSpec:
    """Return trials, by number, that share a worker; `config` is that of the last one."""
    last = max(values)
    return CohortSpec(
        trials=tuple(
            spec(number, each, str(folder / str(number)), **(config if number == last else {}))
            for number, each in values.items()
        )
    )


def reports_of(words: Words) -> list[Report]:
    return [said for said in words if isinstance(said, Report)]


def failures_of(words: Words) -> dict[int, FailureKind | None]:
    """Return why each of the trials failed that said a last word."""
    return {s.number: s.failure.kind if s.failure else None for s in words if isinstance(s, Outcome)}


class ExecutorConformance:
    """The suite; a subclass gives the fixture `executor`, with two slots."""

    def test_reports_come_in_order_and_the_outcome_last(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(spec(7, [0.1, 0.3, 0.2], str(tmp_path)))
        said = drain(executor, slot)
        assert [s.step for s in said if isinstance(s, Report)] == [1, 2, 3]
        assert isinstance(said[-1], Outcome)
        assert (said[-1].number, said[-1].state, said[-1].value) == (7, TrialState.COMPLETE, 0.3)

    def test_work_waits_for_the_answer_to_its_report(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(spec(1, [0.1, 0.2], str(tmp_path)))
        first = next_of(executor, slot)
        assert isinstance(first, Report)
        assert self.silent(executor)
        executor.resume(slot, answer(first))
        drain(executor, slot)

    def test_a_decision_to_stop_ends_the_work(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(spec(2, [0.1, 0.2, 0.3], str(tmp_path)))
        first = next_of(executor, slot)
        assert isinstance(first, Report)
        executor.resume(slot, answer(first, verdict=Verdict.STOP))
        last = next_of(executor, slot)
        assert isinstance(last, Outcome)
        assert (last.state, last.reason, last.steps) == (TrialState.PRUNED, "told to", 1)

    def test_a_decision_to_pause_frees_the_slot(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(spec(2, [0.1, 0.2, 0.3], str(tmp_path)))
        first = next_of(executor, slot)
        assert isinstance(first, Report)
        executor.resume(slot, answer(first, verdict=Verdict.PAUSE))
        last = next_of(executor, slot)
        assert isinstance(last, Paused)
        assert (last.number, last.step, last.so_far.value) == (2, 1, 0.1)
        assert executor.num_free == 2

    def test_slots_run_side_by_side(self, executor: Executor, tmp_path: Path) -> None:
        slots = [executor.start(spec(number, [0.5], str(tmp_path))) for number in (0, 1)]
        assert executor.num_free == 0
        happened: list[Happening] = []
        deadline = time.monotonic() + PATIENCE
        while len(happened) < 2 and time.monotonic() < deadline:
            happened += executor.wait(0.5)
        assert sorted(slot for slot, _ in happened) == sorted(slots), "neither waits for the other's answer"
        for slot, (said,) in happened:
            assert isinstance(said, Report)
            executor.resume(slot, answer(said))
        ended = 0
        while ended < 2 and time.monotonic() < deadline:
            ended += len(executor.wait(0.5))
        assert ended == 2

    def test_a_slot_takes_work_after_work(self, executor: Executor, tmp_path: Path) -> None:
        for number in range(3):
            last = drain(executor, executor.start(spec(number, [float(number)], str(tmp_path))))[-1]
            assert isinstance(last, Outcome)
            assert last.number == number

    def test_failed_work_leaves_a_usable_slot(self, executor: Executor, tmp_path: Path) -> None:
        failed = drain(executor, executor.start(spec(1, [0.1], str(tmp_path), end="exception")))[-1]
        assert isinstance(failed, Outcome)
        assert failed.failure is not None
        assert isinstance(drain(executor, executor.start(spec(2, [0.1], str(tmp_path))))[-1], Outcome)

    def test_paused_work_goes_on_in_another_slot_behind_its_pause(self, executor: Executor, tmp_path: Path) -> None:
        work = spec(2, [0.1, 0.2, 0.3], str(tmp_path))
        slot = executor.start(work)
        first = next_of(executor, slot)
        assert isinstance(first, Report)
        executor.resume(slot, answer(first, verdict=Verdict.PAUSE))
        assert isinstance(next_of(executor, slot), Paused)
        said = drain(executor, executor.start(work))
        assert [s.step for s in said if isinstance(s, Report)] == [2, 3]

    def test_cancelled_work_is_not_heard_of_again(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(spec(1, [0.1, 0.2], str(tmp_path)))
        assert isinstance(next_of(executor, slot), Report)
        executor.cancel(slot)
        wait_for_room(executor)
        said = drain(executor, executor.start(spec(2, [0.1], str(tmp_path))))
        assert {s.number for s in said} == {2}

    def test_work_that_hangs_can_be_cancelled(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(spec(1, [0.1], str(tmp_path), end="freeze"))
        assert self.silent(executor)
        executor.cancel(slot)
        wait_for_room(executor)
        assert isinstance(drain(executor, executor.start(spec(2, [0.1], str(tmp_path))))[-1], Outcome)

    def test_nothing_happens_in_idle_slots(self, executor: Executor) -> None:
        assert executor.wait(0.01) == []
        assert executor.num_free == executor.num_slots == 2

    # Cohorts

    def test_a_cohort_says_at_once_what_its_trials_say(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(cohort(tmp_path, {3: [0.1, 0.2], 5: [0.3]}))
        words = words_of(executor, slot)
        assert [(s.number, s.step) for s in words if isinstance(s, Report)] == [(3, 1), (5, 1)]
        assert self.silent(executor)
        executor.resume(slot, answer(*reports_of(words)))
        words = words_of(executor, slot)
        assert [(s.number, type(s).__name__) for s in words] == [(3, "Report"), (5, "Outcome")]
        assert executor.num_free == 1, "the other one goes on"
        executor.resume(slot, answer(*reports_of(words)))
        words = words_of(executor, slot)
        assert [(s.number, type(s).__name__) for s in words] == [(3, "Outcome")]
        assert executor.num_free == 2

    def test_each_trial_of_a_cohort_is_told_something_of_its_own(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(cohort(tmp_path, {number: [0.1, 0.2] for number in range(3)}))
        verdicts = (Verdict.STOP, Verdict.GO_ON, Verdict.PAUSE)
        first = reports_of(words_of(executor, slot))
        told = tuple(decision(report, verdict) for report, verdict in zip(first, verdicts, strict=True))
        said = drain(executor, slot, Answer(told))
        assert {(s.number, type(s).__name__) for s in said} >= {(0, "Outcome"), (1, "Outcome"), (2, "Paused")}
        assert {s.number: s.state for s in said if isinstance(s, Outcome)} == {
            0: TrialState.PRUNED,
            1: TrialState.COMPLETE,
        }

    def test_trials_join_a_cohort_with_the_answer(self, executor: Executor, tmp_path: Path) -> None:
        slot = executor.start(cohort(tmp_path, {0: [0.1, 0.2], 1: [0.1]}))
        first = answer(*reports_of(words_of(executor, slot)))
        joining = cohort(tmp_path, {7: [0.5, 0.6, 0.7], 8: [0.5]}).trials
        said = drain(executor, slot, Answer(first.decisions, joining))
        assert [s.step for s in said if isinstance(s, Report) and s.number == 7] == [1, 2, 3]
        assert {s.number for s in said if isinstance(s, Outcome)} == {0, 1, 7, 8}
        assert executor.num_free == 2

    def test_a_measurement_is_told_at_once(self, executor: Executor, tmp_path: Path) -> None:
        trials = cohort(tmp_path, {0: [0.1], 1: [0.1]}).trials
        said = next_of(executor, executor.start(MeasureSpec(number=0, shape="a", trials=trials, waiting=4)))
        assert isinstance(said, Measured)
        assert (said.number, said.shape, said.size, said.rates) == (0, "a", 8, {"1": 100.0, "8": 800.0})
        assert executor.num_free == 2

    def silent(self, executor: Executor) -> bool:
        """Tell whether nothing happens for a while."""
        return executor.wait(0.3) == []
