"""The stages of a search, in their order."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from search.apps.composed import Composed
from search.apps.report import report
from search.apps.session import Session
from search.errors import UsageError
from search.records import TrialState
from search.report.progress import ProgressDisplay, SteadyConsole
from search.sweep import pruners, samplers
from search.sweep.driver import Budget, Driver
from search.sweep.journal import EVENTS, Journal
from search.sweep.study import Study


def run(composed: Composed) -> int:
    """Run the stages that the configuration names; return the exit code."""
    session = _session(composed)
    if "train" in session.cfg.stages:
        from search.apps.train import train_again

        return train_again(session)
    _check_resume(session)
    journal = Journal(session.folder, maximize=session.metric.maximize)
    status = "KILLED"
    try:
        study = Study(journal, session.space, session.identity, maximize=session.metric.maximize)
        driver = _driver(session, study)
        stages: dict[str, Callable[[], None]] = {
            "search": lambda: _search(session, study, driver),
            "squeeze": lambda: _squeeze(session, study),
            "report": lambda: report(session, study, driver),
        }
        for stage in stages:
            if stage in session.cfg.stages:
                stages[stage]()
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        session.close(status)
        journal.close()
    return 0


def _session(composed: Composed) -> Session:
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir).resolve()
    job = folder.name if hydra.mode is RunMode.MULTIRUN else None
    return Session(composed, folder, SteadyConsole(soft_wrap=True), choices=hydra.runtime.choices, job=job)


def _check_resume(session: Session) -> None:
    there, resume = (session.folder / EVENTS).exists(), session.cfg.resume
    if resume == "never" and there:
        raise UsageError(f"resume=never: {session.folder} holds a study; choose another name=... or resume=auto")
    if not there and (resume == "must" or "search" not in session.cfg.stages):
        why = "resume=must" if resume == "must" else f"stages={list(session.cfg.stages)}"
        raise UsageError(f"{why}: {session.folder} holds no study; check name=... or search first")


def _driver(session: Session, study: Study) -> Driver:
    cfg, space = session.cfg, session.space
    return Driver(
        study=study,
        make_sampler=lambda taken: samplers.make(cfg.sampler.kind, space, cfg.seed, taken, cfg.budget.trials),
        pruner=pruners.make(
            session.plain("pruner"), most_steps=session.most_steps(), study=study.history, maximize=study.maximize
        ),
        budget=Budget(
            trials=cfg.budget.trials,
            seconds=None if cfg.budget.hours is None else cfg.budget.hours * 3600,
            patience=cfg.budget.patience,
        ),
        first=session.first,
        make_spec=session.spec,
        planned_steps=session.planned_steps,
        shown=session.shown,
        clock=time.time,
    )


def _search(session: Session, study: Study, driver: Driver) -> None:
    if driver.remaining() or session.undelivered(study.journal):
        session.tracker(study.journal)
    if driver.remaining():
        _run_trials(session, driver)
    if study.progress.best is not None:
        return
    if not study.outcomes:
        raise UsageError(f"budget.hours={session.cfg.budget.hours}: spent before a trial ended")
    first = min(study.outcomes)
    raise UsageError(
        f"all {study.progress.finished} trials failed; the first: {study.outcomes[first].reason} "
        f"(see {study.directory(first) / 'log.txt'})"
    )


def _run_trials(session: Session, driver: Driver) -> None:
    for option in session.left_out:
        session.console.print(f"note: {option} does not fit this data and is left out", style="dim")
    for sentence in session.space.defaults_moved():
        session.console.print(f"note: {sentence}", style="dim")
    executor = session.executor
    session.console.print(
        f"searching {len(session.space.dimensions)} dimensions with {executor.num_slots} workers; "
        f"the study is in {session.folder}"
    )
    display = ProgressDisplay(session.console, driver.total)
    driver.watchers.append(display)
    with display:
        driver.run(executor)


def _squeeze(session: Session, study: Study) -> None:
    from search.apps.squeeze import squeeze  # brings torch

    if any(outcome.state is not TrialState.FAILED for outcome in study.outcomes.values()):
        squeeze(session, study)
