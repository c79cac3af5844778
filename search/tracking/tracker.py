"""What a search tells the place where people compare runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class SearchInfo:
    """What is said of a search as a whole, once; `began` is in seconds since 1970, None for one that begins now."""

    uid: str
    name: str
    maximize: bool
    params: Mapping[str, object]
    tags: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    began: float | None = None


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """What a stage found, for a run of its own beside the trials; times in seconds since 1970.

    `folder` holds its files. `well` says whether the stage found nothing that forbids going on.
    """

    name: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    note: str
    folder: Path
    began: float
    ended: float
    well: bool


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Results of a search as a whole: figures, a text in Markdown, files; `time` in seconds since 1970."""

    metrics: Mapping[str, float]
    note: str
    files: tuple[Path, ...]
    time: float
    stages: tuple[StageRun, ...] = ()
    looks: Mapping[int, Path] = field(default_factory=dict)
    """Folders with figures of single trials."""


class Tracker(Protocol):
    """Follows a search's event log in the background; never makes the search wait or fail."""

    def parent_run(self) -> str | None:
        """Return the id of the search's own run, waiting until it is there; None where there is none."""
        ...

    def summarize(self, summary: Summary) -> None:
        """Put results on the search as a whole."""
        ...

    def finish(self, status: str, patience: float | None = None) -> str | None:
        """Deliver what is left and end the search's run as FINISHED, FAILED or KILLED; return what went wrong.

        Where `patience` is given it takes no longer than these seconds, whatever the tracking server does.
        """
        ...


class NullTracker:
    """Tells nobody."""

    def parent_run(self) -> str | None:
        """Return None."""
        return None

    def summarize(self, summary: Summary) -> None:
        """Do nothing."""

    def finish(self, status: str, patience: float | None = None) -> str | None:
        """Do nothing."""
        return None
