"""Folders that a setting names and that must not leave another one."""

from __future__ import annotations

from pathlib import Path

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
