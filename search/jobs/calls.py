"""A call of the user's function as a trial: what it reports on the way, and what its return or its exception means."""

from __future__ import annotations

import json
import math
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import optuna

from search.current import running
from search.files import no_room, write_atomically
from search.layout import CONFIG, OUTCOME
from search.memory import peak_memory, reset_peak_memory
from search.records import (
    OBJECTIVE,
    Decision,
    FailureKind,
    Outcome,
    Params,
    Paused,
    Report,
    TrialSpec,
    TrialState,
    Verdict,
    event_to_json,
    failed,
)
from search.traces import told, user_traceback


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a function is to return.

    One number, or as many as there are `objectives` where there are several; with `optional`, anything. `metric` is
    the objective's name in reports and in a mapping that is returned; None: the first that is reported, and the only
    number in the mapping.
    """

    objectives: int = 1
    metric: str | None = None
    optional: bool = False


class Unwound(BaseException):
    """Takes a call that is paused out of the user's code, which catches Exception at most."""


class RunningTrial:
    """The trial as the user's code sees it; see `search.current.Trial`."""

    def __init__(self, spec: TrialSpec, ask: Callable[[Report], Decision], wanted: Wanted) -> None:
        self._spec, self._ask, self.wanted = spec, ask, wanted
        self.last: Report | None = None
        self._objective = wanted.metric
        self._from_zero = False
        self.stopped = ""
        """Why it was told to stop, if it was."""

    @property
    def number(self) -> int:
        """Its number in the study, from 0."""
        return self._spec.number

    @property
    def params(self) -> Params:
        """What was drawn for it."""
        return self._spec.params

    @property
    def seed(self) -> int:
        """The seed of its own."""
        return self._spec.seed

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration that it is run with."""
        return self._spec.config

    @property
    def directory(self) -> Path:
        """A folder of its own, which is still there when it begins again."""
        return Path(self._spec.directory)

    def report(self, step: int | None = None, **metrics: float) -> None:
        """Report figures at a step; raise optuna.TrialPruned where the trial is to stop."""
        if self.stopped:  # the user's code went on after it was told
            raise optuna.TrialPruned(self.stopped)
        at = self._step(step)
        if self.last is not None and at == self.last.step:
            warnings.warn(f"search.report(step={step}): was reported already and is ignored", stacklevel=3)
            return
        said = Report(number=self.number, step=at, metrics=self._figures(at, metrics), time=time.time())
        self.last = said
        decision = self._ask(said)
        if decision.verdict is Verdict.STOP:
            self.stopped = decision.reason or "told to stop"
            raise optuna.TrialPruned(self.stopped)
        if decision.verdict is Verdict.PAUSE:
            raise Unwound

    def _step(self, given: Any) -> int:
        """Return the step as the study counts them, from 1; who begins with 0 counts from there."""
        last = self.last.step if self.last else 0
        if given is None:
            return last + 1
        whole = isinstance(given, Integral) and not isinstance(given, bool)
        if whole and self.last is None:
            self._from_zero = bool(given == 0)
        step = int(given) + self._from_zero if whole else 0
        if step < max(1, last):
            above = f"not below {last - self._from_zero}, the last one" if self.last else "0 or above"
            raise ValueError(f"search.report(step={given!r}): must be a whole number, {above}")
        return step

    def _figures(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        figures = {name: _number(value) for name, value in metrics.items()}
        for name, number in figures.items():
            if number is None:
                raise ValueError(f"search.report({name}={metrics[name]!r}): must be a number")
        objective = self._objective = self._objective or next(iter(figures), None)
        if objective not in figures:
            there = ", ".join(figures) or "nothing"
            raise ValueError(
                f"search.report: needs {objective or 'a figure'}, by which trials are compared; got {there}"
            )
        if math.isnan(figures[objective] or 0.0):
            raise FloatingPointError(f"{objective} is nan at step {step}")
        others = {name: number for name, number in figures.items() if name != OBJECTIVE}
        return {OBJECTIVE: figures[objective], **others}  # type: ignore[dict-item] # none is None by now


def called(
    spec: TrialSpec, ask: Callable[[Report], Decision], call: Callable[[RunningTrial], Any], wanted: Wanted
) -> Paused | Outcome:
    """Call the user's function and return the last word of the trial, which stands in its folder by then, too."""
    started = time.time()
    reset_peak_memory()
    trial = RunningTrial(spec, ask, wanted)
    trial.directory.mkdir(parents=True, exist_ok=True)
    try:
        write_atomically(trial.directory / CONFIG, json.dumps(spec.config, indent=1).encode())
        with running(trial):
            returned = call(trial)
        last = _completed(trial, returned, wanted, started)
    except Unwound:
        last = _ended(trial, TrialState.PRUNED, "paused", started)
        return Paused(number=spec.number, step=last.steps, so_far=last, time=last.time)
    except optuna.TrialPruned as pruned:
        last = _ended(trial, TrialState.PRUNED, trial.stopped or str(pruned) or "pruned by the program", started)
    except Exception as error:  # noqa: BLE001 - user code may raise anything; the search goes on
        last = _failed(spec.number, error, time.time() - started)
    if last.failure is None or last.failure.kind is not FailureKind.DISK_FULL:
        write_atomically(trial.directory / OUTCOME, event_to_json(last).encode())
    return last


