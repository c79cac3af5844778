import io

from rich.console import Console

from search.records import Event, Failure, FailureKind, Measured, Report, Retried, Started, TrialState
from search.reporting.progress import ProgressDisplay, TrainingsDisplay, WorkDisplay
from search.sweep.study import Progress
from tests.kits.doubles import outcome


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


def written(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def started(number: int) -> Event:
    return Started(number=number, params={}, seed=0, time=0.0)


def test_a_line_every_few_seconds_and_one_at_the_end() -> None:
    to, clock, progress = console(), Clock(), Progress()
    with ProgressDisplay(to, 3, clock) as display:
        for number, state in enumerate([TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]):
            display(started(number), 0, progress)
            clock.now += 3.0
            ended = outcome(number, state, 0.5, 1)
            progress.add(ended, maximize=True)
            display(ended, 0, progress)
    assert written(to).splitlines() == [
        "2/3 trials · 0 running · 1 pruned · best 0.5000 (trial 0) · 0.33 trials/s · 3 s left",
        "3/3 trials · 0 running · 1 pruned · best 0.5000 (trial 0) · 0.33 trials/s · 0 s left",
    ]


def test_a_failure_is_told_at_once_as_it_is() -> None:
    to, progress = console(), Progress()
    with ProgressDisplay(to, 5, Clock()) as display:
        failed = outcome(0, TrialState.FAILED, None, 0, "ValueError: [bold]not markup[/bold]")
        progress.add(failed, maximize=True)
        display(failed, 0, progress)
    assert "trial 0 failed: ValueError: [bold]not markup[/bold]" in written(to)


def test_a_terminal_shows_every_event_in_place() -> None:
    to = console(terminal=True)
    with ProgressDisplay(to, 5, Clock()) as display:
        display(started(0), 0, Progress())
    assert "0/5 trials · 1 running" in written(to)


def test_named_work_is_shown_side_by_side() -> None:
    to, clock = console(), Clock()
    with WorkDisplay(to, "distilling", ["student", "student alone"], 9, clock) as display:
        clock.now = 6.0
        display(Report(number=1, step=4, metrics={}, time=0.0))
        clock.now = 12.0
        display(outcome(0, TrialState.COMPLETE, 0.5, 9))
    assert written(to).splitlines() == [
        "distilling: student 0/9 · student alone 4/9",
        "distilling: student 9/9 · student alone 4/9",
    ]


def test_many_trainings_are_counted_by_kind_each_once() -> None:
    to, clock = console(), Clock()
    with TrainingsDisplay(to, "ablation", ["base", "dropout", "base"], clock) as display:
        display(Report(number=1, step=4, metrics={}, time=0.0))
        clock.now = 6.0
        display(outcome(2, TrialState.FAILED, None, 0))  # and is tried again
        display(outcome(2, TrialState.COMPLETE, 0.5, 9))
        clock.now = 12.0
        display(outcome(0, TrialState.COMPLETE, 0.5, 9))
        display(outcome(1, TrialState.COMPLETE, 0.5, 9))
    assert written(to).splitlines() == [
        "ablation: base 1/2 · dropout 0/1",
        "ablation: base 2/2 · dropout 0/1",
        "ablation: base 2/2 · dropout 1/1",
    ]


def test_what_was_measured_and_who_is_tried_again_alone_is_said() -> None:
    to = console()
    failure = Failure(kind=FailureKind.LOST_WORKER, message="the worker process died")
    measured = Measured(number=0, shape="a", rates={}, size=8, reason="8 at once", seconds=1.0, time=0.0)
    again: list[Event] = [Retried(number=n, failure=failure, time=0.0, cohort=n) for n in (1, 2)]
    with ProgressDisplay(to, 3, Clock()) as display:
        for event in (measured, *again):
            display(event, 0, Progress())
    assert written(to).splitlines() == [
        "fused: 8 at once",
        "trial 1 is tried again: the worker process died",
        "trial 2 is tried again, alone: the worker process died",
    ]
