"""Runs a sweep: study, driver, workers and trackers for the jobs of a Hydra application."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from search.apps.driving import drive
from search.apps.exits import INTERRUPTED
from search.apps.interrupts import own_signals
from search.apps.sweeper.again import PROGRAM, failed_jobs, forget
from search.apps.sweeper.definition import Definition
from search.apps.sweeper.followers import Followers
from search.apps.sweeper.results import RESULTS, JobReturns, best_lines, write_results
from search.apps.sweeper.settings import Settings
from search.errors import GaveUpError, NoRoomError, StrandedError, UsageError
from search.jobs.application import Application
from search.jobs.calls import Wanted
from search.keyed import keyed_int
from search.records import Event, FailureKind, Outcome, Params, TrialSpec, TrialState
from search.reporting.progress import SteadyConsole
from search.sweep import pruners, samplers
from search.sweep.driver import Budget, Driver
from search.sweep.executor import Executor
from search.sweep.failures import FailurePolicy, Failures
from search.sweep.history import History
from search.sweep.identity import described
from search.sweep.journal import Journal, holds_study, set_aside, trial_folder
from search.sweep.study import IDENTITY, Progress, Study

FOLDER = "study"
"""Beside the jobs' folders: the record of the sweep."""
_MANY = sys.maxsize
"""Reports that a job makes at most, where nobody said."""
_WINDOW, _SHARE = 10, 0.9
_RETRIES: Mapping[FailureKind, int | None] = {
    **dict.fromkeys(FailureKind, 0),
    FailureKind.HANG: 1,
    FailureKind.LOST_WORKER: 3,
    FailureKind.PREEMPTED: None,
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
        recycle_trials=settings.recycle_trials,
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
    except (UsageError, GaveUpError) as error:
        raise CompactHydraException(str(error)) from error
    except NoRoomError as error:
        raise CompactHydraException(f"{error}; the same command goes on once there is room") from error
    except KeyboardInterrupt as interrupted:
        print(f"interrupted; the same command with hydra.sweep.dir={master.hydra.sweep.dir} goes on", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from interrupted


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
        self._console = SteadyConsole(soft_wrap=True)
        self._followers = Followers(settings, self._jobs, self._folder, self._console)

    def run(self) -> list[Sequence[JobReturn]] | None:
        self._check_resume()
        with contextlib.closing(self._journal()) as journal:
            study = self._study(journal)
            OmegaConf.save(self._master, self._jobs / "multirun.yaml")
            driver = self._driver(study)
            if driver.remaining():
                if journal.attributes.get(PROGRAM) is not None:
                    journal.set_attribute(PROGRAM, None)  # jobs are added: it is not complete any more
                self._run_jobs(study, driver)
                if not driver.remaining():
                    journal.set_attribute(PROGRAM, self._program)
            else:
                self._console.print("complete already: no job is run", style="dim")
                self._followers.catch_up(study)
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

    def _journal(self) -> Journal:
        """Open the record; one that the same command is to replace is set aside while nobody else can open it."""
        with contextlib.ExitStack() as held:
            journal = held.enter_context(contextlib.closing(self._opened()))
            replaced = self._replaced(journal)
            if replaced is None:
                held.pop_all()
                return journal
            self._console.print(replaced, highlight=False)
            return self._opened()

    def _opened(self) -> Journal:
        return Journal(self._folder, maximize=self._settings.maximize)

    def _replaced(self, journal: Journal) -> str | None:
        """Set the record aside where that is meant, and return why."""
        if self._is_of_another_program(journal):
            kept = set_aside(self._folder)
            return (
                "the program changed since this sweep was complete: it begins anew, in the jobs' folders; "
                f"the record of before is kept in {kept}"
            )
        settings = self._settings
        if settings.enumerates and settings.resume != "extend" and journal.attributes.get(PROGRAM) is not None:
            self._require_same(journal)
            if failed := failed_jobs(journal):
                kept = forget(journal, failed, settings.maximize)
                return f"{len(failed)} jobs failed and run again; the record of before is kept in {kept}"
        return None

    def _is_of_another_program(self, journal: Journal) -> bool:
        """Tell whether the record is of a complete grid of jobs that another version of the program ran.

        Who changes the program and names every job again wants them run, as Hydra's own sweeper would.
        """
        stored = journal.attributes.get(PROGRAM)
        return self._settings.enumerates and self._settings.resume == "auto" and stored not in (None, self._program)

    @cached_property
    def _program(self) -> str:
        """A digest of the file that the function stands in."""
        file = inspect.getsourcefile(inspect.unwrap(self._task)) if inspect.isfunction(self._task) else None
        return "" if file is None else hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()

    def _study(self, journal: Journal) -> Study:
        settings = self._settings
        self._require_same(journal)
        need_history = settings.sampler in samplers.NEED_HISTORY or settings.pruner in pruners.NEED_HISTORY
        return Study(
            journal,
            self._definition.space,
            self._definition.identity,
            maximize=settings.maximize[0],
            history=History(maximize=settings.maximize) if need_history else None,
            extend=settings.resume == "extend",
        )

    def _require_same(self, journal: Journal) -> None:
        """Refuse another sweep's folder in the words of who sweeps; the study would, in the engine's."""
        stored = journal.attributes.get(IDENTITY)
        if not journal.num_trials or stored is None or self._settings.resume == "extend":
            return
        if different := described(stored, self._definition.identity):
            raise UsageError(
                f"{different}: the sweep in {self._jobs} is another one; choose another hydra.sweep.dir=..., "
                "or hydra.sweeper.resume=extend to go on in it"
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
        if not self._definition.space.has(params):
            raise StrandedError(f"job {number}: began with values that are no longer swept")
        return TrialSpec(
            number=number,
            params=params,
            config={"overrides": self._definition.sweep.overrides(params)},
            seed=keyed_int(self._settings.seed, number, "trial"),
            directory=str(trial_folder(self._folder, number)),
        )

    def _run_jobs(self, study: Study, driver: Driver) -> None:
        copy = self._followers.storage(study)
        application = self._application()
        self._console.print("starting the workers ...", style="dim")
        followed = self._followers.tracked(study.journal)
        with self._workers(self._settings, application) as executor, followed as status:
            self._begin(executor.num_slots)
            driver.watchers += [_FailureRate(self._settings.max_failure_rate, driver), *filter(None, [copy])]
            try:
                drive(driver, executor, self._console, self._settings.grace)
            except KeyboardInterrupt:
                self._tell(study)
                raise
            status.append("FINISHED" if driver.broken is None else "FAILED")
        self._followers.finish(copy)

    def _begin(self, workers: int) -> None:
        names = {dimension.name for dimension in self._definition.space.dimensions}  # one for each of some options
        self._console.print(
            f"sweeping {len(names)} dimensions with {workers} workers; the jobs are in {self._jobs}, "
            f"what they print in {FOLDER}/trials",
            highlight=False,
        )

    def _application(self) -> Application:
        settings = self._settings
        wanted = Wanted(objectives=len(settings.direction), metric=settings.metric, optional=settings.enumerates)
        token = self._folder / "token"
        token.write_text(uuid.uuid4().hex)
        return Application.of(
            self._context, self._task, self._master, wanted=wanted, token=(str(token), token.read_text())
        )

    def _tell(self, study: Study) -> None:
        results = write_results(self._jobs / RESULTS, study, self._settings.maximize)
        counted = ", ".join(f"{count} {state}" for state, count in results["trials"].items())
        self._console.print(f"{study.progress.finished} jobs ({counted}) in {self._jobs}", highlight=False)
        for line in best_lines(results):
            self._console.print(line, markup=False)

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
