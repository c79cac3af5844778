"""Folders that a setting names: they must not leave another one, and every node must see them."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from search.errors import UsageError


def require_inside(folder: Path | str, sweep_dir: Path | str, key: str = "hydra.sweep.subdir") -> Path:
    """Return where a job's folder really lies; raise UsageError unless that is `sweep_dir` or below it.

    `folder` is the whole path, as it would be opened: absolute, or relative to the working folder. Links are followed,
    also those that lead out of the sweep's folder. `key` is the setting that names the folder, for the error. Nothing
    is made on disk.
    """
    place, home = Path(folder).resolve(), Path(sweep_dir).resolve()
    if not place.is_relative_to(home):
        raise UsageError(f"{key}={str(folder)!r}: leads to {str(place)!r}; must stay inside {str(home)!r}")
    return place


def require_job_inside(job: DictConfig) -> None:
    """Raise UsageError where a job of a multirun would write outside of the sweep's folder.

    `job` is its whole configuration; the settings are read as `hydra.core.utils.run_job` does.
    """
    with _current(job):
        home = str(OmegaConf.select(job, "hydra.sweep.dir"))
        folder = require_inside(Path(home, str(OmegaConf.select(job, "hydra.sweep.subdir"))), home)
        beside = OmegaConf.select(job, "hydra.output_subdir")
        if beside is not None:
            require_inside(folder / str(beside), folder, key="hydra.output_subdir")


@contextlib.contextmanager
def _current(job: DictConfig) -> Iterator[None]:
    """Let the resolver `hydra:` look into this configuration: `${hydra:job.num}` may name a folder."""
    hydra = HydraConfig.instance()
    around = hydra.cfg
    hydra.cfg = job  # type: ignore[assignment] # as Hydra has it, too
    try:
        yield
    finally:
        hydra.cfg = around


def require_shared(token: tuple[str, str], key: str = "output_dir") -> None:
    """Raise UsageError where this node does not see the folder that the driver writes to; `key` names it."""
    path, written = token
    try:
        seen = Path(path).read_text()
    except OSError:
        seen = ""
    if seen != written:
        folder = Path(path).parent
        raise UsageError(f"{key}={folder}: node {platform.node()} does not see it; it must be shared by all nodes")
