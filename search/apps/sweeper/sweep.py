"""Runs a sweep: study, driver, workers and trackers for the jobs of a Hydra application."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from search.apps.exits import INTERRUPTED
from search.apps.interrupts import asked_on_signals, own_signals
from search.apps.sweeper.definition import Definition
from search.apps.sweeper.results import RESULTS, JobReturns, write_results
from search.apps.sweeper.settings import Settings
from search.errors import GaveUpError, NoRoomError, UsageError
from search.jobs.application import Application
from search.jobs.calls import Wanted
from search.keyed import keyed_int
from search.records import Event, FailureKind, Outcome, Params, TrialSpec, TrialState
from search.reporting.progress import ProgressDisplay, SteadyConsole
from search.sweep import pruners, samplers
from search.sweep.copy import StorageCopy
from search.sweep.driver import Budget, Driver
from search.sweep.executor import Executor
from search.sweep.failures import FailurePolicy, Failures
from search.sweep.history import History
from search.sweep.journal import Journal, holds_study, read_attributes, set_aside, trial_folder
from search.sweep.study import Progress, Study
from search.tracking.outbox import MlflowTracker, delivered
from search.tracking.projection import Projection, prepare_mlflow, store_uri
from search.tracking.tracker import NullTracker, SearchInfo, Tracker

FOLDER = "study"
"""Beside the jobs' folders: the record of the sweep."""
_PROGRAM = "program"
"""Attribute of a complete sweep: the program that ran it."""
_NAME = "name"
"""Attribute of a sweep that was told to others: the name by which they know it."""
_MANY = sys.maxsize
"""Reports that a job makes at most, where nobody said."""
_PAUSING = 0.6
"""Share of the grace after an interruption in which jobs may pause; the rest is for leaving."""
_DELIVERING = 0.2
_WINDOW, _SHARE = 10, 0.9
_RETRIES: Mapping[FailureKind, int | None] = {
    **dict.fromkeys(FailureKind, 0),
    FailureKind.HANG: 1,
    FailureKind.LOST_WORKER: 3,
    FailureKind.PREEMPTED: None,
}
_KEYS = {
    "choose another name=...": "choose another hydra.sweep.dir=...",
    "or resume=extend": "or hydra.sweeper.resume=extend",
    "output_dir=": "hydra.sweep.dir=",
    "sampler=grid: ": "hydra.sweeper.sampler=grid: ",
    "give it choices=[...] or a step": "name its values, e.g. choice(0.1,0.2) or range(0,1,0.1)",
    "storage=": "hydra.sweeper.storage=",
    "tracking.uri=": "hydra.sweeper.tracking_uri=",
    "cluster.address=": "hydra.sweeper.address=",
    "cluster=local: ": "hydra.sweeper.address=null: ",
    "cluster: ": "hydra.sweeper: ",
}

Workers = Callable[[Settings, Application], AbstractContextManager[Executor]]
"""Hires workers for an application's jobs."""


@contextlib.contextmanager
def ray_workers(settings: Settings, application: Application) -> Iterator[Executor]:
    """Hire them on Ray."""
    from search.sweep.ray_executor import RayExecutor, Resources

    resources = Resources(
        address=settings.address,
        cpus=None,
        gpus=None,
        workers=settings.n_jobs,
        cpus_per_trial=settings.cpus_per_trial,
        gpus_per_trial=settings.gpus_per_trial,
        memory_per_trial=settings.memory_per_trial,
    )
    with RayExecutor("search.jobs.application:JobRunner", resources) as executor:
        executor.equip(application)
        yield executor


