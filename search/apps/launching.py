"""Holds the jobs of a multirun to its folder, whichever sweeper asks for them and whichever launcher runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from search.config.inside import require_job_inside

_instantiate = Plugins.instantiate_launcher


def guard_launchers() -> None:
    """Have every launcher refuse, before its first job, a batch with a job whose folder leaves the sweep's."""
    # Hydra has no place for such a check: a job's folder is made before any callback or the job itself is called, by
    # some launchers in other processes. All of them are made here.
    Plugins.instantiate_launcher = _guarded  # type: ignore[assignment, method-assign]


def _guarded(plugins: Plugins, hydra_context: HydraContext, task_function: Any, config: DictConfig) -> Launcher:
    launcher = _instantiate(plugins, hydra_context, task_function, config)
    launch = launcher.launch

    def checked(job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            job = hydra_context.config_loader.load_sweep_config(config, list(overrides))
            with open_dict(job):
                job.hydra.job.id = job.hydra.job.num = number
            require_job_inside(job)
        return launch(job_overrides, initial_job_idx=initial_job_idx)

    launcher.launch = checked  # type: ignore[method-assign]
    return launcher
