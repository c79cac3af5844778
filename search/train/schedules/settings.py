"""What the settings of schedules have in common: their ranges, and how one outside is refused."""

from __future__ import annotations

from search.errors import UsageError


def require_share(key: str, value: float) -> None:
    """Raise UsageError where a setting is no fraction from 0 to 1."""
    if not 0 <= value <= 1:
        raise UsageError(f"schedule.{key}={value}: must lie in 0 to 1")


def require_positive(key: str, value: float) -> None:
    """Raise UsageError where a setting is not above 0."""
    if not 0 < value < float("inf"):
        raise UsageError(f"schedule.{key}={value}: must be above 0")


def require_one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise UsageError for a word that is not allowed."""
    if value not in allowed:
        raise UsageError(f"schedule.{key}={value}: must be one of {', '.join(allowed)}")
