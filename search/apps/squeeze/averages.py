"""Members made of the mean of others' weights: of a training's snapshots, all of them or as a greedy soup."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from search.apps.squeeze.members import Members
from search.apps.training import TrainingSession
from search.layout import TAKEN
from search.post.contenders import Candidate
from search.records import AverageSpec, TrialState
from search.reporting.progress import WorkDisplay
from search.sweep.batch import run_all

FOLDER = "averages"
_NAMES = {"swa": "SWA", "soup": "greedy soup", "ema": "EMA with batch norm anew"}


def average(session: TrainingSession, members: Members, trial: str, longer: str | None) -> list[Candidate]:
    """Average what shares its first weights with the best `trial`; add what comes of it, and return it as candidates.

    `longer` is what became of the trial when it was left training. Says so where there is nothing to average.
    """
    sources = _sources(members, trial, longer)
    if "swa" not in sources:
        why = f"{trial} left no snapshots to average; squeeze.longer (trials and restarts) or schedule=sgdr makes some"
        session.console.print(f"note: no SWA: {why}", style="dim", markup=False)
    if not sources:
        return []
    shutil.rmtree(session.folder / FOLDER, ignore_errors=True)  # of other members
    specs = [
        AverageSpec(
            number=i,
            members=tuple(str(session.folder / member) for member in found),
            config=members.configs[trial],
            directory=str(session.folder / FOLDER / kind),
            greedy=kind == "soup",
            folds=session.cfg.squeeze.folds,
            seed=session.cfg.seed,
        )
        for i, (kind, found) in enumerate(sources.items())
    ]
    with WorkDisplay(session.console, "averaging weights", [_NAMES[kind] for kind in sources], 0) as display:
        outcomes = run_all(session.executor, specs, display, session.failures())
    candidates = []
    for kind, outcome in zip(sources, outcomes, strict=True):
        if outcome.state is TrialState.FAILED:
            session.console.print(f"{_NAMES[kind]} failed: {outcome.reason}", style="red", markup=False)
        else:
            candidates.append(_candidate(session, members, kind, trial))
    return candidates


def _sources(members: Members, trial: str, longer: str | None) -> Mapping[str, list[str]]:
    """Return the members of each average that there can be."""
    swa = (members.snapshots_of(longer) if longer is not None else []) or members.snapshots_of(trial)
    alike = [trial, *members.snapshots_of(trial), *([longer, *members.snapshots_of(longer)] if longer else [])]
    found: dict[str, list[str]] = {}
    if len(swa) > 1:
        found["swa"] = swa
    if len(alike) > 1:
        found["soup"] = alike
    if members.configs[trial]["trainer"].get("ema") is not None:
        found["ema"] = [trial]
    return found


def _candidate(session: TrainingSession, members: Members, kind: str, trial: str) -> Candidate:
    folder = f"{FOLDER}/{kind}"
    members.add(folder, members.configs[trial], trial)
    if kind == "soup":
        taken = json.loads((session.folder / folder / TAKEN).read_text())
        names = ", ".join(str(Path(member).relative_to(session.folder)) for member in taken)
        session.console.print(f"the greedy soup is of {names}", style="dim", markup=False)
    return Candidate(name=_NAMES[kind], weights={folder: 1.0}, validation=members.load(folder, "validation"))
