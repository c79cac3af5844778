"""Hyperparameter search for PyTorch that follows the recipe of good practitioners."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.current import current_trial as current_trial
    from search.current import report as report

__version__ = "0.1.0"

_WHERE = {"current_trial": "search.current", "report": "search.current"}
"""Public names and the modules that bring them, when they are first used: `import search` costs nothing."""

__all__ = ["current_trial", "report"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
