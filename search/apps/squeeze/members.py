"""The members of ensembles: what was trained into folders of the study, and what it predicts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from search.apps.rematch import STAGE as REMATCH
from search.apps.rematch import contestants
from search.apps.repeated import specified
from search.apps.training import TrainingSession, best_trained
from search.errors import StrandedError, UsageError
from search.layout import CONFIG, COST, CROSS_FITTED, SNAPSHOTS, WEIGHTS, predictions_of
from search.post.costs import Cost, cost_in
from search.records import PredictSpec, TrialState
from search.reporting.progress import WorkDisplay
from search.space import Settings
from search.sweep.batch import run_all
from search.sweep.repeat import completed
from search.sweep.study import Study
from search.train.metrics import Array

REFITS = "refits"
"""The folder of what was trained on the validation split, too."""

Configs = Mapping[str, Settings]
"""What was trained, by its folder relative to the study's."""


class Members:
    """Folders with weights and predictions, each with what it was trained with.

    `owners` has what a member comes from: of a snapshot the training that left it, else the trial; a trial has none.
    """

    def __init__(self, session: TrainingSession) -> None:
        self._session = session
        self.configs: dict[str, Settings] = {}
        self.owners: dict[str, str] = {}

    def add(self, folder: str, config: Settings, owner: str | None = None) -> None:
        """Take in a member, and the snapshots that its training left, which are its own."""
        self._add(folder, config, owner)
        found = (self._session.folder / folder / SNAPSHOTS).glob(f"*/{predictions_of('validation')}")
        for cycle in sorted(int(path.parent.name) for path in found):
            self._add(f"{folder}/{SNAPSHOTS}/{cycle}", config, folder)

    def _add(self, folder: str, config: Settings, owner: str | None) -> None:
        self.configs[folder] = config
        if owner is not None:
            self.owners[folder] = owner

    def load(self, member: str, split: str) -> Array:
        """Return what a member's network predicts of a split, (N, C) or (N,).

        Of validation what it can be judged by: what was put together by its figures there, a greedy soup, left
        predictions that are cross-fitted. Raises UsageError where they are gone or damaged.
        """
        folder = self._session.folder / member
        fitted = folder / CROSS_FITTED
        file = fitted if split == "validation" and fitted.exists() else folder / predictions_of(split)
        try:
            array: Array = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _gone(self._session, member, file) from error
        return array

    def digest_of(self, member: str) -> str:
        """Return 16 digits that change with what a member predicts of the validation split."""
        predictions = np.ascontiguousarray(self.load(member, "validation"))
        return hashlib.blake2b(predictions.tobytes(), digest_size=8).hexdigest()

    def origin_of(self, member: str) -> str:
        """Return the trial that a member comes from, whose network it shares; a student comes from itself."""
        while member in self.owners:
            member = self.owners[member]
        return member

    def cost_of(self, member: str) -> Cost:
        """Return what a member's network costs; raise UsageError where its training did not say."""
        found = cost_in(self._session.folder / member) or cost_in(self._session.folder / self.origin_of(member))
        if found is None:
            raise UsageError(f"squeeze.limits: {member} has no {COST}, as trials of earlier versions; set no limit")
        return found

    def snapshots_of(self, folder: str) -> list[str]:
        """Return the snapshots that a member's training left, in their order."""
        return [member for member in self.configs if member.startswith(f"{folder}/{SNAPSHOTS}/")]


def of_study(session: TrainingSession, study: Study) -> tuple[Members, list[StrandedError]]:
    """Return the trials that left predictions of this data (the best `squeeze.keep`), and their rematches.

    Also, why some of an earlier composition are left out. Raises UsageError where the best trial's files are gone.
    """
    members = Members(session)
    left_out: list[StrandedError] = []
    for number, outcome in sorted(study.outcomes.items()):
        folder = study.directory(number)
        if outcome.state is TrialState.FAILED or number < study.comparable_from:
            continue
        if not (folder / predictions_of("validation")).exists():
            continue  # of all but the best `squeeze.keep` they were deleted
        if not (folder / CONFIG).exists():
            raise UsageError(f"{folder / CONFIG}: missing; put it back from a copy")
        try:
            config = session.trained(number, study.params[number], study.composed_from)
        except StrandedError as error:
            left_out.append(error)
        else:
            members.add(str(folder.relative_to(session.folder)), config)
    _require_best(session, study, members)
    for spec in specified(session, REMATCH, contestants(session, study), session.cfg.rematch.seeds, keep=True):
        if completed(spec) is not None:  # of this data and these trials
            folder = Path(spec.directory)
            members.add(str(folder.relative_to(session.folder)), dict(spec.config), f"trials/{folder.parent.name}")
    return members, left_out


def _require_best(session: TrainingSession, study: Study, members: Members) -> None:
    """Raise UsageError where the best trial left nothing: another one would be called the single best.

    What a trial leaves that was stopped while it rested may have been cleared away to make room.
    """
    best = best_trained(session, study)
    if best is None or study.outcomes[best[0]].state is not TrialState.COMPLETE:
        return
    if (trial := f"trials/{best[0]:05d}") not in members.configs:
        raise _gone(session, trial, study.directory(best[0]) / predictions_of("validation"))


def _gone(session: TrainingSession, member: str, file: Path) -> UsageError:
    """Return what says how to get a member's file back."""
    mend = "put it back from a copy"
    if not member.startswith("trials/"):
        mend += f", or delete {session.folder / member}, and stages=[rematch,squeeze] trains it again"
    return UsageError(f"{file}: missing or damaged; {mend}")


def targets_of(session: TrainingSession, split: str) -> Array:
    """Return the targets of a split (N,)."""
    return session.dataset.examples.targets[session.dataset.split.of(split)]


def predict(
    session: TrainingSession, configs: Configs, members: Sequence[str], split: str, inputs: Path | None = None
) -> None:
    """Have the workers predict a split with the members that have not done it yet, an equal share each.

    Of other `inputs` than the data's, in a file, it is the split's name that stands on what they predict. Raises
    UsageError where weights are gone, and where a network fails.
    """
    missing = [m for m in members if not (session.folder / m / predictions_of(split)).exists()]
    for member in missing:
        if not (weights := session.folder / member / WEIGHTS).exists():
            raise _gone(session, member, weights)
    if not missing:
        return
    slots = session.executor.num_slots
    work = [
        PredictSpec(
            number=i,
            members=tuple((str(session.folder / m), configs[m]) for m in share),
            split=split,
            inputs=None if inputs is None else str(inputs),
        )
        for i, share in enumerate(missing[i::slots] for i in range(slots))
        if share
    ]
    names = [f"worker {i + 1}" for i in range(len(work))]
    what = f"the {split} split" if inputs is None else "what a student is to learn"
    with WorkDisplay(session.console, f"predicting {what}", names, 0) as display:
        outcomes = run_all(session.executor, work, display, session.failures())
    for outcome in outcomes:
        if outcome.failure is not None:
            raise UsageError(f"predicting {what} failed: {outcome.reason}")
