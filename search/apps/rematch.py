"""The stage rematch: the best trials trained again over the same new seeds, so that luck is told from gain."""

from __future__ import annotations

from itertools import islice

from search.apps.repeated import values_by_seed
from search.apps.report import print_rematch
from search.apps.summary import tell
from search.apps.training import TrainingSession, from_best
from search.post.comparison import REMATCH, Comparison, base_of, rival_of
from search.space import Settings
from search.sweep.study import Study

STAGE = "rematch"


def rematch(session: TrainingSession, study: Study) -> None:
    """Bring the stored comparison up to date with the best trials and the seeds, then MLflow with it.

    Every figure is one of validation; the trainings are members that the squeeze may choose.
    """
    best = contestants(session, study)
    if not best:
        return
    values = values_by_seed(session, STAGE, best, session.cfg.rematch.seeds, keep=True)
    (first, *others) = best
    base = base_of(_in_search(study, first), values[first], name=in_words(first))
    maximize = session.metric.maximize
    found = Comparison(
        metric=session.metric.name,
        maximize=maximize,
        seeds=session.cfg.rematch.seeds,
        base=base,
        changes=tuple(
            rival_of(in_words(name), _in_search(study, name), values[name], base, maximize=maximize) for name in others
        ),
    )
    file = session.folder / REMATCH
    if found != Comparison.load(file):
        found.save(file)
    if "report" not in session.cfg.stages:  # which prints it, too
        print_rematch(session, found)
    tell(session, study.journal)


def contestants(session: TrainingSession, study: Study) -> dict[str, Settings]:
    """Return what each of the best trials was trained with, by the name of its folder, the best first."""
    return {f"{number:05d}": config for number, config in islice(from_best(session, study), session.cfg.rematch.top)}


def in_words(name: str) -> str:
    """Return the trial that a folder is named after as people name it."""
    return f"trial {int(name)}"


def _in_search(study: Study, name: str) -> str:
    value = study.outcomes[int(name)].value
    return "" if value is None else f"{value:.4f}"
