"""MLflow made to say again what the study says, whatever became of it: runs deleted, figures changed, a new server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from search.tracking.compare import Comparison, compare
from search.tracking.outbox import is_refusal
from search.tracking.pages import Pages
from search.tracking.projection import Projection
from search.tracking.tracker import Summary


@dataclass
class Rebuilt:
    """How MLflow differed, and how it stands now; `refused` says why some of it would not go through."""

    projection: Projection
    before: Comparison
    after: Comparison
    refused: list[str] = field(default_factory=list)


def rebuild(
    open_projection: Callable[[], Projection],
    uid: str,
    pages: Pages,
    summary: Summary | None,
    *,
    ended: tuple[str, float],
    told: Callable[[int, int, int], None],
) -> Rebuilt:
    """Write what is different, into the runs that are there where they hold nothing wrong, else into new ones.

    `ended` is the search's status with its time; `told(done, all, points)` is called after each trial. Runs that are
    none of the study's, by our own tag, are left alone.
    """

    def compared() -> Comparison:
        return compare(projection.client, projection.experiment, uid, pages, summary)

    projection = open_projection()
    before = there = compared()
    if wrong := {d.wrong_run for d in before.differences if d.wrong_run is not None}:
        projection.trash(wrong)
        projection = open_projection()  # the search's own run may have been among them
        there = compared()
    projection.know(there.runs)
    refused = []
    numbers = sorted({d.number for d in there.differences if d.number is not None})
    points = 0
    for done, number in enumerate(numbers, start=1):
        try:
            projection.write(pages.trials[number])
        except Exception as error:
            if not is_refusal(error):
                raise
            refused.append(f"trial {number}: {error}")
        points += len(pages.trials[number].points)
        told(done, len(numbers), points)
    projection.draw_best(pages.best)
    if summary is not None:
        projection.summarize(summary)
    projection.end(*ended)
    return Rebuilt(projection, before, compared(), refused)
