"""The final judgement: the champion is chosen on validation, then the test split is opened once for all contenders."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from search.apps.rematch import STAGE as REMATCH
from search.apps.squeeze.members import Members, predict, targets_of
from search.apps.training import TrainingSession
from search.files import write_atomically
from search.post.anatomy import anatomy
from search.post.contenders import GREEDY, Candidate, Selection, calibrated, champion_of, judged, rematched
from search.post.costs import Limits
from search.post.figures import figures_of
from search.post.judgement import mistakes_of
from search.post.results import FIGURES, Anatomy, Contender, Results
from search.sweep.study import Study
from search.train.metrics import Array

_LOOKS = "test_looks"


def judge(
    session: TrainingSession, study: Study, made_from: str, members: Members, candidates: Sequence[Candidate]
) -> Results:
    """Choose the champion of the candidates, the single best first, open the test split, and store what is found."""
    targets = targets_of(session, "validation")
    champion = champion_of(candidates, targets, session.metric)
    again = _rematches(session, members, candidates[0])
    chosen = sorted({folder for candidate in [*candidates, *again] for folder in candidate.weights})

    looks = int(study.journal.attributes.get(_LOOKS, 0)) + 1
    study.journal.set_attribute(_LOOKS, looks)  # before the look: a look that was cut short was one, too
    predict(session, members.configs, chosen, "test")
    test = {folder: members.load(folder, "test") for folder in chosen}
    data, test_targets = session.dataset, targets_of(session, "test")
    results = Results(
        metric=session.metric.name,
        maximize=session.metric.maximize,
        made_from=made_from,
        test_looks=looks,
        test_size=len(test_targets),
        champion=champion.name,
        contenders=_contenders(session, candidates, again, test),
        anatomy=_anatomy(session, members, candidates, champion),
        digests={folder: members.digest_of(folder) for folder in chosen},
        mistakes=mistakes_of(champion.predict(test), test_targets, data.split.test, data.examples.classes),
    )
    shutil.rmtree(session.folder / FIGURES, ignore_errors=True)  # of an earlier judgement
    results.save(session.folder)
    return results


def _rematches(session: TrainingSession, members: Members, best: Candidate) -> list[Candidate]:
    """Return each rematch of the single best, in the order of their seeds."""
    (trial,), targets = best.weights, targets_of(session, "validation")
    beginning = f"{REMATCH}/{Path(trial).name}/"
    folders = [f for f, owner in members.owners.items() if owner == trial and f.startswith(beginning)]
    alone = (Candidate(name=f, weights={f: 1.0}, validation=members.load(f, "validation")) for f in folders)
    return [calibrated(candidate, targets, selection_of(session)) for candidate in alone]


def _contenders(
    session: TrainingSession, candidates: Sequence[Candidate], again: Sequence[Candidate], test: Mapping[str, Array]
) -> tuple[Contender, ...]:
    """Return all with their figures, the mean of the single best's rematches behind it where there are some."""
    targets, test_targets = targets_of(session, "validation"), targets_of(session, "test")
    first, *others = judged(candidates, session.metric, targets, test, test_targets)
    means = [rematched(again, candidates[0], session.metric, targets, test, test_targets)] if again else []
    return (first, *means, *others)


def _anatomy(
    session: TrainingSession, members: Members, candidates: Sequence[Candidate], champion: Candidate
) -> Anatomy | None:
    """Return what the champion's members bring, the greedy ensemble's where it is of one alone."""
    several = champion if len(champion.weights) > 1 else next(c for c in candidates if c.name == GREEDY)
    predictions = {folder: members.load(folder, "validation") for folder in several.weights}
    return anatomy(several, predictions, targets_of(session, "validation"), session.selection_metric)


def draw(session: TrainingSession, results: Results, members: Members) -> None:
    """Draw where the stored results have the champion wrong, unless that is done."""
    folder = session.folder / FIGURES
    if folder.exists() or results.mistakes is None:
        return
    from search.reporting.figures import draw as drawn  # brings matplotlib

    chosen = next(c for c in results.contenders if c.name == results.champion)
    champion = Candidate(
        name=chosen.name,
        weights=chosen.members,
        validation=None,
        temperatures=chosen.temperatures,
        temperature=chosen.temperature,
    )
    predictions = champion.predict({member: members.load(member, "test") for member in chosen.members})
    inputs = session.dataset.examples.inputs
    figures = figures_of(chosen.name, predictions, targets_of(session, "test"), results.mistakes, inputs)
    pictures = {f"{figure.name}.png": drawn(figure) for figure in figures}
    folder.mkdir()
    for name, picture in pictures.items():
        write_atomically(folder / name, picture)


def selection_of(session: TrainingSession) -> Selection:
    """Return the settings that ensembles are chosen with."""
    cfg = session.cfg.squeeze
    return Selection(
        objective=session.metric,
        by=session.selection_metric,
        top_k=cfg.top_k,
        picks=cfg.picks,
        folds=cfg.folds,
        seed=session.cfg.seed,
        start=cfg.start,
        patience=cfg.patience,
        bags=cfg.bags,
        calibrate=cfg.calibrate,
        limits=Limits(**session.plain("squeeze")["limits"]),
    )
