"""The jobs of a Hydra application in a worker: real Hydra jobs, with a folder, logging and callbacks of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from search.config.inside import require_job_inside, require_shared
from search.errors import UsageError
from search.files import write_atomically
from search.jobs.calls import RunningTrial, Wanted, called
from search.jobs.job_configs import JobConfigs
from search.records import Decision, Outcome, Paused, Report, TrialSpec, Work

JOB = "job.json"
"""What is known of a job beside its outcome: where it ran, and what it returned."""


@dataclass(frozen=True, kw_only=True)
class Application:
    """What a worker needs of a Hydra application; packed, because its modules are found once the paths are set."""

    packed: bytes
    folder: str
    wanted: Wanted
    token: tuple[str, str] | None = None
    """A file that workers must see, and what stands in it."""

    @classmethod
    def of(
        cls,
        context: HydraContext,
        task: TaskFunction,
        master: DictConfig,
        *,
        wanted: Wanted,
        token: tuple[str, str] | None = None,
    ) -> Application:
        """Raises UsageError where something that the function uses cannot be sent to another process."""
        try:
            packed = cloudpickle.dumps((Singleton.get_state(), context, task, master))
        except Exception as error:  # whatever objects do when they are pickled
            what = " ".join(str(error).split())
            raise UsageError(
                f"the application cannot be sent to workers ({what}); make what it uses inside of the function"
            ) from error
        return cls(packed=packed, folder=str(Path.cwd()), wanted=wanted, token=token)


class JobRunner:
    """Runs job after job of one application."""

    def __init__(self, application: Application) -> None:
        if application.token is not None:
            require_shared(application.token, "hydra.sweep.dir")
        os.chdir(application.folder)
        state, self._context, self._task, master = cloudpickle.loads(application.packed)
        Singleton.set_state(state)
        setup_globals()
        self._wanted = application.wanted
        self._configs = JobConfigs(self._context.config_loader, master)

    def __call__(self, work: Work, report: Callable[[Report], Decision]) -> Paused | Outcome:
        """Run the job whose overrides are `work.config["overrides"]`."""
        assert isinstance(work, TrialSpec)
        return called(work, report, self._run, self._wanted)

    def _run(self, trial: RunningTrial) -> Any:
        config = numbered(self._configs.compose(trial.config["overrides"]), trial.number)
        job = run_job(
            task_function=self._task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self._context,
        )
        _keep(trial.directory / JOB, job)
        if isinstance(job._return_value, Exception):  # asking for it would print to stderr
            raise job._return_value
        return job.return_value


def numbered(config: DictConfig, number: int) -> DictConfig:
    """Give a job's configuration its number; raise UsageError where it would write outside of the sweep's."""
    with open_dict(config):
        config.hydra.job.id = number
        config.hydra.job.num = number
    require_job_inside(config)
    return config


def _keep(path: Path, job: JobReturn) -> None:
    returned = None if isinstance(job._return_value, Exception) else job._return_value
    try:
        text = json.dumps(returned)
    except (TypeError, ValueError):
        text = json.dumps(str(returned))
    about = {"working_dir": job.working_dir, "task_name": job.task_name, "returned": json.loads(text)}
    write_atomically(path, json.dumps(about).encode())
