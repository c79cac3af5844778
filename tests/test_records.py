import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.records import (
    Decision,
    Event,
    Failure,
    FailureKind,
    Outcome,
    Report,
    Started,
    TrialSpec,
    TrialState,
    event_from_json,
    event_to_json,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
COUNT = st.integers(min_value=0, max_value=10**9)
METRICS = st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False), max_size=3)
PARAMS = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=8), max_size=3
)
FAILURES = st.builds(Failure, kind=st.sampled_from(FailureKind), message=st.text(), traceback=st.text())
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Started, number=COUNT, params=PARAMS, seed=COUNT, time=FINITE),
    st.builds(Report, number=COUNT, step=COUNT, metrics=METRICS, time=FINITE),
    st.builds(Decision, number=COUNT, step=COUNT, verdict=st.sampled_from(Verdict), reason=st.text(), time=FINITE),
    st.builds(
        Outcome,
        number=COUNT,
        state=st.sampled_from(TrialState),
        value=st.none() | FINITE,
        best_step=st.none() | COUNT,
        steps=COUNT,
        metrics=METRICS,
        reason=st.text(),
        failure=st.none() | FAILURES,
        seconds=FINITE,
        time=FINITE,
    ),
)

STORED = {
    "started": (
        '{"event": "started", "number": 3, "params": {"model": "mlp", "model.width": 64}, "seed": 9, "time": 1.5}',
        Started(number=3, params={"model": "mlp", "model.width": 64}, seed=9, time=1.5),
    ),
    "report": (
        '{"event": "report", "number": 3, "step": 1, "metrics": {"objective": 0.5}, "time": 2.5}',
        Report(number=3, step=1, metrics={"objective": 0.5}, time=2.5),
    ),
    "decision": (
        '{"event": "decision", "number": 3, "step": 1, "stop": true, "reason": "rung", "time": 2.5}',
        Decision(number=3, step=1, verdict=Verdict.STOP, reason="rung", time=2.5),
    ),
    "complete": (
        (
            '{"event": "outcome", "number": 3, "state": "complete", "value": 0.5, "best_step": 1, "steps": 2, '
            '"metrics": {"val/loss": 0.1}, "reason": "all epochs done", "failure": null, "seconds": 1.0, "time": 3.5}'
        ),
        Outcome(
            number=3,
            state=TrialState.COMPLETE,
            value=0.5,
            best_step=1,
            steps=2,
            metrics={"val/loss": 0.1},
            reason="all epochs done",
            seconds=1.0,
            time=3.5,
        ),
    ),
    "failed": (
        (
            '{"event": "outcome", "number": 3, "state": "failed", "value": null, "best_step": null, "steps": 0, '
            '"metrics": {}, "reason": "no memory", "failure": {"kind": "out-of-memory", "message": "no memory", '
            '"traceback": "..."}, "seconds": 1.0, "time": 3.5}'
        ),
        Outcome(
            number=3,
            state=TrialState.FAILED,
            value=None,
            best_step=None,
            steps=0,
            reason="no memory",
            failure=Failure(kind=FailureKind.OUT_OF_MEMORY, message="no memory", traceback="..."),
            seconds=1.0,
            time=3.5,
        ),
    ),
}


@given(EVENTS)
def test_an_event_comes_back_from_its_line_as_it_was(event: Event) -> None:
    line = event_to_json(event)
    assert "\n" not in line
    assert event_from_json(line) == event


@pytest.mark.parametrize(("line", "event"), STORED.values(), ids=STORED)
def test_a_line_of_an_older_study_is_read_and_written_the_same(line: str, event: Event) -> None:
    assert event_from_json(line) == event
    assert event_to_json(event) == line


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf], ids=str)
def test_figures_that_are_no_numbers_survive(figure: float) -> None:
    event = event_from_json(event_to_json(Report(number=0, step=1, metrics={"val/loss": figure}, time=0.0)))
    assert isinstance(event, Report)
    assert repr(event.metrics["val/loss"]) == repr(figure)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not json",
        "3",
        "null",
        "[]",
        "{}",
        '{"event": "heartbeat"}',
        '{"event": ["report"]}',
        '{"event": "report", "number": 3}',
        '{"event": "report", "number": 3, "step": 1, "metrics": {}, "time": 1.0, "surplus": 1}',
        STORED["complete"][0].replace("complete", "lost"),
        STORED["failed"][0].replace("out-of-memory", "bad-luck"),
        STORED["complete"][0].replace('"failure": null', '"failure": 3'),
        STORED["complete"][0].replace('"failure": null, ', ""),
    ],
)
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"not an event|not a valid|Expecting value"):
        event_from_json(line)


@given(EVENTS, st.data())
def test_a_torn_line_is_refused(event: Event, data: st.DataObject) -> None:
    line = event_to_json(event)
    with pytest.raises(ValueError):
        event_from_json(line[: data.draw(st.integers(0, len(line) - 1))])


@pytest.mark.parametrize("kind", [Started, Report, Decision, Outcome, Failure, TrialSpec])
def test_records_are_frozen_and_take_keywords_only(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined] # no public way to ask
    assert all(field.kw_only for field in dataclasses.fields(kind))


def test_a_record_cannot_be_changed() -> None:
    report = Report(number=0, step=1, metrics={}, time=0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.step = 2  # type: ignore[misc]


def test_states_and_kinds_are_words_in_json() -> None:
    assert json.loads(json.dumps([TrialState.PRUNED, FailureKind.LOST_WORKER])) == ["pruned", "lost-worker"]
