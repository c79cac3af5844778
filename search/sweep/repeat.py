"""Trainings outside the record of trials: what ended is told by their folders, so that nothing is trained twice."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from search.layout import CONFIG
from search.records import Outcome, TrialSpec, TrialState
from search.sweep.journal import outcome_on_disk


def run_missing(specs: Sequence[TrialSpec], run: Callable[[list[TrialSpec]], list[Outcome]]) -> list[Outcome]:
    """Return how each training ended; `run` does, numbered from 0, those that have not ended well before.

    A folder where something else was trained is emptied first; what was begun there as it is now goes on.
    """
    found = {i: outcome for i, spec in enumerate(specs) if (outcome := completed(spec)) is not None}
    missing = [i for i in range(len(specs)) if i not in found]
    for i in missing:
        if not _is_as_begun(specs[i]):
            shutil.rmtree(specs[i].directory, ignore_errors=True)
    ended = run([dataclasses.replace(specs[i], number=n) for n, i in enumerate(missing)]) if missing else []
    found |= dict(zip(missing, ended, strict=True))
    return [found[i] for i in range(len(specs))]


def completed(spec: TrialSpec) -> Outcome | None:
    """Return how a training ended that is in its folder as it is specified now; None where none ended well."""
    outcome = outcome_on_disk(Path(spec.directory)) if _is_as_begun(spec) else None
    return outcome if outcome is not None and outcome.state is TrialState.COMPLETE else None


def _is_as_begun(spec: TrialSpec) -> bool:
    """Compare with what stands in the folder, as data: a stored configuration is never called."""
    try:
        begun = json.loads((Path(spec.directory) / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    return bool(_anywhere(begun) == _anywhere(json.loads(json.dumps(spec.config))))


def _anywhere(config: Any) -> Any:
    """Return a configuration in which weights of a trial are the same wherever the study's folder lies."""
    started = config.get("pretrained") if isinstance(config, dict) else None
    if not isinstance(started, dict) or not isinstance(started.get("weights"), str):
        return config
    return {**config, "pretrained": {**started, "weights": Path(started["weights"]).parts[-3:]}}
