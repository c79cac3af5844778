"""Whether MLflow says of a search what its events say: every trial, parameter, tag, and point of every curve."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.tracking.pages import BEST, UID, Page, Pages, Point, belonging
from search.tracking.stages import different_stages, stage_uid
from search.tracking.tracker import Summary

_RUNS_AT_ONCE = 500
_LARGEST = 1.7976931348623157e308
"""What MLflow keeps for an infinite value."""


@dataclass(frozen=True)
class Difference:
    """One thing that MLflow says otherwise.

    `number` is the trial's, None for the search itself; `wrong_run` is a run that holds what the study does not:
    MLflow has no way to take it out, so that only a new run can be right.
    """

    text: str
    number: int | None = None
    wrong_run: str | None = None

    def __str__(self) -> str:
        return self.text


@dataclass
class Comparison:
    """What MLflow has of a search, and what is different there."""

    differences: list[Difference] = field(default_factory=list)
    runs: dict[int, str] = field(default_factory=dict)
    """The run of each trial that has one."""
    points: int = 0
    """Points of the trials' curves."""


def compare(client: Any, experiment: str, uid: str, pages: Pages, summary: Summary | None = None) -> Comparison:
    """Hold an MLflow store (a client of it) against what all events of a study say, and against its results."""
    done = Comparison()
    parents = list(_found(client, experiment, f"tags.`{UID}` = '{uid}'"))
    parent = str(parents[0].info.run_id) if parents else ""
    if parents:
        points = _points(client, parents[:1]).get(parent, [])
        best = [point for point in points if point.key == BEST]
        done.differences += _curves("the search", None, parent, pages.best, best)
        done.differences += _results(parents[0], summary)
        done.differences += [_needless(run, "the search", None) for run in parents[1:]]
    else:
        done.differences.append(Difference("the search has no run"))
    for runs in _paged(client, experiment, f"tags.`{UID}` LIKE '{uid}/%'"):
        points_of = _points(client, runs)
        for run in runs:
            _look_at(done, run, points_of.get(run.info.run_id, []), uid, parent, pages)
    missing = sorted(pages.trials.keys() - done.runs.keys())
    done.differences += [Difference(f"trial {number} has no run", number) for number in missing]
    if parent:
        stages = () if summary is None else summary.stages
        done.differences += map(Difference, different_stages(client, experiment, uid, stages))
        for run in _found(client, experiment, f"tags.`mlflow.parentRunId` = '{parent}'"):
            if not str(run.data.tags.get(UID, "")).startswith((f"{uid}/", stage_uid(uid, ""))):
                name = f"run {run.info.run_id} ({run.info.run_name})"
                done.differences.append(Difference(f"{name} stands under the search and is none of its trials"))
    return done


def _look_at(done: Comparison, run: Any, points: Sequence[Point], uid: str, parent: str, pages: Pages) -> None:
    number = int(run.data.tags[UID].rpartition("/")[2])
    page = pages.trials.get(number)
    if page is None or number in done.runs:
        done.differences.append(_needless(run, f"trial {number}", None if page is None else number))
        return
    done.runs[number] = run.info.run_id
    done.points += len(points)
    done.differences += _of_run(page, run, {**belonging(uid, number, parent), **page.tags})
    done.differences += _curves(f"trial {number}", number, run.info.run_id, page.points, points)


def _needless(run: Any, whose: str, number: int | None) -> Difference:
    return Difference(f"{whose} has a run too many ({run.info.run_id})", number, str(run.info.run_id))


def _of_run(page: Page, run: Any, tags: Mapping[str, str]) -> Iterator[Difference]:
    """Yield differences of the trial's state, end, parameters and tags."""
    who, number = f"trial {page.number}", page.number
    if run.info.status != page.status:
        yield Difference(f"{who}: status is {run.info.status}, not {page.status}", number)
    if page.end is not None and run.info.end_time != page.end:
        yield Difference(f"{who}: ended at {run.info.end_time} ms, not {page.end} ms", number)
    stands: Mapping[str, str] = run.data.params
    for key in sorted(page.params.keys() | stands.keys()):
        if stands.get(key) != page.params.get(key):
            text = f"{who}: parameter {key} is {stands.get(key, 'missing')}, not {page.params.get(key, 'there')}"
            yield Difference(text, number, str(run.info.run_id) if key in stands else None)
    for key, value in tags.items():
        if run.data.tags.get(key) != value:
            text = f"{who}: tag {key} is {run.data.tags.get(key, 'missing')!r}, not {value!r}"
            yield Difference(text, number)


def _results(parent: Any, summary: Summary | None) -> Iterator[Difference]:
    """Yield differences of the search's results, of which MLflow may have earlier ones, too."""
    if summary is None:
        return
    for key, value in summary.metrics.items():
        stands = parent.data.metrics.get(key)
        if stands is None or _kept(stands) != _kept(value):
            yield Difference(f"the search: {key} is {'missing' if stands is None else stands}, not {value}")
    if parent.data.tags.get("mlflow.note.content") != summary.note:
        yield Difference("the search: the note is another one")


def _curves(who: str, number: int | None, run: str, told: Sequence[Point], stand: Sequence[Point]) -> list[Difference]:
    """Return a difference for each key and step that stands otherwise."""
    expected, found = _by_step(told), _by_step(stand)
    different = []
    for key, step in sorted(expected.keys() | found.keys()):
        should, stands = expected.get((key, step), set()), found.get((key, step), set())
        if should != stands:
            text = f"{who}: {key} at step {step} is {_listed(stands)}, not {_listed(should)}"
            different.append(Difference(text, number, run if stands - should else None))
    return different


def _by_step(points: Iterable[Point]) -> dict[tuple[str, int], set[tuple[int, str | float]]]:
    steps = defaultdict(set)
    for point in points:
        steps[point.key, point.step].add((point.time, _kept(point.value)))
    return steps


def _kept(value: float) -> str | float:
    """Return a value as MLflow keeps it, comparable."""
    return "nan" if math.isnan(value) else max(-_LARGEST, min(_LARGEST, value))


def _listed(points: set[tuple[int, str | float]]) -> str:
    return " and ".join(f"{value} ({time} ms)" for time, value in sorted(points, key=str)) or "missing"


def _found(client: Any, experiment: str, which: str) -> Iterator[Any]:
    for runs in _paged(client, experiment, which):
        yield from runs


def _paged(client: Any, experiment: str, which: str) -> Iterator[list[Any]]:
    token = None
    while True:
        runs = client.search_runs([experiment], which, max_results=_RUNS_AT_ONCE, page_token=token)
        yield list(runs)
        token = runs.token
        if not token:
            return


def _points(client: Any, runs: Sequence[Any]) -> dict[str, list[Point]]:
    """Return all points of some runs: asked for by key, for all runs at once where the store can (a database)."""
    having = defaultdict(list)
    for run in runs:
        for key in run.data.metrics:
            having[key].append(run.info.run_id)
    bulk = getattr(client._tracking_client.store, "get_metric_history_bulk", None)
    points = defaultdict(list)
    for key, ids in having.items():
        if bulk is not None:
            for p in bulk(ids, key, None):
                points[p.run_id].append(Point(p.key, p.step, p.timestamp, p.value))
        else:
            for run in ids:
                points[run] += [Point(p.key, p.step, p.timestamp, p.value) for p in client.get_metric_history(run, key)]
    return points
