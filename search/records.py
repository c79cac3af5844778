"""What crosses the borders between driver, workers, disk and MLflow: frozen records, stdlib only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

ParamValue = bool | int | float | str | None
Params = Mapping[str, ParamValue]

OBJECTIVE = "objective"
"""Name under which every report carries the figure that trials are compared by."""


class TrialState(StrEnum):
    """Where a trial stands; every one but WAITING and RUNNING is final."""

    WAITING = "waiting"
    """It has its parameters and its number, and has not begun."""
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class FailureKind(StrEnum):
    """Why a trial failed."""

    EXCEPTION = "exception"
    NON_FINITE = "non-finite"
    OUT_OF_MEMORY = "out-of-memory"
    TIMEOUT = "timeout"
    HANG = "hang"
    LOST_WORKER = "lost-worker"
    PREEMPTED = "preempted"
    DISK_FULL = "disk-full"
    """The trial's own fault least of all: the search stops, and the trial goes on with the next one."""


class Verdict(StrEnum):
    """What a trial does after a report."""

    GO_ON = "go on"
    STOP = "stop"
    PAUSE = "pause"
    """Leave the worker, with a checkpoint; the trial may go on later."""


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One configuration to train.

    `config` is what the trial is trained with (model, optimizer, schedule, trainer, metric), resolved; for a Hydra job
    its overrides. `directory` is the only place where the worker writes.

    With `refit_epochs` validation examples are trained on, too, for so many of the configuration's epochs, and the
    last weights are kept. `teacher` names an array file of class probabilities (num_train, C) or
    values (num_train,), to be imitated as `config["distill"]` says; of `transfer`, an array file of raw inputs
    (T, *shape) without labels, it has the same behind those, and an epoch takes as many examples of all as there are
    with labels. Each batch is worked through in `micro_batches` parts, whose gradients are summed: but for batch norm
    and dropout, the same training with less memory. With `snapshots` the weights at the end of each cycle of its
    schedule are kept, too.
    """

    number: int
    params: Params
    config: Mapping[str, Any]
    seed: int
    directory: str
    teacher: str | None = None
    transfer: str | None = None
    micro_batches: int = 1
    refit_epochs: int | None = None
    snapshots: bool = False


@dataclass(frozen=True, kw_only=True)
class PredictSpec:
    """Predictions of finished trials on one split ("train", "validation" or "test").

    `members` are the trials' directories with their configurations; the array of each one is written to its
    directory as `<split>.npy`. Batches are worked through in `micro_batches` parts. Of `inputs`, an array file of raw
    inputs (M, *shape), no split of the data is predicted but those, under the name given as `split`.
    """

    number: int
    members: tuple[tuple[str, Mapping[str, Any]], ...]
    split: str
    micro_batches: int = 1
    inputs: str | None = None


@dataclass(frozen=True, kw_only=True)
class AverageSpec:
    """A network whose weights are the mean of those in several folders, with batch norm's statistics found anew.

    `members` are directories with weights that came from the same ones, the best first; `config` is what they were
    trained with. With `greedy` one after the other is taken only where the metric on validation becomes no worse for
    it; cross-fitted predictions are written too, each example's by a mean that was chosen without it (`folds`, `seed`).
    Weights, predictions and the members that were taken are written to `directory`.
    """

    number: int
    members: tuple[str, ...]
    config: Mapping[str, Any]
    directory: str
    greedy: bool = False
    folds: int = 2
    seed: int = 0
    micro_batches: int = 1


@dataclass(frozen=True, kw_only=True)
class CheckSpec:
    """One check of the recipe, `row`, on the data or on a setup before it is searched.

    `config` is what a trial would be trained with; `subject` says in words which one, where there are several.
    `settings` are those of the stage. The finding and its evidence are written to `directory`.
    """

    number: int
    row: str
    subject: str
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int
    directory: str
    micro_batches: int = 1


@dataclass(frozen=True, kw_only=True)
class LookSpec:
    """Figures of a trial that has ended, from inside, into the folder `look` of its `directory`.

    `config` is what it was trained with.
    """

    number: int
    config: Mapping[str, Any]
    directory: str
    micro_batches: int = 1


@dataclass(frozen=True, kw_only=True)
class CohortSpec:
    """Trials whose networks have one shape, to be trained as one program; others may join them at their reports."""

    trials: tuple[TrialSpec, ...]

    @property
    def number(self) -> int:
        """That of its first trial."""
        return self.trials[0].number

    @property
    def directory(self) -> str:
        """That of its first trial, whose log has what all of them print."""
        return self.trials[0].directory


@dataclass(frozen=True, kw_only=True)
class MeasureSpec:
    """A few steps of trials of one shape, alone and as cohorts: how many of them at once are worth it?

    The trials are begun by nobody here, and of those that wait there may be more (`waiting`); `number` is that of the
    first.
    """

    number: int
    shape: str
    trials: tuple[TrialSpec, ...]
    waiting: int

    @property
    def directory(self) -> str:
        """A folder of the study, for what is printed."""
        return str(Path(self.trials[0].directory).parent.parent / "measured" / self.shape)


Piece = TrialSpec | PredictSpec | AverageSpec | CheckSpec | LookSpec
"""Work that is about one thing, and can do with less memory."""
Work = Piece | CohortSpec | MeasureSpec


class CheckVerdict(StrEnum):
    """What a check found, from good to bad; a check that could not be made is not a good one."""

    PASS = "pass"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


def worst(*verdicts: CheckVerdict) -> CheckVerdict:
    """Return the worst verdict; pass where there is none."""
    return max(verdicts, key=list(CheckVerdict).index, default=CheckVerdict.PASS)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check of the recipe found.

    `row` is the recipe's, e.g. "R11"; `subject` says which of several setups it is about. `expected` and `measured`
    hold numbers by the same names where they can be compared. `evidence` names files beside the finding; `advice` says
    what to do about it.
    """

    row: str
    title: str
    verdict: CheckVerdict
    sentence: str
    subject: str = ""
    expected: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    advice: str = ""


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
    verdict: Verdict
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

    `value` is the objective at `best_step`, the step whose weights were kept; it is None where none was reached, or
    where there are several objectives: those are the `values`.
    `peak_memory` is in bytes, of the worker's process ("host") and of its GPU ("device"). `diagnosis` names what ails
    the trial, e.g. "dead ReLU; learning rate too high"; it is empty for a healthy one.
    """

    number: int
    state: TrialState
    value: float | None
    best_step: int | None
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str
    failure: Failure | None = None
    peak_memory: Mapping[str, int] = field(default_factory=dict)
    seconds: float
    time: float
    values: tuple[float, ...] = ()
    diagnosis: str = ""


@dataclass(frozen=True, kw_only=True)
class Paused:
    """A trial left its worker as it was told. `so_far` is its Outcome should it never go on."""

    number: int
    step: int
    so_far: Outcome
    time: float


@dataclass(frozen=True, kw_only=True)
class Retried:
    """An attempt at a trial failed, and there will be another one.

    Where a cohort failed as a whole, `cohort` says of how many trials it was: then it was none of the trial's own, and
    the next one is alone.
    """

    number: int
    failure: Failure
    time: float
    cohort: int = 1


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How many trials of a shape are to be trained at once: `size`; `reason` says why in words.

    `rates` are model-steps a second by the size of the cohort, as text ("1", "8"). `waiting` trials were there, and no
    cohort of more was tried. A size of 0 says that nothing was found out, for no reason of the trials' own.
    """

    number: int
    shape: str
    rates: Mapping[str, float]
    size: int
    reason: str
    seconds: float
    time: float
    waiting: int = 0


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


