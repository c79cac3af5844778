"""What crosses the borders between driver, workers, disk and MLflow: frozen records, stdlib only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

ParamValue = bool | int | float | str | None
Params = Mapping[str, ParamValue]


class TrialState(StrEnum):
    """Where a trial stands; every one but RUNNING is final."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class FailureKind(StrEnum):
    """Why a trial failed."""

    EXCEPTION = "exception"
    NON_FINITE = "non-finite"
    OUT_OF_MEMORY = "out-of-memory"
    LOST_WORKER = "lost-worker"


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One configuration to train.

    `config` is the trial's whole configuration, resolved, without `space` and `choose`; `directory` is the
    only place where the worker writes. `teacher` names an array file of class probabilities (num_train, C)
    or values (num_train,), to be imitated as `config["distill"]` says.
    """

    number: int
    params: Params
    config: Mapping[str, Any]
    seed: int
    directory: str
    teacher: str | None = None


@dataclass(frozen=True, kw_only=True)
class PredictSpec:
    """Predictions of finished trials on one split ("train", "validation" or "test").

    `members` are the trials' directories with their configurations; the array of each one is written to its
    directory as `<split>.npy`.
    """

    number: int
    members: tuple[tuple[str, Mapping[str, Any]], ...]
    split: str


Work = TrialSpec | PredictSpec


@dataclass(frozen=True, kw_only=True)
class Started:
    """A trial was handed to a worker. `params` are named as MLflow shows them."""

    number: int
    params: Params
    seed: int
    time: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """A trial's figures at a step (an epoch, counted from 1). `time` is in seconds since 1970."""

    number: int
    step: int
    metrics: Mapping[str, float]
    time: float


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a trial is told after a report."""

    number: int
    step: int
    stop: bool
    reason: str
    time: float


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a trial failed, in one line, with the traceback where there is one."""

    kind: FailureKind
    message: str
    traceback: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a piece of work ended: one for each, always its last event.

    `value` is the objective at `best_step`, the step whose weights were kept; it is None where none was reached.
    """

    number: int
    state: TrialState
    value: float | None
    best_step: int | None
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str
    failure: Failure | None = None
    seconds: float
    time: float


def failed(
    number: int, kind: FailureKind, message: str, *, time: float, traceback: str = "", seconds: float = 0.0
) -> Outcome:
    """Return the Outcome of work that failed."""
    return Outcome(
        number=number,
        state=TrialState.FAILED,
        value=None,
        best_step=None,
        steps=0,
        reason=message,
        failure=Failure(kind=kind, message=message, traceback=traceback),
        seconds=seconds,
        time=time,
    )


Event = Started | Report | Decision | Outcome
_EVENTS: dict[str, type[Started | Report | Decision | Outcome]] = {
    kind.__name__.lower(): kind for kind in (Started, Report, Decision, Outcome)
}


def event_to_json(event: Event) -> str:
    """Return the event as one line of JSON (NaN and infinities as Python writes them)."""
    return json.dumps({"event": type(event).__name__.lower(), **asdict(event)})


def event_from_json(line: str) -> Event:
    """Return the event that `event_to_json` wrote; raise ValueError for anything else."""
    try:
        fields = json.loads(line)
        kind = _EVENTS[fields.pop("event")]
        if kind is Outcome:
            fields["state"] = TrialState(fields["state"])
            if fields["failure"] is not None:
                failure = fields["failure"]
                fields["failure"] = Failure(**{**failure, "kind": FailureKind(failure["kind"])})
        return kind(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {line[:80]!r}") from error
