"""One trial in a worker, epoch by epoch: what it reports, what it is told, what it leaves."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from search.files import write_atomically
from search.layout import CHECKPOINT, CONFIG
from search.records import OBJECTIVE, Decision, Outcome, Paused, Report, TrialSpec, TrialState, Verdict
from search.train.batches import batches_of
from search.train.data.more import with_transfer, with_validation
from search.train.loop import Fitted
from search.train.losses import DistillationLoss
from search.train.setup import Setup, setup_of
from search.train.steps import NonFiniteError
from search.trial.failing import failed_with
from search.trial.folder import diagnosed, keep, keep_snapshot
from search.trial.place import Place


def setup_in(place: Place, spec: TrialSpec) -> Setup:
    """Return the setup of a trial, with its teacher where it has one."""
    setup = setup_of(
        spec.config,
        place.dataset if spec.refit_epochs is None else with_validation(place.dataset),
        place.device,
        seed=spec.seed,
        batches=place.batches(spec.config["trainer"]),
        micro_batches=spec.micro_batches,
        refit_epochs=spec.refit_epochs,
    )
    return setup if spec.teacher is None else _taught(place, spec, setup)


class TrialRun:
    """A trial between its first step and its last word."""

    def __init__(self, place: Place, spec: TrialSpec) -> None:
        """Take it up from its checkpoint, where there is one."""
        self.spec = spec
        self.seconds = 0.0
        """How long it has run, or its share of the time that others ran with it."""
        began = time.perf_counter()
        directory = self._directory = Path(spec.directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / CONFIG, json.dumps(spec.config, indent=1).encode())
        setup = setup_in(place, spec)
        self._objective = f"val/{setup.metric.name}"
        self._told_to_stop = False
        self.training = setup.training()
        self.training.begin(directory / CHECKPOINT, partial(keep_snapshot, directory) if spec.snapshots else None)
        self.seconds = time.perf_counter() - began

    def report(self, figures: Mapping[str, float]) -> Report:
        """Return what is reported of the epoch that has these figures."""
        metrics = {OBJECTIVE: figures[self._objective], **figures}
        return Report(number=self.spec.number, step=self.training.epoch, metrics=metrics, time=time.time())

    def told(self, decision: Decision) -> None:
        """Take in what was decided on the last report."""
        self._told_to_stop = decision.verdict is Verdict.STOP
        self.training.told(decision.verdict, decision.reason or "told to stop")

    def last_word(self) -> Paused | Outcome:
        """Write down what is kept; return how it ended."""
        fitted = self.training.fitted()
        keep(self._directory, self.training.model, fitted)
        ended = not (fitted.paused or self._told_to_stop)
        outcome = self._outcome(fitted, diagnosed(self.training.diary, self._directory, ended=ended))
        if fitted.paused:
            return Paused(number=self.spec.number, step=fitted.steps, so_far=outcome, time=outcome.time)
        return outcome

    def failed(self, error: NonFiniteError) -> Outcome:
        """Return the Outcome of a trial that diverged, with what ails it."""
        outcome = failed_with(self.spec.number, error, self.seconds)
        why = diagnosed(self.training.diary, self._directory, failure=str(error))
        return dataclasses.replace(outcome, diagnosis=why)

    def _outcome(self, fitted: Fitted, diagnosis: str) -> Outcome:
        return Outcome(
            number=self.spec.number,
            state=TrialState.PRUNED if fitted.paused or self._told_to_stop else TrialState.COMPLETE,
            value=fitted.figures[self._objective],
            best_step=fitted.best_step,
            steps=fitted.steps,
            metrics=fitted.figures,
            reason=fitted.stopped or "all epochs done",
            seconds=self.seconds,
            time=time.time(),
            diagnosis=diagnosis,
        )


def _taught(place: Place, spec: TrialSpec, setup: Setup) -> Setup:
    """Return the setup with a teacher, and where there are some with inputs that it alone knows."""
    assert spec.teacher is not None
    whole, train = place.dataset.split.train, setup.dataset.split.train
    said = np.load(spec.teacher, allow_pickle=False)
    order = np.argsort(whole)
    rows = order[np.searchsorted(whole[order], train)]  # a trial may train on some of the examples
    teacher = np.concatenate([said[rows], said[len(whole) :]])
    labelled = len(train)
    if spec.transfer is not None:
        dataset = with_transfer(setup.dataset, np.load(spec.transfer, mmap_mode="r", allow_pickle=False))
        batches = batches_of(dataset.examples, place.device, spec.config["trainer"])
        plan = dataclasses.replace(setup.plan, drawn=labelled)
        setup = dataclasses.replace(setup, dataset=dataset, batches=batches, plan=plan)
    loss = DistillationLoss(
        setup.loss,
        teacher,
        setup.dataset.split.train,
        labelled=labelled,
        target_std=float(setup.model.target_std),
        **spec.config["distill"],
    )
    return dataclasses.replace(setup, loss=loss, nothing_train=None)
