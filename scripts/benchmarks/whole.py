"""A whole search of the program in this process, timed from workers that are warm to the last word in MLflow."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from scripts.benchmarks import ours
from scripts.benchmarks.composed import configured
from scripts.benchmarks.overhead import points_in
from scripts.benchmarks.watching import progress
from search.apps.composed import composed
from search.apps.session import Place
from search.apps.training import TrainingSession
from search.config.shapes import shape_of
from search.memory import GIB
from search.records import Measured, Outcome, Params, Report
from search.sweep.disk import Disk
from search.sweep.executor import Executor
from search.sweep.journal import Journal

_PRACTICE, _COHORT = 8, 4
"""Trials of an epoch that each worker trains first, and how many of them at once where any are."""


@dataclass(frozen=True, kw_only=True)
class Searched:
    """How a search went; `measured` has model-steps a second by size, and the size chosen, for each shape."""

    wall: float
    trials: int
    epochs: int
    """Over all trials."""
    best: float
    measured: tuple[tuple[str, Mapping[str, float]], ...] = ()


def measure(words: Sequence[str], what: str, terminal: bool) -> Searched:
    """Search with these overrides; raise RuntimeError where a trial fails or a figure is missing in MLflow."""
    console = Console(stderr=True, force_terminal=terminal)
    with ours.temporary_study() as folder:
        cfg = configured([*words, f"output_dir={folder}", "name=bench"])
        journal = Journal(folder, maximize=True)
        place = Place(folder=folder, console=Console(quiet=True), choices={})
        session = TrainingSession(composed(cfg), place)
        try:
            return _timed(session, journal, what, console)
        finally:
            session.close("FINISHED")
            journal.close()


def _timed(session: TrainingSession, journal: Journal, what: str, console: Console) -> Searched:
    tracker = session.tracker(journal)
    executor = session.executor
    session.await_tracking()
    while executor.num_free < executor.num_slots:
        executor.wait(0.1)
    _practise(session, executor)
    configs: dict[int, Mapping[str, Any]] = {}

    def config(number: int, params: Params) -> Mapping[str, Any]:
        configs[number] = session.space.configure(params, session.keys)
        return configs[number]

    cfg = session.cfg
    disk = Disk(session.folder, keep=cfg.squeeze.keep, checkpoint_bytes=cfg.budget.checkpoints * GIB, maximize=True)
    with progress(console, what, cfg.budget.trials) as advance:
        driver = ours.searching(
            journal,
            cfg.budget.trials,
            steps=session.most_steps(),
            config=config,
            pruner=session.plain("pruner"),
            watchers=[disk, ours.Ended(lambda: advance(1))],
            space=session.space,
            planned=session.planned_steps,
            first=session.first,
            shape_of=lambda spec: shape_of(spec.config),
            fused=session.fused,
        )
        begin = time.perf_counter()
        driver.run(executor)
        problem = tracker.finish("FINISHED")
        wall = time.perf_counter() - begin
    if problem:
        raise RuntimeError(f"not delivered: {problem}")
    return _found(session, journal, configs, wall)


def _practise(session: TrainingSession, executor: Executor) -> None:
    """Let the workers train trials of another study: what a first trial takes longer is not the search's."""
    fused = 1 if session.fused == 1 else _COHORT

    def config(_: int, params: Params) -> Mapping[str, Any]:
        given = session.space.configure(params, session.keys)
        return {**given, "trainer": {**given["trainer"], "epochs": 1}}

    with ours.temporary_study() as folder:
        journal = Journal(folder, maximize=True)
        driver = ours.searching(
            journal,
            _PRACTICE * executor.num_slots,
            steps=1,
            config=config,
            space=session.space,
            shape_of=lambda spec: shape_of(spec.config),
            fused=fused,
        )
        driver.run(executor)
        journal.close()


def _found(
    session: TrainingSession, journal: Journal, configs: Mapping[int, Mapping[str, Any]], wall: float
) -> Searched:
    events = [event for event, _ in journal.events()]
    outcomes = [event for event in events if isinstance(event, Outcome)]
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    if failures or len(outcomes) != session.cfg.budget.trials:
        why = f": {failures[0].message}" if failures else ""
        raise RuntimeError(f"{len(outcomes)} trials ended, {len(failures)} of them by failing{why}")
    epochs = sum(isinstance(event, Report) for event in events)
    if (points := points_in(session.folder / "mlflow.db")) != epochs:
        raise RuntimeError(f"{points} of {epochs} points stand in MLflow: the times would not compare")
    return Searched(
        wall=wall,
        trials=len(outcomes),
        epochs=epochs,
        best=max(outcome.value for outcome in outcomes if outcome.value is not None),
        measured=tuple(
            (shape_in_words(configs[event.number]["model"]), figures_of(event))
            for event in events
            if isinstance(event, Measured)
        ),
    )


def shape_in_words(model: Mapping[str, Any]) -> str:
    """Return a network's kind and sizes."""
    sizes = (f"{key}={value}" for key, value in model.items() if isinstance(value, int))
    return " ".join((str(model["_target_"]).rpartition(".")[2], *sizes))


def figures_of(event: Measured) -> dict[str, float]:
    """Return what was measured of a shape."""
    rates = {"alone" if size == "1" else f"{size} at once": rate for size, rate in event.rates.items()}
    return {"size": event.size, "seconds": event.seconds, **rates}