def sweep(
    given: Mapping[str, Any],
    context: HydraContext,
    task: TaskFunction,
    master: DictConfig,
    arguments: Sequence[str],
    workers: Workers = ray_workers,
) -> list[Sequence[JobReturn]] | None:
    """Run a sweep; return its jobs' results in one list, by number, where the sampler is grid; else None.

    `given` are the settings, `master` is the multirun's configuration, `arguments` the command line's overrides.
    Raises CompactHydraException, which Hydra shows in one line, for what cannot work and for jobs that failed.
    """
    try:
        with own_signals():
            return _Sweep(Settings.of(given), context, task, master, arguments, workers).run()
    except (UsageError, GaveUpError, NoRoomError) as error:
        raise CompactHydraException(_in_the_sweepers_words(str(error))) from error
    except KeyboardInterrupt as interrupted:
        print("interrupted; the same command with the same hydra.sweep.dir goes on", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from interrupted


def _in_the_sweepers_words(message: str) -> str:
    """Return an error of the engine's with the keys as who sweeps an application writes them."""
    for engines, sweepers in _KEYS.items():
        message = message.replace(engines, sweepers)
    return message


class _Sweep:
    def __init__(
        self,
        settings: Settings,
        context: HydraContext,
        task: TaskFunction,
        master: DictConfig,
        arguments: Sequence[str],
        workers: Workers,
    ) -> None:
        self._settings, self._context, self._task, self._master = settings, context, task, master
        self._workers = workers
        self._definition = Definition(settings, context, master, arguments)
        self._jobs = Path(str(master.hydra.sweep.dir)).absolute()
        self._folder = self._jobs / FOLDER
        wanted = settings.tracking_uri
        self._tracking_uri = None if wanted is None else store_uri(None if wanted == "sqlite" else wanted, self._jobs)
        self._console = SteadyConsole(soft_wrap=True)

    def run(self) -> list[Sequence[JobReturn]] | None:
        self._check_resume()
        if self._is_of_another_program():
            kept = set_aside(self._folder)
            self._console.print(f"the program changed since this sweep was complete: it begins anew; {kept} is kept")
        with contextlib.closing(Journal(self._folder, maximize=self._settings.maximize)) as journal:
            study = self._study(journal)
            OmegaConf.save(self._master, self._jobs / "multirun.yaml")
            driver = self._driver(study)
            if driver.remaining():
                self._run_jobs(study, driver)
                journal.set_attribute(_PROGRAM, self._program)
            else:
                self._deliver(study)
            self._tell(study)
            results = JobReturns(study, self._definition.job_config)
            self._require_success(study, driver, results)
            return [results] if self._settings.enumerates else None

    def _check_resume(self) -> None:
        there, resume = holds_study(self._folder), self._settings.resume
        if resume == "never" and there:
            raise UsageError(f"hydra.sweeper.resume=never: {self._jobs} holds a sweep; choose another hydra.sweep.dir")
        if resume == "must" and not there:
            raise UsageError(
                f"hydra.sweeper.resume=must: {self._jobs} holds no sweep; name it with hydra.sweep.dir=..."
            )

    def _is_of_another_program(self) -> bool:
        """Tell whether the record is of a complete grid of jobs that another version of the program ran.

        Who changes the program and names every job again wants them run, as Hydra's own sweeper would.
        """
        stored = read_attributes(self._folder).get(_PROGRAM)
        return self._settings.enumerates and self._settings.resume == "auto" and stored not in (None, self._program)

    @cached_property
    def _program(self) -> str:
        """A digest of the file that the function stands in."""
        file = inspect.getsourcefile(inspect.unwrap(self._task)) if inspect.isfunction(self._task) else None
        return "" if file is None else hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()

    def _study(self, journal: Journal) -> Study:
        settings = self._settings
        need_history = settings.sampler in samplers.NEED_HISTORY or settings.pruner in pruners.NEED_HISTORY
        return Study(
            journal,
            self._definition.space,
            self._definition.identity,
            maximize=settings.maximize[0],
            history=History(maximize=settings.maximize) if need_history else None,
            extend=settings.resume == "extend",
        )

    def _driver(self, study: Study) -> Driver:
        settings, space = self._settings, self._definition.space
        trials, steps = settings.trials, settings.steps or _MANY
        return Driver(
            study=study,
            make_sampler=lambda taken: samplers.make(settings.sampler, space, settings.seed, taken, trials),
            pruner=pruners.make(
                settings.pruner_settings(), most_steps=steps, history=study.history, maximize=study.maximize
            ),
            budget=Budget(
                trials=trials,
                seconds=None if settings.hours is None else settings.hours * 3600,
                patience=settings.patience,
            ),
            failures=Failures(
                FailurePolicy(
                    retries=_RETRIES,
                    hang_seconds=settings.hang_seconds,
                    timeout_seconds=settings.timeout_seconds,
                    window=sys.maxsize if settings.enumerates else _WINDOW,
                    share=_SHARE,
                )
            ),
            first=[],
            make_spec=self._spec,
            planned_steps=lambda _params: steps,
            shown=space.shown,
            clock=time.time,
            stopwatch=time.monotonic,
        )

    def _spec(self, number: int, params: Params) -> TrialSpec:
        return TrialSpec(
            number=number,
            params=params,
            config={"overrides": self._definition.sweep.overrides(params)},
            seed=keyed_int(self._settings.seed, number, "trial"),
            directory=str(trial_folder(self._folder, number)),
        )

    def _run_jobs(self, study: Study, driver: Driver) -> None:
        copy = self._storage_copy(study)
        application = self._application()
        self._console.print("starting the workers ...", style="dim")
        with self._workers(self._settings, application) as executor, self._tracked(study.journal) as status:
            self._console.print(
                f"sweeping {len(self._definition.space.dimensions)} dimensions with {executor.num_slots} workers; "
                f"the jobs are in {self._jobs}",
                highlight=False,
            )
            display = ProgressDisplay(self._console, driver.total)
            driver.watchers += [display, _FailureRate(self._settings.max_failure_rate, driver), *filter(None, [copy])]

            def leave() -> None:
                driver.interrupt(_PAUSING * self._settings.grace)
                self._console.print("interrupted: once more to leave at once", style="yellow")

            with display, asked_on_signals(leave):
                driver.run(executor)
            if driver.interrupted:
                raise KeyboardInterrupt
            if driver.no_room is not None:
                raise NoRoomError(f"{driver.no_room}; the same command goes on once there is room")
            status.append("FINISHED" if driver.broken is None else "FAILED")
        self._finish_copy(copy)

    def _deliver(self, study: Study) -> None:
        """Tell storage and MLflow what they missed of a complete sweep."""
        self._finish_copy(self._storage_copy(study))
        if self._tracking_uri is None:
            return
        told = delivered(self._folder, self._tracking_uri)
        if told is None or told.position != study.journal.size() or not told.ended:
            with self._tracked(study.journal) as status:
                status.append("FINISHED")

    def _finish_copy(self, copy: StorageCopy | None) -> None:
        if copy is not None and (problem := copy.finish()):
            self._console.print(problem, style="red", markup=False)

    def _application(self) -> Application:
        settings = self._settings
        wanted = Wanted(objectives=len(settings.direction), metric=settings.metric, optional=settings.enumerates)
        return Application.of(self._context, self._task, self._master, wanted)

    def _storage_copy(self, study: Study) -> StorageCopy | None:
        settings = self._settings
        if settings.storage is None:
            return None
        return StorageCopy(settings.storage, self._name(study.journal), settings.maximize, study)

    def _name(self, journal: Journal) -> str:
        """Return the study's name when it began: by default it has the time in it."""
        if _NAME not in journal.attributes:
            journal.set_attribute(_NAME, self._settings.study_name)
        return str(journal.attributes[_NAME])

    @contextlib.contextmanager
    def _tracked(self, journal: Journal) -> Iterator[list[str]]:
        """Follow the sweep in MLflow, if wanted; the last entry of what is yielded says how it ended."""
        status = ["KILLED"]
        tracker = self._tracker(journal)
        try:
            yield status
        finally:
            patience = _DELIVERING * self._settings.grace if status[-1] == "KILLED" else None
            if problem := tracker.finish(status[-1], patience):
                self._console.print(f"not everything stands in MLflow: {problem}", style="red", markup=False)

    def _tracker(self, journal: Journal) -> Tracker:
        settings, uri = self._settings, self._tracking_uri
        if uri is None:
            return NullTracker()
        prepare_mlflow()
        first = next((event for event, _ in journal.events()), None)
        info = SearchInfo(
            uid=journal.uid,
            name=self._name(journal),
            maximize=settings.maximize[0],
            params={"sampler": settings.sampler, "pruner": settings.pruner, "seed": settings.seed},
            files=(self._jobs / "multirun.yaml",),
            began=None if first is None else first.time,
        )
        return MlflowTracker(
            lambda: Projection(uri, settings.experiment, self._jobs, info), journal.events, uri, self._folder
        )

    def _tell(self, study: Study) -> None:
        results = write_results(self._jobs / RESULTS, study, objectives=len(self._settings.direction))
        counted = ", ".join(f"{count} {state}" for state, count in results["trials"].items())
        self._console.print(f"{study.progress.finished} jobs ({counted}) in {self._jobs}", highlight=False)
        if "best_value" in results:
            best = " ".join(self._definition.sweep.overrides(results["best_params"]))
            self._console.print(
                f"best: {results['best_value']:.6g} by job {results['best_trial']}: {best}", markup=False
            )
        for solution in results.get("solutions", []):
            best = " ".join(self._definition.sweep.overrides(solution["params"]))
            values = ", ".join(f"{value:.6g}" for value in solution["values"])
            self._console.print(f"not beaten: {values} by job {solution['trial']}: {best}", markup=False)

    def _require_success(self, study: Study, driver: Driver, results: Sequence[JobReturn]) -> None:
        failed = sorted(n for n, o in study.outcomes.items() if o.failure is not None)
        if not failed:
            return
        failure = study.outcomes[failed[0]].failure
        assert failure is not None
        all_failed = len(failed) == len(study.outcomes)
        if driver.broken is None and not all_failed and not self._every_job_counts():
            return
        print(f"Error executing job with overrides: {results[failed[0]].overrides}", file=sys.stderr)
        print(failure.traceback, file=sys.stderr)
        why = driver.broken or f"{len(failed)} of {len(study.outcomes)} jobs failed"
        raise GaveUpError(f"{why}; the first was job {failed[0]}: {failure.message}")

    def _every_job_counts(self) -> bool:
        return self._settings.enumerates and self._settings.max_failure_rate is None


class _FailureRate:
    """Watches a sweep and stops it as soon as more jobs failed than may."""

    def __init__(self, rate: float | None, driver: Driver) -> None:
        self._rate, self._driver = rate, driver

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        """Count the failed."""
        failed, total = progress.states[TrialState.FAILED], self._driver.total
        if self._rate is not None and isinstance(event, Outcome) and failed > self._rate * total:
            self._driver.broken = f"{failed} jobs failed, more than max_failure_rate={self._rate:g} of {total} allows"
