"""What a search's events look like in MLflow, before anything is written: a page a trial, and the curve of the best.

The projection writes these pages and the comparison holds MLflow against them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from search.records import Event, Failure, Measured, Outcome, Paused, Report, Retried, Started, TrialState

UID = "search.uid"
DIAGNOSIS = "diagnosis"
"""Tag of a trial that something ails; what, in words out of a fixed vocabulary."""
BEST = "best"
"""The objective of a trial; on the search, the best one so far."""
ENDED = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "FINISHED", TrialState.FAILED: "FAILED"}
RUNNING, RESTING = "RUNNING", "SCHEDULED"
_PAUSED = "paused"
_MEMORY = {"host": "memory/host_mb", "device": "memory/device_mb"}
_LONGEST_TAG, _LONGEST_PARAM = 5000, 6000


class Point(NamedTuple):
    """A point of a curve; `time` in milliseconds since 1970."""

    key: str
    step: int
    time: int
    value: float


@dataclass
class Page:
    """What events say of a trial's run; None and empty where they say nothing."""

    number: int
    name: str
    start: int | None = None
    end: int | None = None
    status: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the pages of later events depend on: the best value, and how often trials were begun again."""

    best: float | None = None
    ended: int = 0
    """Trials that ended with a value."""
    retried: Mapping[int, int] = field(default_factory=dict)


@dataclass
class Pages:
    """What events say of each trial and of the search; `standing` is where they leave it."""

    trials: dict[int, Page]
    best: list[Point]
    standing: Standing


def pages_of(events: Iterable[Event], *, maximize: bool, before: Standing | None = None) -> Pages:
    """Return the pages of the events that follow upon `before`."""
    before = before or Standing()
    trials: dict[int, Page] = {}
    curve: list[Point] = []
    best, ended, retried = before.best, before.ended, dict(before.retried)
    for event in events:
        if isinstance(event, Measured):  # it is about a shape
            continue
        number = event.number
        page = trials.get(number)
        if page is None:
            page = trials[number] = Page(number, name=f"{number:04d}")
        if isinstance(event, Started):
            _start(page, event)
        elif isinstance(event, Report):
            page.points += [Point(k, event.step, milliseconds(event.time), v) for k, v in event.metrics.items()]
        elif isinstance(event, Paused):
            page.tags["search.state"], page.status = _PAUSED, RESTING
        elif isinstance(event, Retried):
            retried[number] = retried.get(number, 0) + 1
            page.tags |= {"search.attempts": str(retried[number] + 1), "search.retried": _sentence(event.failure)}
        elif isinstance(event, Outcome):
            _end(page, event)
            if event.value is not None:
                best = event.value if best is None else (max if maximize else min)(best, event.value)
                # In the order in which they ended, because what MLflow shows is the value at the last step.
                curve.append(Point(BEST, ended, milliseconds(event.time), best))
                ended += 1
    return Pages(trials, curve, Standing(best=best, ended=ended, retried=retried))


def milliseconds(seconds: float) -> int:
    """Return a time as MLflow counts it."""
    return int(seconds * 1000)


def trial_uid(uid: str, number: int | str) -> str:
    """Return what names a trial's run: it carries it as the tag `UID`."""
    return f"{uid}/{number}"


def belonging(uid: str, number: int, parent: str) -> dict[str, str]:
    """Return the tags by which a trial's run belongs to its search."""
    return {UID: trial_uid(uid, number), "mlflow.parentRunId": parent, "search.number": str(number)}


def _start(page: Page, event: Started) -> None:
    page.name = f"{event.number:04d} {event.params.get('model', '')}".strip()
    page.start = milliseconds(event.time) if page.start is None else page.start
    shown = {**event.params, "seed": event.seed}
    page.params |= {k: text_of(v) for k, v in shown.items()}
    page.tags["search.state"], page.status = TrialState.RUNNING.value, RUNNING


def _end(page: Page, outcome: Outcome) -> None:
    final = {"seconds": outcome.seconds, "steps": float(outcome.steps)}
    if outcome.value is not None:
        final |= {BEST: outcome.value, "best_step": float(outcome.best_step or 0)}
    final |= {f"{BEST}_{i}": value for i, value in enumerate(outcome.values)}
    final |= {key: outcome.peak_memory[of] / 1e6 for of, key in _MEMORY.items() if of in outcome.peak_memory}
    page.end, page.status = milliseconds(outcome.time), ENDED[outcome.state]
    page.points += [Point(key, 0, page.end, value) for key, value in final.items()]
    page.tags |= {"search.state": outcome.state.value, "search.reason": outcome.reason[:_LONGEST_TAG]}
    if outcome.diagnosis:
        page.tags[DIAGNOSIS] = outcome.diagnosis
    if outcome.failure is not None:
        page.tags |= {"search.failure": outcome.failure.kind.value}
        page.tags |= {"search.traceback": outcome.failure.traceback[-_LONGEST_TAG:]}


def text_of(value: object) -> str:
    """Return a parameter as MLflow keeps it."""
    return "null" if value is None else str(value)[:_LONGEST_PARAM]


def _sentence(failure: Failure) -> str:
    return f"{failure.kind.value}: {failure.message}"[:_LONGEST_TAG]
