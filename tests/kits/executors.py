"""What every executor must do; subclass it and give `executor`, one whose workers run `tests.kits.doubles`."""

import time
from pathlib import Path

from search.records import Decision, Outcome, Report, TrialState
from search.sweep.executor import Executor, Happening
from tests.kits.doubles import spec

PATIENCE = 30.0


def answer(report: Report, *, stop: bool = False) -> Decision:
    return Decision(number=report.number, step=report.step, stop=stop, reason="told to" if stop else "", time=0.0)


def next_of(executor: Executor, slot: int) -> Report | Outcome:
    """Return the next thing that the slot's work says; nothing else may be running."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for where, said in executor.wait(0.5):
            assert where == slot
            return said
    raise AssertionError(f"slot {slot} said nothing for {PATIENCE} s")


def drain(executor: Executor, slot: int) -> list[Report | Outcome]:
    """Answer every report with "go on"; return all that was said."""
    said: list[Report | Outcome] = []
    while not said or isinstance(said[-1], Report):
        said.append(next_of(executor, slot))
        if isinstance(last := said[-1], Report):
            executor.resume(slot, answer(last))
    return said


class ExecutorConformance:
    """The suite; a subclass gives the fixture `executor`, with at least two slots."""

    def test_reports_come_in_order_and_the_outcome_last(self, executor: Executor, tmp_path: Path) -> None:
        executor.start(0, spec(7, [0.1, 0.3, 0.2], str(tmp_path)))
        said = drain(executor, 0)
        assert [s.step for s in said if isinstance(s, Report)] == [1, 2, 3]
        assert isinstance(said[-1], Outcome)
        assert (said[-1].number, said[-1].state, said[-1].value) == (7, TrialState.COMPLETE, 0.3)

    def test_work_waits_for_the_answer_to_its_report(self, executor: Executor, tmp_path: Path) -> None:
        executor.start(0, spec(1, [0.1, 0.2], str(tmp_path)))
        first = next_of(executor, 0)
        assert isinstance(first, Report)
        assert executor.wait(0.3) == []
        executor.resume(0, answer(first))
        drain(executor, 0)

    def test_a_decision_to_stop_ends_the_work(self, executor: Executor, tmp_path: Path) -> None:
        executor.start(1, spec(2, [0.1, 0.2, 0.3], str(tmp_path)))
        first = next_of(executor, 1)
        assert isinstance(first, Report)
        executor.resume(1, answer(first, stop=True))
        last = next_of(executor, 1)
        assert isinstance(last, Outcome)
        assert (last.state, last.reason, last.steps) == (TrialState.PRUNED, "told to", 1)

    def test_slots_run_side_by_side(self, executor: Executor, tmp_path: Path) -> None:
        for slot in (0, 1):
            executor.start(slot, spec(slot, [0.5], str(tmp_path)))
        happened: list[Happening] = []
        deadline = time.monotonic() + PATIENCE
        while len(happened) < 2 and time.monotonic() < deadline:
            happened += executor.wait(0.5)
        assert sorted(slot for slot, _ in happened) == [0, 1], "neither waits for the other's answer"
        for slot, said in happened:
            assert isinstance(said, Report)
            executor.resume(slot, answer(said))
        ended = 0
        while ended < 2 and time.monotonic() < deadline:
            ended += len(executor.wait(0.5))
        assert ended == 2

    def test_a_slot_takes_work_after_work(self, executor: Executor, tmp_path: Path) -> None:
        for number in range(3):
            executor.start(0, spec(number, [float(number)], str(tmp_path)))
            last = drain(executor, 0)[-1]
            assert isinstance(last, Outcome)
            assert last.number == number

    def test_failed_work_leaves_a_usable_slot(self, executor: Executor, tmp_path: Path) -> None:
        executor.start(0, spec(1, [0.1], str(tmp_path), end="fail"))
        failed = drain(executor, 0)[-1]
        assert isinstance(failed, Outcome)
        assert failed.failure is not None
        executor.start(0, spec(2, [0.1], str(tmp_path)))
        assert isinstance(drain(executor, 0)[-1], Outcome)

    def test_nothing_happens_in_idle_slots(self, executor: Executor) -> None:
        assert executor.wait(0.01) == []
