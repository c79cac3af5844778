"""What a check is, and what it found: one object a row of the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from search.checks.bench import Bench
from search.checks.evidence import Evidence
from search.records import CheckVerdict


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a check found; becomes a `Finding` with the check's row and title."""

    verdict: CheckVerdict
    sentence: str
    advice: str = ""
    expected: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Check:
    """A row of the recipe that can be looked at.

    `look` returns what it found and raises for what the user's code does. A check may not change the bench's data.
    """

    row: str
    title: str
    look: Callable[[Bench], Found]


def skipped(reason: str) -> Found:
    """Return that a check could not be made, and why: silence is no pass."""
    return Found(verdict=CheckVerdict.SKIP, sentence=reason)
