"""Configurations that are trained over the same seeds, outside the record of trials, to be compared on validation."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search.apps.training import TrainingSession, best_trained
from search.errors import GaveUpError
from search.files import unfinished
from search.keyed import keyed_int
from search.layout import COST, DIAGNOSIS, DIAGNOSTICS, LOG, SNAPSHOTS, WEIGHTS, predictions_of
from search.records import Outcome, Report, TrialSpec
from search.reporting.progress import TrainingsDisplay
from search.sweep.batch import run_all
from search.sweep.repeat import run_missing
from search.sweep.study import Study

Configs = Mapping[str, Mapping[str, Any]]
"""What is trained, by a name that a folder can have."""


def base_of_study(session: TrainingSession, study: Study) -> tuple[str, Mapping[str, Any]]:
    """Return the best trial's name and configuration, the default's where there is none."""
    best = best_trained(session, study)
    if best is None:
        return "the default", session.spec(0, session.first[0]).config
    return f"trial {best[0]}", best[1]


def values_by_seed(
    session: TrainingSession, stage: str, configs: Configs, seeds: int, *, keep: bool = False
) -> dict[str, list[float | None]]:
    """Return the metric of each configuration by seed, None where its training failed.

    The trainings lie in the study's folder under `<stage>/<name>/<seed>`; one that ended there well is not repeated.
    With `keep` their weights and predictions stay, and snapshots are taken. Raises GaveUpError where all failed.
    """
    specs = specified(session, stage, configs, seeds, keep=keep)
    clear = _leave if keep else _clear
    outcomes = run_missing(specs, lambda missing: _run(session, stage, missing, clear))
    for spec in specs:
        clear(spec)
    failed = [(spec, outcome) for spec, outcome in zip(specs, outcomes, strict=True) if outcome.failure is not None]
    for spec, outcome in failed:
        session.console.print(f"{_title(spec)} failed: {outcome.reason}", style="red", markup=False)
    if len(failed) == len(specs):
        spec, outcome = failed[0]
        log = Path(spec.directory) / LOG
        raise GaveUpError(f"all {len(specs)} trainings failed; the first: {outcome.reason} (see {log})")
    values: dict[str, list[float | None]] = {name: [] for name in configs}
    for spec, outcome in zip(specs, outcomes, strict=True):
        values[_kind(spec)].append(None if outcome.failure else outcome.value)
    return values


def specified(session: TrainingSession, stage: str, configs: Configs, seeds: int, *, keep: bool) -> list[TrialSpec]:
    """Return all trainings, seed by seed: when one is killed, whole sets are there."""
    about_data = {k: v for k, v in session.identity.items() if k.partition(".")[0] in ("data", "split")}
    specs: list[TrialSpec] = []
    for k in range(seeds):
        seed = keyed_int(session.cfg.seed, stage, k)  # one for all: same batches, same weights where shapes agree
        for name, config in configs.items():
            # The folder is all that is known of it later, also where there is no study that knows its data.
            whole = {**config, "trained_on": {**about_data, "seed": seed}}
            spec = TrialSpec(
                number=len(specs),
                params={},
                config=whole,
                seed=seed,
                directory=str(session.folder / stage / name / str(k)),
                snapshots=keep,
            )
            specs.append(spec)
    return specs


def _kind(spec: TrialSpec) -> str:
    return Path(spec.directory).parent.name


def _title(spec: TrialSpec) -> str:
    return f"{_kind(spec)} with seed {Path(spec.directory).name}"


def _run(
    session: TrainingSession, stage: str, specs: Sequence[TrialSpec], clear: Callable[[TrialSpec], None]
) -> list[Outcome]:
    with TrainingsDisplay(session.console, stage, [_kind(spec) for spec in specs]) as display:

        def watch(said: Report | Outcome) -> None:
            display(said)
            if isinstance(said, Outcome) and said.failure is None:
                clear(specs[said.number])  # now: all together may be more than the disk takes

        return run_all(session.executor, specs, watch, session.failures())


def _leave(spec: TrialSpec) -> None:
    """Remove nothing."""


def _clear(spec: TrialSpec) -> None:
    """Remove what nobody needs of a training that ended."""
    directory = Path(spec.directory)
    for name in (COST, WEIGHTS, predictions_of("validation"), DIAGNOSTICS, DIAGNOSIS):
        path = directory / name
        path.unlink(missing_ok=True)
        unfinished(path).unlink(missing_ok=True)
    shutil.rmtree(directory / SNAPSHOTS, ignore_errors=True)
