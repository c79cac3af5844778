"""What a study is a study of: everything that its trials' figures depend on, so that no two are mixed in one record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.errors import UsageError

Identity = Mapping[str, Any]
"""Dotted key -> number, word, truth value, None or list."""

_LONGEST = 60


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


def require_same(stored: Identity | None, now: Identity, folder: Path) -> None:
    """Raise UsageError, naming the first difference, where the study in `folder` is of something else."""
    if stored is None or stored == now:
        return
    key = next(k for k in sorted({*stored, *now}) if stored.get(k, _ABSENT) != now.get(k, _ABSENT))
    if key not in stored or key not in now:
        difference = "without it" if key in now else "with it"
    else:
        difference = f"with {_shown(stored[key])}, not {_shown(now[key])}"
    raise UsageError(f"{key}: the study in {folder} was made {difference}; choose another name=... for a new study")


_ABSENT = object()


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
