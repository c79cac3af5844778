"""Calls of a user's function as trials: returns, reports, exceptions."""

import errno
import json
import math
import threading
from collections import UserDict
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from search.current import current_trial, report
from search.jobs import calls
from search.jobs.calls import Wanted, called
from search.layout import OUTCOME
from search.records import (
    Decision,
    FailureKind,
    Outcome,
    Paused,
    Report,
    TrialSpec,
    TrialState,
    Verdict,
    event_to_json,
)
from search.sweep.journal import outcome_on_disk

Call = Callable[[], Any]


class Desk:
    """Runs a function as trial 3; keeps its reports, and answers each with what `verdicts` says by step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports: list[Report] = []
        self.verdicts: dict[int, Verdict] = {}

    def ask(self, said: Report) -> Decision:
        self.reports.append(said)
        verdict = self.verdicts.get(said.step, Verdict.GO_ON)
        return Decision(number=said.number, step=said.step, verdict=verdict, reason="rung at step 2", time=0.0)

    def said(self, call: Call, **wanted: Any) -> Paused | Outcome:
        spec = TrialSpec(number=3, params={"x": 1}, config={"y": 2}, seed=7, directory=str(self.folder / "trial"))
        return called(spec, self.ask, lambda _: call(), Wanted(**wanted))

    def run(self, call: Call, **wanted: Any) -> Outcome:
        last = self.said(call, **wanted)
        assert isinstance(last, Outcome)
        if last.failure is None or last.failure.kind is not FailureKind.DISK_FULL:
            assert self.stored is not None
            assert event_to_json(self.stored) == event_to_json(last), "the disk has what the driver hears"
        return last

    @property
    def stored(self) -> Outcome | None:
        return outcome_on_disk(self.folder / "trial")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# id -> (returned, settings, value, values, metrics)
RETURNED: dict[str, tuple[Any, dict[str, Any], float | None, tuple[float, ...], dict[str, float]]] = {
    "int": (3, {}, 3.0, (), {}),
    "float": (0.5, {}, 0.5, (), {}),
    "infinite": (math.inf, {}, math.inf, (), {}),
    "fraction": (Fraction(1, 4), {}, 0.25, (), {}),
    "numpy scalar": (np.float32(0.5), {}, 0.5, (), {}),
    "numpy integer": (np.int64(4), {}, 4.0, (), {}),
    "numpy array of none": (np.array(0.5), {}, 0.5, (), {}),
    "numpy array of one": (np.array([0.5]), {}, 0.5, (), {}),
    "torch scalar": (torch.tensor(0.5), {}, 0.5, (), {}),
    "torch loss": (torch.ones(1, requires_grad=True), {}, 1.0, (), {}),
    "mapping": ({"loss": torch.tensor(0.5), "note": "x"}, {}, 0.5, (), {"loss": 0.5}),
    "mapping that begins with words": ({"note": "x", "loss": 0.5}, {}, 0.5, (), {"loss": 0.5}),
    "mapping with the metric": ({"loss": 0.5, "acc": 1}, {"metric": "acc"}, 1.0, (), {"loss": 0.5, "acc": 1.0}),
    "any mapping": (UserDict(loss=0.5), {}, 0.5, (), {"loss": 0.5}),
    "list of one": ([0.5], {}, 0.5, (), {}),
    "two": ((0.5, 2), {"objectives": 2}, None, (0.5, 2.0), {}),
    "two of numpy": ([np.float64(1), torch.tensor(2.0)], {"objectives": 2}, None, (1.0, 2.0), {}),
    "nothing, as it may": (None, {"optional": True}, None, (), {}),
    "words, as it may": ("done", {"optional": True}, None, (), {}),
    "truth, as it may": (True, {"optional": True}, None, (), {}),
    "a mapping without numbers, as it may": ({"a": "b"}, {"optional": True}, None, (), {}),
    "a number where it need not be one": (2, {"optional": True}, 2.0, (), {}),
    "nan, as it may": (math.nan, {"optional": True}, None, (), {}),
}


@pytest.mark.parametrize(("returned", "wanted", "value", "values", "metrics"), RETURNED.values(), ids=RETURNED)
def test_a_return_means_this(
    returned: Any,
    wanted: dict[str, Any],
    value: float | None,
    values: tuple[float, ...],
    metrics: dict[str, float],
    desk: Desk,
) -> None:
    last = desk.run(lambda: returned, **wanted)
    assert (last.state, last.failure) == (TrialState.COMPLETE, None)
    assert (last.value, last.values, last.metrics) == (value, values, metrics)
    assert (last.number, last.steps) == (3, 0)
    assert last.peak_memory["host"] > 0


# id -> (returned, settings, end of the sentence)
WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nothing": (None, {}, "returned None; it must return a number"),
    "a word": ("0.5", {}, "returned '0.5'; it must return a number"),
    "a truth value": (True, {}, "returned True; it must return a number"),
    "numpy's truth value": (np.True_, {}, "it must return a number"),
    "torch's truth value": (torch.tensor(True), {}, "it must return a number"),
    "a complex number": (1j, {}, "returned 1j; it must return a number"),
    "a decimal": (Decimal(1), {}, "it must return a number"),
    "an array of two": (np.zeros(2), {}, "it must return a number"),
    "a tensor of two": (torch.zeros(2), {}, "it must return a number"),
    "two numbers": ([1, 2], {}, "returned [1, 2]; it must return a number"),
    "no numbers": ([], {}, "returned []; it must return a number"),
    "an empty mapping": ({}, {}, "returned {}; it must return a number"),
    "a mapping without the metric": (
        {"a": 1},
        {"metric": "b"},
        "returned {'a': 1}; it must return a number, or a mapping with b",
    ),
    "a mapping with several numbers": ({"a": 2, "b": 1}, {}, "returned a, b; say which one is the metric"),
    "one of two": (1.0, {"objectives": 2}, "returned 1.0; it must return 2 numbers"),
    "three of two": ([1, 2, 3], {"objectives": 2}, "returned [1, 2, 3]; it must return 2 numbers"),
    "a word of two": ([1, "x"], {"objectives": 2}, "returned [1, 'x']; it must return 2 numbers"),
    "much": ("x" * 99, {}, f"returned '{'x' * 59}...; it must return a number"),
}


@pytest.mark.parametrize(("returned", "wanted", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_compared_fails_with_what_was_returned(
    returned: Any, wanted: dict[str, Any], words: str, desk: Desk
) -> None:
    last = desk.run(lambda: returned, **wanted)
    assert last.state is TrialState.FAILED
    assert last.failure is not None
    assert last.failure.kind is FailureKind.EXCEPTION
    assert last.reason.endswith(words)


@pytest.mark.parametrize(
    "returned", [math.nan, np.float32("nan"), torch.tensor(float("nan")), {"loss": math.nan}, [math.nan]]
)
def test_nan_is_a_failure_of_its_own_kind(returned: Any, desk: Desk) -> None:
    last = desk.run(lambda: returned)
    assert last.failure is not None
    assert last.failure.kind is FailureKind.NON_FINITE
    assert "the function returned nan" in last.reason


def test_one_of_several_objectives_that_is_nan_is_one(desk: Desk) -> None:
    last = desk.run(lambda: (1.0, math.nan), objectives=2)
    assert last.failure is not None
    assert last.failure.kind is FailureKind.NON_FINITE


# ---------------------------------------------------------------------------------------------------- reports


def test_the_last_report_is_the_value_where_nothing_is_returned(desk: Desk) -> None:
    def train():
        report(loss=0.5, acc=0.1)
        report(loss=0.25, acc=0.2)

    last = desk.run(train)
    assert (last.value, last.steps, last.best_step, last.metrics) == (0.25, 2, 2, {"loss": 0.25, "acc": 0.2})
    assert [(r.number, r.step, dict(r.metrics)) for r in desk.reports] == [
        (3, 1, {"loss": 0.5, "acc": 0.1, "objective": 0.5}),
        (3, 2, {"loss": 0.25, "acc": 0.2, "objective": 0.25}),
    ]


def test_a_return_counts_more_than_reports(desk: Desk) -> None:
    def train():
        report(loss=0.5)
        return 0.75

    last = desk.run(train)
    assert (last.value, last.steps, last.metrics) == (0.75, 1, {"loss": 0.5})


def test_several_objectives_are_returned_whatever_was_reported(desk: Desk) -> None:
    last = desk.run(lambda: report(loss=0.5), objectives=2)
    assert "it must return 2 numbers" in last.reason


def test_reports_are_compared_by_the_metric(desk: Desk) -> None:
    last = desk.run(lambda: report(loss=0.5, acc=0.125), metric="acc")
    assert (last.value, desk.reports[0].metrics["objective"]) == (0.125, 0.125)


def test_a_figure_called_objective_does_not_take_the_place_of_the_first(desk: Desk) -> None:
    last = desk.run(lambda: report(loss=0.5, objective=9.0))
    assert last.value == 0.5


def test_steps_and_figures_may_be_numpys_and_torchs(desk: Desk) -> None:
    def train():
        report(np.int64(2), loss=np.float32(0.5))  # type: ignore[arg-type]
        report(step=5, loss=torch.tensor([0.25]))  # type: ignore[arg-type]

    assert desk.run(train).value == 0.25
    assert [json.loads(event_to_json(r))["step"] for r in desk.reports] == [2, 5]


# id -> (report's arguments, words)
MISUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "step back": ((1,), {"loss": 1}, "search.report(step=1): must be a whole number, not below 2, the last one"),
    "half a step": ((2.5,), {"loss": 1}, "search.report(step=2.5): must be a whole number"),
    "a step in words": (("3",), {"loss": 1}, "search.report(step='3'): must be a whole number"),
    "a true step": ((True,), {"loss": 1}, "search.report(step=True): must be a whole number"),
    "a word": ((), {"loss": "low"}, "search.report(loss='low'): must be a number"),
    "none": ((), {"loss": 1, "acc": None}, "search.report(acc=None): must be a number"),
    "a truth value": ((), {"loss": True}, "search.report(loss=True): must be a number"),
    "two numbers": ((), {"loss": [1, 2]}, "search.report(loss=[1, 2]): must be a number"),
    "no figure": ((), {}, "search.report: needs loss, by which trials are compared; got nothing"),
}


@pytest.mark.parametrize(("arguments", "figures", "words"), MISUSED.values(), ids=MISUSED)
def test_a_wrong_report_says_what_is_wrong_and_may_be_mended(
    arguments: tuple[Any, ...], figures: dict[str, Any], words: str, desk: Desk
) -> None:
    def train():
        report(2, loss=0.5)
        with pytest.raises(ValueError) as wrong:
            report(*arguments, **figures)
        assert str(wrong.value).startswith(words)
        report(loss=0.25)

    assert desk.run(train).value == 0.25
    assert [r.step for r in desk.reports] == [2, 3]


def test_a_report_without_a_figure_says_that_it_needs_one(desk: Desk) -> None:
    assert "search.report: needs a figure, by which trials are compared; got nothing" in desk.run(report).reason


def test_a_step_that_was_reported_already_is_ignored_with_a_warning(desk: Desk) -> None:
    def train():
        report(2, loss=0.5)
        with pytest.warns(UserWarning, match=r"search\.report\(step=2\): was reported already"):
            report(2, loss=0.1)

    assert desk.run(train).value == 0.5
    assert [r.step for r in desk.reports] == [2]


def test_who_counts_from_zero_is_understood(desk: Desk) -> None:
    def train():
        for epoch in range(3):
            report(epoch, loss=1 / (1 + epoch))
        with pytest.raises(ValueError, match=r"step=1\): must be a whole number, not below 2, the last one"):
            report(1, loss=0.0)

    assert desk.run(train).value == 1 / 3
    assert [r.step for r in desk.reports] == [1, 2, 3]


def test_the_figure_that_trials_are_compared_by_stays_the_same_within_a_trial(desk: Desk) -> None:
    def train():
        report(1, loss=0.5)
        report(2, acc=0.9, loss=0.25)
        report(3, acc=0.9)

    assert "search.report: needs loss, by which trials are compared; got acc" in desk.run(train).reason
    assert [r.metrics["objective"] for r in desk.reports] == [0.5, 0.25]


@pytest.mark.parametrize(("metric", "value"), [("loss", 0.5), (None, None)])
def test_a_stopped_trial_has_a_value_where_report_and_return_go_by_one_name(
    metric: str | None, value: float | None, desk: Desk
) -> None:
    desk.verdicts = {1: Verdict.STOP}
    assert desk.run(lambda: report(loss=0.5), metric=metric).value == value


def test_a_report_without_the_metric_names_it(desk: Desk) -> None:
    last = desk.run(lambda: report(loss=1.0), metric="acc")
    assert "search.report: needs acc, by which trials are compared; got loss" in last.reason


def test_reporting_nan_is_a_failure_of_its_own_kind(desk: Desk) -> None:
    def train():
        report(loss=1.0)
        report(loss=math.nan)

    last = desk.run(train)
    assert last.failure is not None
    assert last.failure.kind is FailureKind.NON_FINITE
    assert "loss is nan at step 2" in last.reason
    assert len(desk.reports) == 1


def test_another_figure_may_be_nan(desk: Desk) -> None:
    assert desk.run(lambda: report(loss=1.0, f1=math.nan)).value == 1.0


def test_outside_of_a_trial_a_report_does_nothing(desk: Desk) -> None:
    report(loss="anything")  # type: ignore[arg-type]
    report()
    assert current_trial() is None
    desk.run(lambda: 1)
    assert current_trial() is None


def test_a_trial_is_known_in_its_call_alone(desk: Desk) -> None:
    def train():
        trial = current_trial()
        assert trial is not None
        assert (trial.number, trial.params, trial.seed, trial.directory) == (3, {"x": 1}, 7, desk.folder / "trial")
        assert trial.directory.is_dir()
        trial.report(loss=1.0)
        seen: list[object] = []
        thread = threading.Thread(target=lambda: seen.append(current_trial()))
        thread.start()
        thread.join()
        assert seen == [None], "threads have a context of their own"

    assert desk.run(train).failure is None


# -------------------------------------------------------------------------------------------- being told to leave


def test_a_stopped_trial_is_pruned_with_its_last_figures(desk: Desk) -> None:
    desk.verdicts = {2: Verdict.STOP}

    def train():
        for step in range(9):
            report(loss=1 / (1 + step))
        return 0.0

    last = desk.run(train, metric="loss")
    assert (last.state, last.reason, last.value, last.steps) == (TrialState.PRUNED, "rung at step 2", 0.5, 2)
    assert last.metrics == {"loss": 0.5}


def test_a_stop_without_a_reason_says_so(desk: Desk) -> None:
    def ask(said: Report) -> Decision:
        return Decision(number=3, step=1, verdict=Verdict.STOP, reason="", time=0.0)

    desk.ask = ask  # type: ignore[method-assign]
    assert desk.run(lambda: report(loss=1)).reason == "told to stop"


def test_who_swallows_the_stop_hears_it_again_and_reports_no_more(desk: Desk) -> None:
    desk.verdicts = {1: Verdict.STOP}

    def train():
        for _ in range(3):
            with pytest.raises(optuna.TrialPruned, match="rung at step 2"):
                report(loss=1.0)
        report(loss=1.0)

    last = desk.run(train)
    assert (last.state, last.reason, len(desk.reports)) == (TrialState.PRUNED, "rung at step 2", 1)


def test_who_swallows_the_stop_and_returns_a_value_has_completed(desk: Desk) -> None:
    desk.verdicts = {1: Verdict.STOP}

    def train():
        try:
            report(loss=1.0)
        except optuna.TrialPruned:
            return 0.5

    assert (desk.run(train).state, desk.run(train).value) == (TrialState.COMPLETE, 0.5)


@pytest.mark.parametrize(("pruned", "reason"), [(("too slow",), "too slow"), ((), "pruned by the program")])
def test_a_program_may_prune_itself(pruned: tuple[str, ...], reason: str, desk: Desk) -> None:
    def train():
        report(loss=0.5)
        raise optuna.TrialPruned(*pruned)

    last = desk.run(train, metric="loss")
    assert (last.state, last.reason, last.value, last.failure) == (TrialState.PRUNED, reason, 0.5, None)


def test_a_program_that_prunes_itself_before_a_report_has_no_value(desk: Desk) -> None:
    def train():
        raise optuna.TrialPruned

    assert desk.run(train).value is None


def test_with_several_objectives_a_pruned_trial_has_no_value(desk: Desk) -> None:
    def train():
        report(loss=0.5)
        raise optuna.TrialPruned

    last = desk.run(train, objectives=2)
    assert (last.value, last.values, last.metrics) == (None, (), {"loss": 0.5})


def test_a_paused_trial_leaves_through_code_that_catches_exceptions(desk: Desk) -> None:
    desk.verdicts = {2: Verdict.PAUSE}
    cleaned = []

    def train():
        try:
            for _ in range(9):
                try:
                    report(loss=0.5)
                except Exception:  # noqa: BLE001 - as user code does
                    cleaned.append("wrongly")
        finally:
            cleaned.append("up")

    last = desk.said(train, metric="loss")
    assert isinstance(last, Paused)
    assert (last.number, last.step, last.so_far.value, last.so_far.state) == (3, 2, 0.5, TrialState.PRUNED)
    assert cleaned == ["up"]
    assert desk.stored is None, "it has not ended"


# ------------------------------------------------------------------------------------------------- exceptions


def broken():
    return {"a": 1}["lr"]


def test_an_exception_is_told_with_the_users_line_and_their_part_of_the_traceback(desk: Desk) -> None:
    last = desk.run(lambda: broken())
    line = broken.__code__.co_firstlineno + 1
    assert last.failure is not None
    assert last.failure.kind is FailureKind.EXCEPTION
    assert last.reason == last.failure.message == f"KeyError: 'lr' (test_calls.py:{line} in broken)"
    assert "in broken" in last.failure.traceback
    assert "search/jobs/calls.py" not in last.failure.traceback
    assert (last.state, last.value) == (TrialState.FAILED, None)


def test_what_a_library_raises_is_told_with_the_users_line_that_called_it(desk: Desk) -> None:
    last = desk.run(lambda: json.loads("{"))
    assert last.failure is not None
    assert "JSONDecodeError" in last.reason
    assert "(test_calls.py:" in last.reason
    assert "json/decoder.py" in last.failure.traceback, "from the user's line on, nothing is left out"


def test_several_lines_become_one(desk: Desk) -> None:
    def train():
        raise RuntimeError("first\n  second\n")

    assert desk.run(train).reason.startswith("RuntimeError: first second (test_calls.py:")


def test_an_exception_without_words_is_its_name(desk: Desk) -> None:
    def train():
        raise AssertionError

    assert desk.run(train).reason.startswith("AssertionError (")


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), FailureKind.OUT_OF_MEMORY),
        (OutOfMemoryError("CUDA"), FailureKind.OUT_OF_MEMORY),
        (FloatingPointError("overflow"), FailureKind.NON_FINITE),
        (OSError(errno.EACCES, "no"), FailureKind.EXCEPTION),
        (optuna.exceptions.OptunaError("x"), FailureKind.EXCEPTION),
    ],
)
def test_failures_have_kinds(error: Exception, kind: FailureKind, desk: Desk) -> None:
    def train():
        raise error

    last = desk.run(train)
    assert last.failure is not None
    assert last.failure.kind is kind


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_trial_without_an_outcome(number: int, desk: Desk) -> None:
    def train():
        raise OSError(number, "No space left on device")

    last = desk.run(train)
    assert last.failure is not None
    assert last.failure.kind is FailureKind.DISK_FULL
    assert desk.stored is None, "it goes on once there is room"


def test_a_disk_that_is_full_behind_another_exception_is_seen(desk: Desk) -> None:
    def train():
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as error:
            raise RuntimeError("cannot save") from error

    last = desk.run(train)
    assert last.failure is not None
    assert last.failure.kind is FailureKind.DISK_FULL


def test_an_outcome_that_cannot_be_stored_is_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == OUTCOME:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(calls, "write_atomically", full)
    with pytest.raises(OSError, match="full"):
        desk.said(lambda: 1)
    assert desk.stored is None


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(1)])
def test_what_ends_a_program_is_left_to_the_worker(end: BaseException, desk: Desk) -> None:
    def train():
        raise end

    with pytest.raises(type(end)):
        desk.said(train)
    assert current_trial() is None
