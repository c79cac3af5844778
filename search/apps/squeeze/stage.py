"""Contenders are made from the members, the champion is chosen on validation, and the test split is opened once."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from search.apps.report import print_results
from search.apps.squeeze import members as membership
from search.apps.squeeze.averages import average
from search.apps.squeeze.champion import ship
from search.apps.squeeze.final import draw, judge, selection_of
from search.apps.squeeze.longer import leave_training
from search.apps.squeeze.members import Members
from search.apps.squeeze.refit import refit, refit_configs
from search.apps.squeeze.students import student_configs, train_students
from search.apps.summary import tell
from search.apps.training import TrainingSession, best_trained
from search.errors import UsageError
from search.post.comparison import REMATCH, Comparison
from search.post.contenders import Candidate, Selection, calibrated, select
from search.post.results import Results
from search.sweep.study import Study
from search.train.metrics import Array


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
    draw(session, results, members)
    if "report" not in session.cfg.stages:  # which prints it, too
        print_results(session, results)
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
    """Choose and train the contenders, then judge them."""
    if members.configs.keys() <= members.owners.keys():
        raise UsageError(f"squeeze: no trial left predictions in {session.folder / 'trials'}")
    candidates = _candidates(session, study, members)
    return judge(session, study, made_from, members, candidates)


def _candidates(session: TrainingSession, study: Study, members: Members) -> list[Candidate]:
    """Return all contenders, the single best first; what is trained for it becomes a member."""
    more = leave_training(session, study, members)
    best = best_trained(session, study)
    trial = "" if best is None else f"trials/{best[0]:05d}"
    if trial in members.configs:
        longer = next((f for candidate in more for f in candidate.weights if members.owners[f] == trial), None)
        more += average(session, members, trial, longer)
    selection = selection_of(session)
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