class WrongReturnError(Exception):
    """What a function returned cannot be compared."""


def _completed(trial: RunningTrial, returned: Any, wanted: Wanted, started: float) -> Outcome:
    metrics = _metrics(returned)
    values = _values(trial, returned, wanted)
    if any(map(math.isnan, values)):
        if wanted.optional:
            return _outcome(trial, TrialState.COMPLETE, (), metrics, "", started)
        raise FloatingPointError("the function returned nan")
    return _outcome(trial, TrialState.COMPLETE, values, metrics, "", started)


def _values(trial: RunningTrial, returned: Any, wanted: Wanted) -> tuple[float, ...]:
    """Return the objectives in what a function returned; none where there is none and need not be one."""
    said: Any = returned
    if isinstance(returned, Mapping) and returned:
        said = returned.get(wanted.metric or _only(returned, wanted))
    if said is None and trial.last is not None and wanted.objectives == 1:
        return (trial.last.metrics[OBJECTIVE],)
    several = list(said) if _is_sequence(said) else [said]
    numbers = [number for value in several if (number := _number(value)) is not None]
    if len(numbers) == len(several) == wanted.objectives:
        return tuple(numbers)
    if wanted.optional:
        return ()
    raise WrongReturnError(f"the function returned {_short(returned)}; it must return {_what(wanted)}")


def _only(returned: Mapping[Any, Any], wanted: Wanted) -> Any:
    """Return the key of the only number in a mapping; raise WrongReturnError where there are several."""
    numbers = [name for name, value in returned.items() if _number(value) is not None]
    if len(numbers) > 1 and not wanted.optional:
        raise WrongReturnError(f"the function returned {', '.join(map(str, numbers))}; say which one is the metric")
    return next(iter(numbers), next(iter(returned)))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _what(wanted: Wanted) -> str:
    if wanted.objectives > 1:
        return f"{wanted.objectives} numbers"
    return f"a number, or a mapping with {wanted.metric}" if wanted.metric else "a number"


def _metrics(returned: Any) -> dict[str, float]:
    if not isinstance(returned, Mapping):
        return {}
    return {str(name): number for name, value in returned.items() if (number := _number(value)) is not None}


def _number(value: Any) -> float | None:
    """Return a number, or an array of one (a loss as torch has it), as a float."""
    if hasattr(value, "item") and getattr(value, "size", None) is not None:
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError):  # of several
            return None
    return None if isinstance(value, bool) or not isinstance(value, Real) else float(value)


def _ended(trial: RunningTrial, state: TrialState, reason: str, started: float) -> Outcome:
    # What is reported on the way can be compared with what is returned at the end where both go by one name.
    comparable = trial.last if trial.wanted.metric is not None and trial.wanted.objectives == 1 else None
    values = () if comparable is None else (comparable.metrics[OBJECTIVE],)
    return _outcome(trial, state, values, {}, reason, started)


def _outcome(
    trial: RunningTrial,
    state: TrialState,
    values: tuple[float, ...],
    metrics: Mapping[str, float],
    reason: str,
    started: float,
) -> Outcome:
    last = trial.last
    return Outcome(
        number=trial.number,
        state=state,
        value=values[0] if len(values) == 1 else None,
        values=values if len(values) > 1 else (),
        best_step=last.step if last else None,
        steps=last.step if last else 0,
        metrics=dict(metrics) or ({} if last is None else {k: v for k, v in last.metrics.items() if k != OBJECTIVE}),
        reason=reason,
        peak_memory={"host": peak_memory()},
        seconds=time.time() - started,
        time=time.time(),
    )


def _failed(number: int, error: Exception, seconds: float) -> Outcome:
    kind = FailureKind.EXCEPTION
    if isinstance(error, FloatingPointError):
        kind = FailureKind.NON_FINITE
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's: it may not be there
        kind = FailureKind.OUT_OF_MEMORY
    elif no_room(error):
        kind = FailureKind.DISK_FULL
    trace = user_traceback(error)
    if trace is None:  # nobody is helped by the line that looked at what was returned
        returned = isinstance(error, WrongReturnError | FloatingPointError)
        trace = told(error) if returned else "".join(traceback.format_exception(error))
    return failed(number, kind, told(error), time=time.time(), traceback=trace, seconds=seconds)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}..."
