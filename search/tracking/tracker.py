"""What a search tells the place where people compare runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from search.records import Event


@dataclass(frozen=True, kw_only=True)
class SearchInfo:
    """What is said of a search as a whole, once."""

    uid: str
    name: str
    maximize: bool
    params: Mapping[str, object]
    tags: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


class Tracker(Protocol):
    """Takes a search's events in order; never makes the search wait or fail."""

    @property
    def position(self) -> int:
        """Bytes of the event log that were delivered; what follows must be told (again)."""
        ...

    def record(self, event: Event, position: int) -> None:
        """Take an event; `position` is the event log's length behind it."""
        ...

    def parent_run(self) -> str | None:
        """Return the id of the search's own run, waiting until it is there; None where there is none."""
        ...

    def summarize(self, metrics: Mapping[str, float], note: str, files: tuple[Path, ...]) -> None:
        """Put results on the search as a whole: figures, a text in Markdown, files."""
        ...

    def finish(self, status: str) -> str | None:
        """Deliver what is left and end the search's run as FINISHED, FAILED or KILLED; return what went wrong."""
        ...


class NullTracker:
    """Tells nobody."""

    position = 0

    def record(self, event: Event, position: int) -> None:
        """Do nothing."""

    def parent_run(self) -> str | None:
        """Return None."""
        return None

    def summarize(self, metrics: Mapping[str, float], note: str, files: tuple[Path, ...]) -> None:
        """Do nothing."""

    def finish(self, status: str) -> str | None:
        """Do nothing."""
        return None
