"""Hyperparameter search for PyTorch that follows the recipe of good practitioners."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.apps.notebook import inspect as inspect
    from search.apps.notebook import preflight as preflight
    from search.apps.notebook import run as run
    from search.current import Trial as Trial
    from search.current import current_trial as current_trial
    from search.current import report as report
    from search.sweep.reading import read_study as read_study
    from search.train.data.arrays import Examples as Examples

__version__ = "0.1.0"

_WHERE = {
    "Examples": "search.train.data.arrays",
    "Trial": "search.current",
    "current_trial": "search.current",
    "inspect": "search.apps.notebook",
    "preflight": "search.apps.notebook",
    "read_study": "search.sweep.reading",
    "report": "search.current",
    "run": "search.apps.notebook",
}
"""Public names and the modules that bring them, when they are first used: `import search` costs nothing."""

__all__ = ["Examples", "Trial", "current_trial", "inspect", "preflight", "read_study", "report", "run"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
