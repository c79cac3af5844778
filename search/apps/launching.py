"""Holds the jobs of a multirun to its folder, whichever sweeper asks for them and whichever launcher runs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from search.config.inside import require_inside

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
            _check(job)
        return launch(job_overrides, initial_job_idx=initial_job_idx)

    launcher.launch = checked  # type: ignore[method-assign]
    return launcher


def _check(job: DictConfig) -> None:
    """Raise UsageError where a job would write outside; the settings are read as `hydra.core.utils.run_job` does."""
    hydra = HydraConfig.instance()
    around = hydra.cfg
    hydra.set_config(job)  # `${hydra:...}` in the settings means this job
    try:
        home = str(OmegaConf.select(job, "hydra.sweep.dir"))
        folder = require_inside(Path(home, str(OmegaConf.select(job, "hydra.sweep.subdir"))), home)
        beside = OmegaConf.select(job, "hydra.output_subdir")
        if beside is not None:
            require_inside(folder / str(beside), folder, key="hydra.output_subdir")
    finally:
        hydra.cfg = around
