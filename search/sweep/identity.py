"""What a study is a study of: everything that its trials' figures depend on, so that no two are mixed in one record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.errors import UsageError

Identity = Mapping[str, Any]
"""Dotted key -> number, word, truth value, None or list."""

_LONGEST = 60
_MOST_SHOWN = 3


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a nested configuration by their dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            leaves |= flatten(value, dotted)
        else:
            leaves[dotted] = value
    return leaves


def differences(stored: Identity, now: Identity) -> list[str]:
    """Return the keys in which the two differ."""
    return [k for k in sorted({*stored, *now}) if stored.get(k, _ABSENT) != now.get(k, _ABSENT)]


def require_same(stored: Identity | None, now: Identity, folder: Path) -> None:
    """Raise UsageError, naming the first differences, where the study in `folder` is of something else."""
    different = "" if stored is None else described(stored, now)
    if different:
        raise UsageError(
            f"{different}: the study in {folder} is another one; choose another name=..., or resume=extend to go on "
            "in it"
        )


def described(stored: Identity, now: Identity) -> str:
    """Return the first differences in words; nothing where the two are the same."""
    different = differences(stored, now)
    shown = "; ".join(_difference(key, stored, now) for key in different[:_MOST_SHOWN])
    return f"{shown}; and {len(different) - _MOST_SHOWN} more" if len(different) > _MOST_SHOWN else shown


def _difference(key: str, stored: Identity, now: Identity) -> str:
    was = _shown(stored[key]) if key in stored else "absent"
    return f"{_shown(key)}: was {was}, now {_shown(now[key]) if key in now else 'absent'}"


_ABSENT = object()


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value)
    text = text if text.isprintable() else repr(text)  # it may come from a file, and is shown in one line
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
