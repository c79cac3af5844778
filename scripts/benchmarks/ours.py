"""A search as the program wires it, with work that does nothing: what the benchmarks measure."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from search.keyed import keyed_int
from search.records import Decision, Event, Outcome, Params, Paused, Report, TrialSpec, TrialState, Verdict, Work
from search.space import Space
from search.sweep import pruners, samplers
from search.sweep.driver import Budget, Driver, Watcher
from search.sweep.executor import Run
from search.sweep.failures import FailurePolicy, Failures
from search.sweep.history import History
from search.sweep.journal import Journal, trial_folder
from search.sweep.ray_executor import RayExecutor, Resources
from search.sweep.study import Progress, Study

CONFIG = {
    "optimizer": {
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "space": {
            "lr": {"low": 1e-4, "high": 1.0, "log": True},
            "momentum": {"low": 0.0, "high": 0.99},
            "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
        },
    },
    "model": {
        "width": 64,
        "depth": 2,
        "dropout": 0.0,
        "space": {
            "width": {"choices": [32, 64, 128, 256]},
            "depth": {"low": 1, "high": 4},
            "dropout": {"low": 0.0, "high": 0.5},
        },
    },
    "choose": {},
}
"""Six dimensions; the peers draw from the same."""
RUNGS = (1 / 9, 1 / 3)
MEMORY = Path("/dev/shm")


def make_noop(equipment: Any) -> Run:
    """Return the work; it needs no equipment."""
    del equipment
    return noop


def noop(work: Work, report: Callable[[Report], Decision]) -> Paused | Outcome:
    """Report `config["reports"]` times a value that depends on number and step, until told to stop."""
    assert isinstance(work, TrialSpec)
    for step in range(1, work.config["reports"] + 1):
        metrics = {"objective": value_of(work.number, step)}
        decision = report(Report(number=work.number, step=step, metrics=metrics, time=time.time()))
        if decision.verdict is not Verdict.GO_ON:
            break
    return last_word(work.number, step, decision, value_of(work.number, step), time.time())


def last_word(number: int, step: int, decision: Decision, value: float, now: float) -> Paused | Outcome:
    """Return what a trial ends with after that step and what it was told then."""
    told_to_leave = decision.verdict is not Verdict.GO_ON
    end = Outcome(
        number=number,
        state=TrialState.PRUNED if told_to_leave else TrialState.COMPLETE,
        value=value,
        best_step=step,
        steps=step,
        reason=decision.reason if told_to_leave else "all epochs done",
        seconds=0.0,
        time=now,
    )
    return Paused(number=number, step=step, so_far=end, time=now) if decision.verdict is Verdict.PAUSE else end


def value_of(number: int, step: int) -> float:
    """Return a figure in [0, 1) that rises a little with the step; spread evenly over trials."""
    return ((number * 2654435761) % 2**32) / 2**32 * (1 - 0.1 / step)


@contextlib.contextmanager
def temporary_study(*, in_memory: bool = False) -> Iterator[Path]:
    """Give a folder for a study, on a disk or (where there is one) in memory, and remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="search-bench-", dir=MEMORY if in_memory and MEMORY.is_dir() else None))
    try:
        yield folder / "study"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def searching(
    journal: Journal,
    trials: int,
    *,
    steps: int,
    config: Callable[[int, Params], Mapping[str, Any]],
    pruner: Mapping[str, Any] | None = None,
    watchers: Sequence[Watcher] = (),
    space: Space | None = None,
    planned: Callable[[Params], int] | None = None,
    first: Sequence[Params] = (),
    maximize: bool = True,
    clock: Callable[[], float] = time.time,
    **more: Any,
) -> Driver:
    """Return a driver wired as the program wires it; `config` is each trial's, `steps` what it plans at most.

    It never gives up because of failures: these are the benchmarks' own.
    """
    used_pruner = dict(pruner or {"kind": "none"})
    used_space = space or Space.of(OmegaConf.create(CONFIG))
    history = History(maximize=maximize) if used_pruner["kind"] in pruners.NEED_HISTORY else None
    study = Study(journal, used_space, {"seed": 0}, maximize=maximize, history=history)

    def make_spec(number: int, params: Params) -> TrialSpec:
        return TrialSpec(
            number=number,
            params=params,
            config=config(number, params),
            seed=keyed_int(0, number, "trial"),
            directory=str(trial_folder(journal.folder, number)),
        )

    return Driver(
        study=study,
        make_sampler=lambda taken: samplers.make("random", used_space, 0, taken, trials),
        pruner=pruners.make(used_pruner, most_steps=steps, history=history, maximize=maximize),
        budget=Budget(trials=trials),
        failures=Failures(FailurePolicy(retries={}, window=trials + 1)),
        first=first,
        make_spec=make_spec,
        planned_steps=planned or (lambda _: steps),
        shown=used_space.shown,
        clock=clock,
        stopwatch=clock,
        watchers=watchers,
        **more,
    )


def configured(space: Space, reports: int) -> Callable[[int, Params], Mapping[str, Any]]:
    """Return what gives a trial its whole configuration, as the program does."""
    return lambda _, params: {**space.configure(params), "reports": reports}


def on_ray(make_run: Callable[[Any], Run], workers: int) -> RayExecutor:
    """Return equipped workers on a Ray of our own."""
    resources = Resources(address=None, cpus=workers, gpus=0, workers=workers, cpus_per_trial=1, gpus_per_trial=0)
    executor = RayExecutor(f"{make_run.__module__}:{make_run.__qualname__}", resources)
    executor.equip(None)
    while executor.num_free < workers:
        executor.wait(0.1)
    return executor


class Ended:
    """Watches when trials end, and counts reports."""

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        self._tell = tell
        self.times: list[float] = []
        self.reports = 0

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        """Take in an event."""
        if isinstance(event, Report):
            self.reports += 1
        elif isinstance(event, Outcome):
            self.times.append(time.perf_counter())
            self._tell()
