"""The stage sync: MLflow again from the study, whatever became of it there. Trains nothing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

from rich.console import Console

from search.apps.session import Session
from search.apps.summary import summary_of
from search.errors import UsageError
from search.post.package import is_registered
from search.post.results import Results
from search.records import Event
from search.sweep.journal import Journal
from search.tracking.compare import Difference
from search.tracking.outbox import all_delivered, explained, forget, is_from_mlflow, note
from search.tracking.pages import pages_of
from search.tracking.projection import public_uri
from search.tracking.rebuild import rebuild

DIFFERS = 1
_LINE_SECONDS = 5.0
_SHOWN = 10


def sync(session: Session, journal: Journal) -> int:
    """Compare MLflow with the study, mend what differs, compare again; return the exit code."""
    console, uri = session.console, session.tracking_uri
    assert uri is not None  # checked with the configuration
    last = 0.0

    def timed() -> Iterator[Event]:
        nonlocal last
        for event, _ in journal.events():
            last = event.time
            yield event

    pages = pages_of(timed(), maximize=session.metric.maximize)
    results = Results.load(session.folder)
    summary = summary_of(session.folder)
    done = all(page.end is not None for page in pages.trials.values())
    ended = ("FINISHED" if done else "KILLED", last if summary is None else max(last, summary.time))
    forget(session.folder)
    console.print(f"comparing {len(pages.trials)} trials with MLflow at {public_uri(uri)} ...", highlight=False)
    try:
        rebuilt = rebuild(
            session.mlflow(journal), journal.uid, pages, summary, ended=ended, told=_now_and_then(console)
        )
    except Exception as error:
        if not is_from_mlflow(error):
            raise
        raise UsageError(f"tracking.uri={public_uri(uri)}: {explained(error)}") from error
    note(session.folder, all_delivered(uri, journal.size(), rebuilt.projection, summary))
    left, after = rebuilt.after.differences, rebuilt.after
    mended = max(0, len(rebuilt.before.differences) - len(left))
    stands = f"MLflow has {len(after.runs)} trials, {after.points} points"
    if results is not None and results.model is not None and not is_registered(uri, results.model):
        dataclasses.replace(results, model=None).save(session.folder)
        console.print("the champion is not registered there: the next search registers it", highlight=False)
    if not left:
        console.print(f"{stands}: {f'{_counted(mended)} mended' if mended else 'nothing differed'}", highlight=False)
        return 0
    for text in rebuilt.refused[:_SHOWN]:
        console.print(f"MLflow refused {text}", style="red", markup=False)
    _list(console, left)
    console.print(f"{stands}: {_counted(len(left))} left", style="red", highlight=False)
    return DIFFERS


def _counted(number: int) -> str:
    return f"{number} difference{'' if number == 1 else 's'}"


def _list(console: Console, differences: list[Difference]) -> None:
    for difference in differences[:_SHOWN]:
        console.print(str(difference), style="red", markup=False)
    if len(differences) > _SHOWN:
        console.print(f"... and {len(differences) - _SHOWN} more", style="red")


def _now_and_then(console: Console) -> Callable[[int, int, int], None]:
    """Return what prints how far it is, every few seconds."""
    printed = time.monotonic()

    def told(done: int, of: int, points: int) -> None:
        nonlocal printed
        if time.monotonic() - printed >= _LINE_SECONDS:
            printed = time.monotonic()
            console.print(f"{done}/{of} trials, {points} points", style="dim", highlight=False)

    return told
