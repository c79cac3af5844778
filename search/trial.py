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
from search.layout import (
    CHECKPOINT,
    CONFIG,
    COST,
    CROSS_FITTED,
    DIAGNOSIS,
    DIAGNOSTICS,
    OUTCOME,
    SNAPSHOTS,
    TAKEN,
    WEIGHTS,
    predictions_of,
)
from search.memory import peak_memory, reset_peak_memory
from search.records import (
    OBJECTIVE,
    AverageSpec,
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
from search.train.batches import Batches, BatchesOf, batches_of
from search.train.checkpoint import load_state, save_state
from search.train.data.arrays import Array, Dataset
from search.train.data.more import inputs_alone, with_transfer, with_validation
from search.train.diagnostics.diagnosis import tags_of
from search.train.diagnostics.diary import Diary
from search.train.equipment import Equipment
from search.train.estimator import Estimator, build
from search.train.loop import EVALUATION_BATCH, Fitted, predict
from search.train.losses import DistillationLoss
from search.train.metrics import Metric, objective
from search.train.pretrained import freeze, node_of
from search.train.setup import Setup, setup_of
from search.train.soup import Kitchen
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
            last = self._train(work, report) if isinstance(work, TrialSpec) else self._without_training(work)
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

    def _without_training(self, work: PredictSpec | AverageSpec | CheckSpec | LookSpec) -> Outcome:
        started = time.time()
        if isinstance(work, PredictSpec):
            self._predict(work)
        elif isinstance(work, AverageSpec):
            self._average(work)
        else:
            self._look(work)
        return _done(work.number, started)

    def _train(self, spec: TrialSpec, report: Callable[[Report], Decision]) -> Paused | Outcome:
        started = time.time()
        directory = Path(spec.directory)
        directory.mkdir(parents=True, exist_ok=True)
        config = spec.config
        write_atomically(directory / CONFIG, json.dumps(config, indent=1).encode())
        setup = setup_of(
            config,
            self._dataset if spec.refit_epochs is None else with_validation(self._dataset),
            self._device,
            seed=spec.seed,
            batches=self._batches(config["trainer"]),
            micro_batches=spec.micro_batches,
            refit_epochs=spec.refit_epochs,
        )
        if spec.teacher is not None:
            setup = self._taught(spec, setup)
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
        milliseconds = 1000 * fitted.predicting / len(fitted.predictions)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        write_atomically(
            directory / COST, json.dumps({"parameters": parameters, "milliseconds": milliseconds}).encode()
        )
        save_array(directory / predictions_of("validation"), fitted.predictions)

    def _average(self, spec: AverageSpec) -> None:
        """Write the mean of several weights as a member of its own, its predictions last."""
        directory = Path(spec.directory)
        directory.mkdir(parents=True, exist_ok=True)
        trainer, metric = spec.config["trainer"], spec.config["metric"]
        model = build(spec.config["model"], self._dataset, inputs=spec.config.get("inputs")).to(self._device)
        if (began := node_of(spec.config)) is not None:
            freeze(model, began)
        weights = [weights_in(Path(member), self._device) for member in spec.members]
        size = max(2, trainer["batch_size"] // spec.micro_batches)
        kitchen = Kitchen(model, weights, self._dataset, self._batches(trainer), size)
        taken: tuple[int, ...] = tuple(range(len(weights)))
        if spec.greedy:
            judged_by = objective(metric["name"], metric["mode"], self._dataset.examples.task)
            soup = kitchen.greedy(judged_by, spec.folds, spec.seed)
            taken = soup.taken
            save_array(directory / CROSS_FITTED, soup.cross_fitted)
        predictions = kitchen.predictions(taken)
        if not np.isfinite(predictions).all():
            raise NonFiniteError("what the mean of the weights predicts is not finite")
        kitchen.pour(taken)
        save_state(directory / WEIGHTS, model.state_dict())
        write_atomically(directory / TAKEN, json.dumps([spec.members[i] for i in taken]).encode())
        save_array(directory / predictions_of("validation"), predictions)

    def _predict(self, spec: PredictSpec) -> None:
        other: Batches | None = None
        if spec.inputs is None:
            indices = self._dataset.split.of(spec.split)
        else:
            given = inputs_alone(self._dataset.examples, np.load(spec.inputs, allow_pickle=False))
            indices = np.arange(len(given))
            other = batches_of(given, self._device, spec.members[0][1]["trainer"])
        for directory, config in spec.members:
            model = load_model(Path(directory), config, self._dataset).to(self._device)
            predictions = predict(
                model,
                other or self._batches(config["trainer"]),
                indices,
                self._dataset.examples.task,
                max(1, EVALUATION_BATCH // spec.micro_batches),
            )
            save_array(Path(directory) / predictions_of(spec.split), predictions)

    def _look(self, spec: CheckSpec | LookSpec) -> None:
        if self._check is None:
            assert self._make_checker is not None
            self._check = self._make_checker(self._dataset, self._device, self._batches)
        if isinstance(spec, CheckSpec):
            self._check(spec)
        else:
            self._check.look(Path(spec.directory), self._left_of(spec), spec.micro_batches)

    def _left_of(self, spec: LookSpec) -> Estimator | None:
        """Return a trial's network with its best weights; None where there are none."""
        with contextlib.suppress(FileNotFoundError):
            return load_model(Path(spec.directory), spec.config, self._dataset)
        return None

    def _taught(self, spec: TrialSpec, setup: Setup) -> Setup:
        """Return the setup with a teacher, and where there are some with inputs that it alone knows."""
        assert spec.teacher is not None
        whole, train = self._dataset.split.train, setup.dataset.split.train
        said = np.load(spec.teacher, allow_pickle=False)
        order = np.argsort(whole)
        rows = order[np.searchsorted(whole[order], train)]  # a trial may train on some of the examples
        teacher = np.concatenate([said[rows], said[len(whole) :]])
        labelled = len(train)
        if spec.transfer is not None:
            dataset = with_transfer(setup.dataset, np.load(spec.transfer, mmap_mode="r", allow_pickle=False))
            batches = batches_of(dataset.examples, self._device, spec.config["trainer"])
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

    def _batches(self, trainer: Mapping[str, Any]) -> Batches:
        if trainer["loading"] == "loader":
            return batches_of(self._dataset.examples, self._device, trainer)
        if self._resident is None:
            self._resident = batches_of(self._dataset.examples, self._device, trainer)
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


def load_model(directory: Path, config: Mapping[str, Any], dataset: Dataset) -> Estimator:
    """Return a finished trial's network with its best weights; raise FileNotFoundError where they are gone."""
    state = weights_in(directory)
    model = build(config["model"], dataset, inputs=config.get("inputs"))
    model.load_state_dict(state)
    return model


def weights_in(directory: Path, device: torch.device | str = "cpu") -> Mapping[str, Tensor]:
    """Return the best weights that a training left; raise FileNotFoundError where they are gone."""
    state = load_state(directory / WEIGHTS, device)
    if state is None:
        raise FileNotFoundError(f"{directory / WEIGHTS}: missing or damaged")
    return state


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
