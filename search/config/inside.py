"""Folders that a setting names: they must not leave another one, and every node must see them."""

from __future__ import annotations

import platform
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


def require_shared(token: tuple[str, str]) -> None:
    """Raise UsageError where this node does not see the folder that the driver writes to."""
    path, written = token
    try:
        seen = Path(path).read_text()
    except OSError:
        seen = ""
    if seen != written:
        folder = Path(path).parent
        raise UsageError(f"output_dir={folder}: node {platform.node()} does not see it; it must be shared by all nodes")
