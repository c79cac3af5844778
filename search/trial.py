"""Work as a worker does it: a specification in, reports on the way, one Outcome at the end, whatever happens."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import json
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from search.config.inside import require_shared
from search.errors import UsageError
from search.files import no_room, write_atomically
from search.layout import CHECKPOINT, CONFIG, DIAGNOSIS, DIAGNOSTICS, OUTCOME, SNAPSHOTS, WEIGHTS, predictions_of
from search.memory import peak_memory, reset_peak_memory
from search.records import (
    OBJECTIVE,
    CheckSpec,
    Decision,
    FailureKind,
    LookSpec,
    Outcome,
    Paused,
    PredictSpec,
    Report,
    TrialSpec,
    TrialState,
    Verdict,
    Work,
    event_to_json,
    failed,
)
from search.traces import told, user_traceback
from search.train.batches import Batches, BatchesOf, LoaderBatches, ResidentBatches
from search.train.checkpoint import load_state, save_state
from search.train.data.arrays import Array, Dataset
from search.train.diagnostics.diagnosis import tags_of
from search.train.diagnostics.diary import Diary
from search.train.equipment import Equipment
from search.train.estimator import Estimator, build
from search.train.loop import EVALUATION_BATCH, Fitted, predict
from search.train.losses import DistillationLoss, Loss
from search.train.metrics import Metric
from search.train.setup import Setup, setup_of
from search.train.steps import NonFiniteError

_NO_MEMORY = "can't allocate memory"  # torch raises a RuntimeError for it on a CPU


class Checks(Protocol):
    """What looks: at data and setups before a search, at trials after it."""

    def __call__(self, spec: CheckSpec) -> None:
        """Do the check, and write down what was found."""
        ...

    def look(self, directory: Path, model: Estimator | None, micro_batches: int = 1) -> None:
        """Draw what can be seen of the trial in `directory`; `model` has its best weights, None where they are gone."""
        ...


MakeChecker = Callable[[Dataset, torch.device, BatchesOf], Checks]


class Runner:
    """Runs one piece of work after the other; the data stays on the device between them."""

    def __init__(self, equipment: Equipment, make_checker: MakeChecker | None = None) -> None:
        """`make_checker` gives what does checks, which are no business of a trial's."""
        if equipment.token is not None:
            require_shared(equipment.token)
        self._dataset = equipment.dataset
        self._device = torch.device(_device(equipment.device))
        self._resident: Batches | None = None
        self._make_checker = make_checker
        self._check: Checks | None = None
        torch.set_num_threads(equipment.threads)
        if self._device.type == "cuda" and equipment.gpu_share < 1:
            torch.cuda.set_per_process_memory_fraction(equipment.gpu_share, self._device)

    def __call__(self, work: Work, report: Callable[[Report], Decision]) -> Paused | Outcome:
        """Do the work; failures become the Outcome's, with their kind."""
        started = time.time()
        if not isinstance(work, CheckSpec):
            self._check = None  # it holds on to networks
        self._begin_memory()
        last: Paused | Outcome
        try:
            if isinstance(work, TrialSpec):
                last = self._train(work, report)
            else:
                last = self._predict(work) if isinstance(work, PredictSpec) else self._look(work)
        except Exception as error:  # noqa: BLE001 - user code may raise anything; the search goes on
            last = _failed(work.number, error, time.time() - started)
        peak = self._peak_memory()
        if isinstance(last, Paused):
            return dataclasses.replace(last, so_far=dataclasses.replace(last.so_far, peak_memory=peak))
        last = dataclasses.replace(last, peak_memory=peak)
        if isinstance(work, TrialSpec) and not (last.failure and last.failure.kind is FailureKind.DISK_FULL):
            directory = Path(work.directory)  # a trial without an outcome is taken up again
            directory.mkdir(parents=True, exist_ok=True)
            write_atomically(directory / OUTCOME, event_to_json(last).encode())
            if last.failure is None:  # not before the outcome is there; a failed one may be tried again from it
                (directory / CHECKPOINT).unlink(missing_ok=True)
        return last

    def _begin_memory(self) -> None:
        reset_peak_memory()
        if self._device.type == "cuda":
            gc.collect()  # an earlier failure's frames hold on to its tensors
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)

    def _peak_memory(self) -> dict[str, int]:
        host = {"host": peak_memory()}
        return (
            {**host, "device": torch.cuda.max_memory_allocated(self._device)} if self._device.type == "cuda" else host
        )

    def _train(self, spec: TrialSpec, report: Callable[[Report], Decision]) -> Paused | Outcome:
        started = time.time()
        directory = Path(spec.directory)
        directory.mkdir(parents=True, exist_ok=True)
        config = spec.config
        write_atomically(directory / CONFIG, json.dumps(config, indent=1).encode())
        setup = setup_of(
            config,
            self._dataset if spec.refit_epochs is None else _with_validation(self._dataset),
            self._device,
            seed=spec.seed,
            batches=self._batches(config["trainer"]),
            micro_batches=spec.micro_batches,
            refit_epochs=spec.refit_epochs,
        )
        if spec.teacher is not None:
            setup = dataclasses.replace(setup, loss=self._distillation(spec, setup), nothing_train=None)
        reporter = _Reporter(spec.number, setup.metric, report)
        keep = partial(_keep_snapshot, directory) if spec.snapshots else None
        training = setup.training()
        try:
            fitted = training.fit(reporter, directory / CHECKPOINT, keep)
        except NonFiniteError as error:
            outcome = _failed(spec.number, error, time.time() - started)
            return dataclasses.replace(outcome, diagnosis=_diagnosed(training.diary, directory, failure=str(error)))
        self._keep(directory, setup.model, fitted)
        diagnosis = _diagnosed(training.diary, directory, ended=not (fitted.paused or reporter.told_to_stop))
        outcome = reporter.outcome(fitted, diagnosis, seconds=time.time() - started)
        if fitted.paused:
            return Paused(number=spec.number, step=fitted.steps, so_far=outcome, time=outcome.time)
        return outcome

    def _keep(self, directory: Path, model: Estimator, fitted: Fitted) -> None:
        save_state(directory / WEIGHTS, model.state_dict())
        save_array(directory / predictions_of("validation"), fitted.predictions)

    def _predict(self, spec: PredictSpec) -> Outcome:
        started = time.time()
        for directory, config in spec.members:
            model = load_model(Path(directory), config, self._dataset).to(self._device)
            indices = self._dataset.split.of(spec.split)
            predictions = predict(
                model,
                self._batches(config["trainer"]),
                indices,
                self._dataset.examples.task,
                max(1, EVALUATION_BATCH // spec.micro_batches),
            )
            save_array(Path(directory) / predictions_of(spec.split), predictions)
        return _done(spec.number, started)

    def _look(self, spec: CheckSpec | LookSpec) -> Outcome:
        started = time.time()
        if self._check is None:
            assert self._make_checker is not None
            self._check = self._make_checker(self._dataset, self._device, self._batches)
        if isinstance(spec, CheckSpec):
            self._check(spec)
        else:
            self._check.look(Path(spec.directory), self._left_of(spec), spec.micro_batches)
        return _done(spec.number, started)

    def _left_of(self, spec: LookSpec) -> Estimator | None:
        """Return a trial's network with its best weights; None where there are none."""
        with contextlib.suppress(FileNotFoundError):
            return load_model(Path(spec.directory), spec.config, self._dataset)
        return None

    def _distillation(self, spec: TrialSpec, setup: Setup) -> Loss:
        assert spec.teacher is not None
        teacher = np.load(spec.teacher, allow_pickle=False)
        train, std = self._dataset.split.train, float(setup.model.target_std)
        return DistillationLoss(setup.loss, teacher, train, target_std=std, **spec.config["distill"])

    def _batches(self, trainer: Mapping[str, Any]) -> Batches:
        if trainer["loading"] == "loader":
            return LoaderBatches(self._dataset.examples, self._device, trainer["loader_workers"])
        if self._resident is None:
            self._resident = ResidentBatches(self._dataset.examples, self._device)
        return self._resident


class _Reporter:
    """Turns the loop's figures into Reports and keeps the last word of the driver."""

    def __init__(self, number: int, metric: Metric, report: Callable[[Report], Decision]) -> None:
        self._number, self._report = number, report
        self._key = f"val/{metric.name}"
        self.told_to_stop = False

    def __call__(self, step: int, figures: Mapping[str, float]) -> tuple[Verdict, str]:
        metrics = {OBJECTIVE: figures[self._key], **figures}
        decision = self._report(Report(number=self._number, step=step, metrics=metrics, time=time.time()))
        self.told_to_stop = decision.verdict is Verdict.STOP
        return decision.verdict, decision.reason or "told to stop"

    def outcome(self, fitted: Fitted, diagnosis: str, seconds: float) -> Outcome:
        return Outcome(
            number=self._number,
            state=TrialState.PRUNED if fitted.paused or self.told_to_stop else TrialState.COMPLETE,
            value=fitted.figures[self._key],
            best_step=fitted.best_step,
            steps=fitted.steps,
            metrics=fitted.figures,
            reason=fitted.stopped or "all epochs done",
            seconds=seconds,
            time=time.time(),
            diagnosis=diagnosis,
        )


def _diagnosed(diary: Diary | None, directory: Path, *, ended: bool = False, failure: str = "") -> str:
    """Write down what the layers were like and what ails the trial; return the latter in words."""
    if diary is None:
        return ""
    diary.table.save(directory / DIAGNOSTICS)
    found = diary.diagnoses(ended=ended, failure=failure)
    lines = "".join(f"{diagnosis.tag}: {diagnosis.sentence}\n" for diagnosis in found)
    (directory / DIAGNOSIS).unlink(missing_ok=True)  # of an earlier attempt
    if lines:
        write_atomically(directory / DIAGNOSIS, lines.encode())
    return tags_of(found)


def _done(number: int, started: float) -> Outcome:
    """Return the Outcome of work that leaves files, and no figure."""
    return Outcome(
        number=number,
        state=TrialState.COMPLETE,
        value=None,
        best_step=None,
        steps=0,
        reason="",
        seconds=time.time() - started,
        time=time.time(),
    )


def _with_validation(dataset: Dataset) -> Dataset:
    """Return the data with its validation examples among those for training."""
    split = dataset.split
    train = np.sort(np.concatenate([split.train, split.validation]))
    return dataclasses.replace(dataset, split=dataclasses.replace(split, train=train))


def load_model(directory: Path, config: Mapping[str, Any], dataset: Dataset) -> Estimator:
    """Return a finished trial's network with its best weights; raise FileNotFoundError where they are gone."""
    state = load_state(directory / WEIGHTS)
    if state is None:
        raise FileNotFoundError(f"{directory / WEIGHTS}: missing or damaged")
    model = build(config["model"], dataset, inputs=config.get("inputs"))
    model.load_state_dict(state)
    return model


def save_array(path: Path, array: Array) -> None:
    """Write an array file atomically."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def _keep_snapshot(directory: Path, cycle: int, weights: Mapping[str, Tensor], predictions: Array) -> None:
    """Write a snapshot of a trial as a member of its own: a folder with weights and, last, predictions."""
    folder = directory / SNAPSHOTS / str(cycle)
    folder.mkdir(parents=True, exist_ok=True)
    save_state(folder / WEIGHTS, weights)
    save_array(folder / predictions_of("validation"), predictions)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device={name}: torch sees no GPU here; use device=cpu")
    return name


def _failed(number: int, error: Exception, seconds: float) -> Outcome:
    if isinstance(error, NonFiniteError):
        kind = FailureKind.NON_FINITE
    elif isinstance(error, torch.OutOfMemoryError | MemoryError) or _NO_MEMORY in str(error):
        kind = FailureKind.OUT_OF_MEMORY
    elif no_room(error):
        kind = FailureKind.DISK_FULL
    else:
        kind = FailureKind.EXCEPTION
    ours = isinstance(error, UsageError | NonFiniteError)  # it says all there is, and where it was raised says nothing
    message = " ".join(str(error).split()) if ours else told(error)
    trace = user_traceback(error) or (message if ours else "".join(traceback.format_exception(error)))
    return failed(number, kind, message, time=time.time(), traceback=trace, seconds=seconds)