Event = Started | Report | Decision | Paused | Retried | Measured | Outcome
_EVENTS: dict[str, type[Event]] = {
    kind.__name__.lower(): kind for kind in (Started, Report, Decision, Paused, Retried, Measured, Outcome)
}


def event_to_json(event: Event) -> str:
    """Return the event as one line of JSON (NaN and infinities as Python writes them)."""
    return json.dumps(event_to_fields(event))


def event_from_json(line: str) -> Event:
    """Return the event that `event_to_json` wrote; raise ValueError for anything else."""
    return event_from_fields(json.loads(line))


def event_to_fields(event: Event) -> dict[str, Any]:
    """Return what JSON takes of the event."""
    return {"event": type(event).__name__.lower(), **_plain(event)}


def event_from_fields(fields: Any) -> Event:
    """Return the event of which `event_to_fields` took these; raise ValueError for anything else."""
    try:
        kind = _EVENTS[fields.pop("event")]
        return kind(**_typed(fields))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {str(fields)[:80]!r}") from error


def _plain(record: Event | Failure) -> dict[str, Any]:
    """Return a record's fields; dataclasses.asdict copies deeply, at ten times the price."""
    fields = {k: _plain(v) if isinstance(v, Outcome | Failure) else v for k, v in vars(record).items()}
    if fields.get("values") == ():  # one objective, as most searches have: their lines stay what they were
        del fields["values"]
    if fields.get("diagnosis") == "":
        del fields["diagnosis"]
    if fields.get("cohort") == 1:
        del fields["cohort"]
    if fields.get("waiting") == 0:
        del fields["waiting"]
    return fields


def _typed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with those that JSON knows no type for brought back to theirs."""
    if "state" in fields:
        fields["state"] = TrialState(fields["state"])
    if "stop" in fields:  # of a study from before there were pauses
        fields["verdict"] = Verdict.STOP if fields.pop("stop") else Verdict.GO_ON
    if "verdict" in fields:
        fields["verdict"] = Verdict(fields["verdict"])
    if fields.get("failure") is not None:
        failure = fields["failure"]
        fields["failure"] = Failure(**{**failure, "kind": FailureKind(failure["kind"])})
    if "values" in fields:
        fields["values"] = tuple(fields["values"])
    if "so_far" in fields:
        fields["so_far"] = Outcome(**_typed(fields["so_far"]))
    return fields
