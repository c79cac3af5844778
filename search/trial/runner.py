"""One piece of work after the other, each to its last word, whatever happens."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, overload, runtime_checkable

import torch

from search.config.inside import require_shared
from search.files import write_atomically
from search.layout import CHECKPOINT, OUTCOME
from search.memory import peak_memory, reset_peak_memory
from search.records import (
    AverageSpec,
    CheckSpec,
    CohortSpec,
    Decision,
    FailureKind,
    LookSpec,
    Measured,
    MeasureSpec,
    Outcome,
    Paused,
    Piece,
    PredictSpec,
    Report,
    TrialSpec,
    TrialState,
    Work,
    event_to_json,
)
from search.train.batches import BatchesOf
from search.train.data.arrays import Dataset
from search.train.equipment import Equipment
from search.train.estimator import Estimator
from search.train.steps import NonFiniteError
from search.trial.cohort import Answer, Cohort, Last
from search.trial.failing import failed_with
from search.trial.folder import load_model
from search.trial.measure import measured
from search.trial.members import average, predictions
from search.trial.place import Place
from search.trial.training import TrialRun


class Checks(Protocol):
    """What looks: at data and setups before a search, at trials after it."""

    def __call__(self, spec: CheckSpec) -> None:
        """Do the check, and write down what was found."""
        ...

    def look(self, directory: Path, model: Estimator | None, micro_batches: int = 1) -> None:
        """Draw what can be seen of the trial in `directory`; `model` has its best weights, None where they are gone."""
        ...


@runtime_checkable
class Talk(Protocol):
    """The way to the driver."""

    def __call__(self, report: Report) -> Decision:
        """Tell a trial's report."""
        ...

    def exchange(self, words: tuple[Report | Last, ...]) -> Answer:
        """Tell at once what the trials of a cohort have to say."""
        ...


MakeChecker = Callable[[Dataset, torch.device, BatchesOf], Checks]


class Runner:
    """Runs one piece of work after the other; the data stays on the device between them."""

    def __init__(self, equipment: Equipment, make_checker: MakeChecker | None = None) -> None:
        """`make_checker` gives what does checks, which are no business of a trial's."""
        if equipment.token is not None:
            require_shared(equipment.token)
        self._place = Place(equipment.dataset, equipment.device)
        self._make_checker = make_checker
        self._check: Checks | None = None
        torch.set_num_threads(equipment.threads)
        if self._on_gpu and equipment.gpu_share < 1:
            torch.cuda.set_per_process_memory_fraction(equipment.gpu_share, self._place.device)

    @overload
    def __call__(self, work: Piece, talk: Callable[[Report], Decision]) -> Last: ...

    @overload
    def __call__(self, work: Work, talk: Callable[[Report], Decision]) -> Last | Measured | tuple[Last, ...]: ...

    def __call__(self, work: Work, talk: Callable[[Report], Decision]) -> Last | Measured | tuple[Last, ...]:
        """Do the work; failures become the Outcome's, with their kind."""
        started = time.time()
        if not isinstance(work, CheckSpec):
            self._check = None  # it holds on to networks
        self._begin_memory()
        if isinstance(work, CohortSpec):
            assert isinstance(talk, Talk)
            return Cohort(self._place, self._closed)(work, talk.exchange)
        if isinstance(work, MeasureSpec):
            return measured(self._place, work)
        try:
            if isinstance(work, TrialSpec):
                return self._closed(work, self._train(work, talk))
            return self._with_memory(self._without_training(work))
        except Exception as error:  # noqa: BLE001 - user code may raise anything; the search goes on
            outcome = failed_with(work.number, error, time.time() - started)
            return self._closed(work, outcome) if isinstance(work, TrialSpec) else self._with_memory(outcome)

    @property
    def _on_gpu(self) -> bool:
        return self._place.device.type == "cuda"

    def _begin_memory(self) -> None:
        reset_peak_memory()
        if self._on_gpu:
            gc.collect()  # an earlier failure's frames hold on to its tensors
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._place.device)

    def _with_memory(self, outcome: Outcome) -> Outcome:
        peak = {"host": peak_memory()}
        if self._on_gpu:
            peak["device"] = torch.cuda.max_memory_allocated(self._place.device)
        return dataclasses.replace(outcome, peak_memory=peak)

    def _closed(self, spec: TrialSpec, last: Last) -> Last:
        """Write a trial's Outcome down, before anybody hears of it."""
        if isinstance(last, Paused):
            return dataclasses.replace(last, so_far=self._with_memory(last.so_far))
        last = self._with_memory(last)
        if last.failure is None or last.failure.kind is not FailureKind.DISK_FULL:
            directory = Path(spec.directory)  # a trial without an outcome is taken up again
            directory.mkdir(parents=True, exist_ok=True)
            write_atomically(directory / OUTCOME, event_to_json(last).encode())
            if last.failure is None:  # not before the outcome is there; a failed one may be tried again from it
                (directory / CHECKPOINT).unlink(missing_ok=True)
        return last

    def _train(self, spec: TrialSpec, report: Callable[[Report], Decision]) -> Last:
        started = time.perf_counter()
        run = TrialRun(self._place, spec)
        try:
            while not run.training.ended:
                run.told(report(run.report(run.training.run_epoch())))
        except NonFiniteError as error:
            run.seconds = time.perf_counter() - started
            return run.failed(error)
        run.seconds = time.perf_counter() - started
        return run.last_word()

    def _without_training(self, work: PredictSpec | AverageSpec | CheckSpec | LookSpec) -> Outcome:
        started = time.time()
        if isinstance(work, PredictSpec):
            predictions(self._place, work)
        elif isinstance(work, AverageSpec):
            average(self._place, work)
        else:
            self._look(work)
        return _done(work.number, started)

    def _look(self, spec: CheckSpec | LookSpec) -> None:
        if self._check is None:
            assert self._make_checker is not None
            self._check = self._make_checker(self._place.dataset, self._place.device, self._place.batches)
        if isinstance(spec, CheckSpec):
            self._check(spec)
        else:
            self._check.look(Path(spec.directory), self._left_of(spec), spec.micro_batches)

    def _left_of(self, spec: LookSpec) -> Estimator | None:
        """Return a trial's network with its best weights; None where there are none."""
        with contextlib.suppress(FileNotFoundError):
            return load_model(Path(spec.directory), spec.config, self._place.dataset)
        return None


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
