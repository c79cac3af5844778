"""A small study with everything that events can say, and its MLflow store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from search.records import (
    Decision,
    Event,
    Failure,
    FailureKind,
    Outcome,
    Paused,
    Report,
    Retried,
    Started,
    TrialState,
    Verdict,
)
from search.sweep.journal import Journal
from search.tracking.projection import Projection
from search.tracking.tracker import SearchInfo

LOST = Failure(kind=FailureKind.LOST_WORKER, message="the worker died")


def ended(number: int, state: TrialState, value: float | None, time: float, failure: Failure | None = None) -> Outcome:
    return Outcome(
        number=number,
        state=state,
        value=value,
        best_step=None if value is None else 2,
        steps=2,
        reason="why it ended",
        failure=failure,
        peak_memory={"host": 300_000_000, "device": 2_500_000},
        seconds=0.5,
        time=time,
    )


def everything() -> list[Event]:
    """Return events of five trials: completed, pruned after a pause, failed after another attempt, paused, running."""
    events: list[Event] = []
    for number in range(5):
        begun = 1_700_000_000.0 + 10 * number
        events.append(Started(number=number, params={"model": "cnn", "lr": 0.1 * number}, seed=number, time=begun))
        for step in (1, 2):
            metrics = {"objective": number + step / 10, "train/loss": 1 / step if number != 2 else float("nan")}
            events.append(Report(number=number, step=step, metrics=metrics, time=begun + step + 0.001))
            if step == 1 and number in (1, 3):
                so_far = ended(number, TrialState.PRUNED, 0.1, begun + 1.5)
                said = Decision(number=number, step=1, verdict=Verdict.PAUSE, reason="rung", time=begun + 1.4)
                events += [said, Paused(number=number, step=1, so_far=so_far, time=begun + 1.5)]
                if number == 3:
                    break
                events.append(Started(number=number, params={"model": "cnn", "lr": 0.1}, seed=1, time=begun + 1.7))
            if step == 1 and number == 2:
                events.append(Retried(number=2, failure=LOST, time=begun + 1.5))
                events.append(Started(number=2, params={"model": "cnn", "lr": 0.2}, seed=2, time=begun + 1.6))
        if number < 3:
            state = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)[number]
            value = None if number == 2 else number + 0.2
            failure = Failure(kind=FailureKind.EXCEPTION, message="m", traceback="line 7") if number == 2 else None
            events.append(ended(number, state, value, begun + 3.25, failure))
    return events


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Journal]:
    """The journal of a study with all of `everything`."""
    journal = Journal(tmp_path, maximize=True)
    for _ in range(5):
        journal.create({}, {})
    for event in everything():
        journal.append(event)
    yield journal
    journal.close()


def open_projection(store: str, journal: Journal) -> Projection:
    info = SearchInfo(uid=journal.uid, name="mine", maximize=True, params={}, began=1_700_000_000.0)
    return Projection(store, "experiment", journal.folder, info)


@pytest.fixture
def told(store: str, study: Journal) -> str:
    """A store that was told everything."""
    open_projection(store, study).apply([event for event, _ in study.events()])
    return store
