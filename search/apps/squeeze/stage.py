"""Contenders are made from the members, the champion is chosen on validation, and the test split is opened once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.apps.rematch import STAGE
from search.apps.squeeze import members as membership
from search.apps.squeeze.averages import average
from search.apps.squeeze.champion import ship
from search.apps.squeeze.longer import leave_training
from search.apps.squeeze.members import Members
from search.apps.squeeze.refit import refit, refit_configs
from search.apps.squeeze.students import student_configs, train_students
from search.apps.summary import tell
from search.apps.training import TrainingSession, best_trained
from search.checks.evidence import Figure
from search.errors import UsageError
from search.files import write_atomically
from search.post.anatomy import anatomy
from search.post.comparison import REMATCH, Comparison
from search.post.contenders import GREEDY, Candidate, Selection, calibrated, champion_of, judged, rematched, select
from search.post.costs import Limits
from search.post.figures import figures_of
from search.post.judgement import mistakes_of
from search.post.results import FIGURES, Anatomy, Results
from search.sweep.study import Study
from search.train.metrics import Array

_LOOKS = "test_looks"


def squeeze(session: TrainingSession, study: Study) -> None:
    """Bring the stored results up to date with the trials and settings, then MLflow with the results.

    What is stored already is not made again; the test split is opened only for new results.
    """
    made_from = _made_from(session, study)
    results = Results.load(session.folder)
    members, left_out = membership.of_study(session, study)
    if results is None or results.made_from != made_from:
        if left_out:
            note = f"note: the squeeze leaves {len(left_out)} out, the first of them {left_out[0]}"
            session.console.print(note, style="dim", markup=False)
        results = _make(session, study, made_from, members)
    ship(session, study, results, members)
    tell(session, study.journal)


def _made_from(session: TrainingSession, study: Study) -> str:
    settings = {k: v for k, v in session.plain("squeeze").items() if k != "register"}
    settings["distill"]["transfer"] = session.transfer_digest  # what is in the file counts, wherever it lies
    rematch = Comparison.load(session.folder / REMATCH)
    again = [] if rematch is None else [(v.name, v.values) for v in (rematch.base, *rematch.changes)]
    text = json.dumps([sorted(study.outcomes), settings, again], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _make(session: TrainingSession, study: Study, made_from: str, members: Members) -> Results:
    """Choose and train the contenders, choose the champion on validation, then open the test split."""
    if members.configs.keys() <= members.owners.keys():
        raise UsageError(f"squeeze: no trial left predictions in {session.folder / 'trials'}")
    candidates = _candidates(session, study, members)
    targets = membership.targets_of(session, "validation")
    champion = champion_of(candidates, targets, session.metric)

    looks = int(study.journal.attributes.get(_LOOKS, 0)) + 1
    study.journal.set_attribute(_LOOKS, looks)  # before the look: a look that was cut short was one, too
    (single,) = candidates[0].weights
    again = _again(session, members, single)
    chosen = sorted({folder for candidate in [*candidates, *again] for folder in candidate.weights})
    membership.predict(session, members.configs, chosen, "test")
    test = {folder: members.load(folder, "test") for folder in chosen}
    test_targets = membership.targets_of(session, "test")
    data = session.dataset
    contenders = judged(candidates, session.metric, targets, test, test_targets)
    if again:
        mean = rematched(again, candidates[0], session.metric, targets, test, test_targets)
        contenders = (contenders[0], mean, *contenders[1:])
    predicted = champion.predict(test)
    mistakes = mistakes_of(predicted, test_targets, data.split.test, data.examples.classes)
    _draw(session, figures_of(champion.name, predicted, test_targets, mistakes, data.examples.inputs))
    results = Results(
        metric=session.metric.name,
        maximize=session.metric.maximize,
        made_from=made_from,
        test_looks=looks,
        test_size=len(test_targets),
        champion=champion.name,
        contenders=contenders,
        anatomy=_anatomy(session, members, candidates, champion, targets),
        digests={folder: members.digest_of(folder) for folder in chosen},
        mistakes=mistakes,
    )
    results.save(session.folder)
    return results


def _draw(session: TrainingSession, figures: Sequence[Figure]) -> None:
    from search.reporting.figures import draw  # brings matplotlib

    folder = session.folder / FIGURES
    folder.mkdir(exist_ok=True)
    for figure in figures:
        write_atomically(folder / f"{figure.name}.png", draw(figure))


def _again(session: TrainingSession, members: Members, single: str) -> list[Candidate]:
    """Return each rematch of a trial, in the order of their seeds."""
    beginning, targets = f"{STAGE}/{Path(single).name}/", membership.targets_of(session, "validation")
    rematches = [f for f, owner in members.owners.items() if owner == single and f.startswith(beginning)]
    alone = (Candidate(name=f, weights={f: 1.0}, validation=members.load(f, "validation")) for f in rematches)
    return [calibrated(candidate, targets, _selection(session)) for candidate in alone]


def _anatomy(
    session: TrainingSession, members: Members, candidates: Sequence[Candidate], champion: Candidate, targets: Array
) -> Anatomy | None:
    """Return what the champion's members bring, the greedy ensemble's where it is of one alone."""
    several = champion if len(champion.weights) > 1 else next(c for c in candidates if c.name == GREEDY)
    predictions = {folder: members.load(folder, "validation") for folder in several.weights}
    return anatomy(several, predictions, targets, session.selection_metric)


def _candidates(session: TrainingSession, study: Study, members: Members) -> list[Candidate]:
    """Return all contenders, the single best first; what is trained for it becomes a member."""
    more = leave_training(session, study, members)
    best = best_trained(session, study)
    trial = "" if best is None else f"trials/{best[0]:05d}"
    if trial in members.configs:
        longer = next((f for candidate in more for f in candidate.weights if members.owners[f] == trial), None)
        more += average(session, members, trial, longer)
    selection = _selection(session)
    targets = membership.targets_of(session, "validation")
    chosen = _chosen(members, selection, targets)
    students, refits = student_configs(session, study), refit_configs(session, study)
    taught = train_students(session, students, members, teacher=chosen[-1])
    whole = refit(session, refits)
    for folder, config in {**students, **refits}.items():
        members.configs[folder] = config
    return [*chosen, *(calibrated(candidate, targets, selection) for candidate in [*more, *taught]), *whole]


def _chosen(members: Members, selection: Selection, targets: Array) -> list[Candidate]:
    """Return the single best and the ensembles, the greedy one last."""
    names = list(members.configs)
    predictions = np.stack([members.load(folder, "validation") for folder in names])
    costs = None
    if selection.limits.parameters is not None or selection.limits.milliseconds is not None:
        costs = {member: members.cost_of(member) for member in names}
    return select(names, predictions, targets, selection, members.owners, costs)


def _selection(session: TrainingSession) -> Selection:
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
