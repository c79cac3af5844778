import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.records import (
    CohortSpec,
    Decision,
    Event,
    Failure,
    FailureKind,
    Measured,
    MeasureSpec,
    Outcome,
    Paused,
    Report,
    Retried,
    Started,
    TrialSpec,
    TrialState,
    Verdict,
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
OUTCOMES = st.builds(
    Outcome,
    number=COUNT,
    state=st.sampled_from(TrialState),
    value=st.none() | FINITE,
    best_step=st.none() | COUNT,
    steps=COUNT,
    metrics=METRICS,
    reason=st.text(),
    failure=st.none() | FAILURES,
    peak_memory=st.dictionaries(st.text(max_size=8), COUNT, max_size=2),
    seconds=FINITE,
    time=FINITE,
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Started, number=COUNT, params=PARAMS, seed=COUNT, time=FINITE),
    st.builds(Report, number=COUNT, step=COUNT, metrics=METRICS, time=FINITE),
    st.builds(Decision, number=COUNT, step=COUNT, verdict=st.sampled_from(Verdict), reason=st.text(), time=FINITE),
    st.builds(Paused, number=COUNT, step=COUNT, so_far=OUTCOMES, time=FINITE),
    st.builds(Retried, number=COUNT, failure=FAILURES, time=FINITE, cohort=st.integers(1, 64)),
    st.builds(
        Measured,
        number=COUNT,
        shape=st.text(max_size=8),
        rates=st.dictionaries(st.integers(1, 64).map(str), FINITE, max_size=3),
        size=st.integers(1, 64),
        reason=st.text(max_size=8),
        seconds=FINITE,
        time=FINITE,
    ),
    OUTCOMES,
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
        '{"event": "decision", "number": 3, "step": 1, "verdict": "stop", "reason": "rung", "time": 2.5}',
        Decision(number=3, step=1, verdict=Verdict.STOP, reason="rung", time=2.5),
    ),
    "complete": (
        (
            '{"event": "outcome", "number": 3, "state": "complete", "value": 0.5, "best_step": 1, "steps": 2, '
            '"metrics": {"val/loss": 0.1}, "reason": "all epochs done", "failure": null, '
            '"peak_memory": {"host": 4096}, "seconds": 1.0, "time": 3.5}'
        ),
        Outcome(
            number=3,
            state=TrialState.COMPLETE,
            value=0.5,
            best_step=1,
            steps=2,
            metrics={"val/loss": 0.1},
            reason="all epochs done",
            peak_memory={"host": 4096},
            seconds=1.0,
            time=3.5,
        ),
    ),
    "failed": (
        (
            '{"event": "outcome", "number": 3, "state": "failed", "value": null, "best_step": null, "steps": 0, '
            '"metrics": {}, "reason": "no memory", "failure": {"kind": "out-of-memory", "message": "no memory", '
            '"traceback": "..."}, "peak_memory": {}, "seconds": 1.0, "time": 3.5}'
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
    "paused": (
        (
            '{"event": "paused", "number": 3, "step": 2, "so_far": {"number": 3, "state": "pruned", "value": 0.5, '
            '"best_step": 1, "steps": 2, "metrics": {}, "reason": "rung", "failure": null, "peak_memory": {}, '
            '"seconds": 1.0, "time": 3.5}, "time": 3.5}'
        ),
        Paused(
            number=3,
            step=2,
            so_far=Outcome(
                number=3,
                state=TrialState.PRUNED,
                value=0.5,
                best_step=1,
                steps=2,
                reason="rung",
                seconds=1.0,
                time=3.5,
            ),
            time=3.5,
        ),
    ),
    "retried": (
        (
            '{"event": "retried", "number": 3, "failure": {"kind": "hang", "message": "no report", "traceback": ""}, '
            '"time": 3.5}'
        ),
        Retried(number=3, failure=Failure(kind=FailureKind.HANG, message="no report"), time=3.5),
    ),
    "retried alone": (
        (
            '{"event": "retried", "number": 3, "failure": {"kind": "hang", "message": "no report", "traceback": ""}, '
            '"time": 3.5, "cohort": 8}'
        ),
        Retried(number=3, failure=Failure(kind=FailureKind.HANG, message="no report"), time=3.5, cohort=8),
    ),
    "measured": (
        (
            '{"event": "measured", "number": 3, "shape": "mlp 64", "rates": {"1": 20.0, "8": 90.0}, "size": 8, '
            '"reason": "4.5 times as fast", "seconds": 6.0, "time": 3.5}'
        ),
        Measured(
            number=3,
            shape="mlp 64",
            rates={"1": 20.0, "8": 90.0},
            size=8,
            reason="4.5 times as fast",
            seconds=6.0,
            time=3.5,
        ),
    ),
}
OLDER = {
    "a decision before there were pauses": (
        STORED["decision"][0].replace('"verdict": "stop"', '"stop": true'),
        STORED["decision"][1],
    ),
    "an outcome before memory was measured": (
        STORED["failed"][0].replace('"peak_memory": {}, ', ""),
        STORED["failed"][1],
    ),
}
"""Lines of studies that were made before a record got its present fields."""


@given(EVENTS)
def test_an_event_comes_back_from_its_line_as_it_was(event: Event) -> None:
    line = event_to_json(event)
    assert "\n" not in line
    assert event_from_json(line) == event


@pytest.mark.parametrize(("line", "event"), STORED.values(), ids=STORED)
def test_a_line_of_an_older_study_is_read_and_written_the_same(line: str, event: Event) -> None:
    assert event_from_json(line) == event
    assert event_to_json(event) == line


@pytest.mark.parametrize(("line", "event"), OLDER.values(), ids=OLDER)
def test_a_line_from_before_a_field_was_there_is_read(line: str, event: Event) -> None:
    assert event_from_json(line) == event


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
        STORED["complete"][0].replace('"reason": "all epochs done", ', ""),
        STORED["decision"][0].replace('"stop"', '"perhaps"'),
        STORED["paused"][0].replace('"state": "pruned", ', ""),
        STORED["retried"][0].replace('"hang"', '"bad-luck"'),
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


@pytest.mark.parametrize(
    "kind",
    [Started, Report, Decision, Paused, Retried, Measured, Outcome, Failure, TrialSpec, CohortSpec, MeasureSpec],
)
def test_records_are_frozen_and_take_keywords_only(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined] # no public way to ask
    assert all(field.kw_only for field in dataclasses.fields(kind))


def test_a_record_cannot_be_changed() -> None:
    report = Report(number=0, step=1, metrics={}, time=0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.step = 2  # type: ignore[misc]


def test_states_and_kinds_are_words_in_json() -> None:
    assert json.loads(json.dumps([TrialState.PRUNED, FailureKind.LOST_WORKER])) == ["pruned", "lost-worker"]


def test_a_cohort_goes_by_its_first_trial() -> None:
    trials = tuple(TrialSpec(number=n, params={}, config={}, seed=n, directory=f"folder {n}") for n in (4, 2))
    assert (CohortSpec(trials=trials).number, CohortSpec(trials=trials).directory) == (4, "folder 4")
    measured = tuple(dataclasses.replace(trial, directory=f"study/trials/{trial.number}") for trial in trials)
    assert MeasureSpec(number=4, shape="a", trials=measured, waiting=4).directory == "study/measured/a"
