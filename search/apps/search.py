"""The stages of a search, in their order."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from search.apps.checking import check
from search.apps.clusters import Clusters
from search.apps.composed import Composed
from search.apps.driving import drive
from search.apps.rates import narrow_as_recorded
from search.apps.report import report
from search.apps.session import Place, Session
from search.apps.training import TrainingSession
from search.config.shapes import alone_by, shape_of
from search.errors import GaveUpError, UsageError
from search.layout import LOG
from search.memory import GIB
from search.records import Params, TrialSpec, TrialState
from search.reporting.progress import SteadyConsole
from search.sweep import pruners, samplers
from search.sweep.disk import Disk
from search.sweep.driver import Budget, Driver
from search.sweep.history import History
from search.sweep.identity import require_same
from search.sweep.journal import Journal, holds_study
from search.sweep.packing import OFF
from search.sweep.study import IDENTITY, Study

_AFTER_CHECKS = {"search", "rematch", "squeeze", "ablate", "data_curve", "look", "report", "sync"}


def run(composed: Composed, place: Place) -> int:
    """Run the stages that the configuration names; return the exit code."""
    session = _session(composed, place)
    if "train" in session.cfg.stages:
        from search.apps.train import train_again

        return train_again(session)
    _check_resume(session)
    journal = Journal(session.folder, maximize=session.metric.maximize)
    status = "KILLED"
    try:
        if isinstance(session, TrainingSession):
            _prove(session, journal)
        if not _AFTER_CHECKS & set(session.cfg.stages):
            status = "FINISHED"
            return 0
        study = _study(session, journal)
        if "sync" in session.cfg.stages:
            from search.apps.sync import sync

            return sync(session, journal)
        driver = _driver(session, study)
        stages: dict[str, Callable[[], None]] = {
            "search": lambda: _search(session, study, driver),
            "rematch": lambda: _rematch(session, study),
            "squeeze": lambda: _squeeze(session, study),
            "ablate": lambda: _ablate(session, study),
            "data_curve": lambda: _data_curve(session, study),
            "look": lambda: _look(session, study),
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


def _prove(session: TrainingSession, journal: Journal) -> None:
    """Run the checks; raise UsageError first for a study of something else, whose findings they would replace."""
    if journal.num_trials:
        narrow_as_recorded(session, journal.attributes)
        if session.cfg.resume != "extend":
            require_same(journal.attributes.get(IDENTITY), session.identity, session.folder)
    if "sync" not in session.cfg.stages:
        check(session, journal)


def place_of(clusters: Clusters) -> Place:
    """Return where Hydra runs this job."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir).resolve()
    return Place(
        folder=folder,
        console=SteadyConsole(soft_wrap=True),
        choices=hydra.runtime.choices,
        job=folder.name if hydra.mode is RunMode.MULTIRUN else None,
        clusters=clusters,
    )


def _session(composed: Composed, place: Place) -> Session:
    if composed.cfg.objective is None:
        return TrainingSession(composed, place)
    from search.apps.objective import ObjectiveSession

    return ObjectiveSession(composed, place)


def _check_resume(session: Session) -> None:
    there, resume = holds_study(session.folder), session.cfg.resume
    if resume == "never" and there:
        raise UsageError(f"resume=never: {session.folder} holds a study; choose another name=... or resume=auto")
    begins = {"inspect", "preflight", "search", "ablate", "data_curve"} & set(session.cfg.stages)
    if not there and (resume == "must" or not begins):
        why = "resume=must" if resume == "must" else f"stages={list(session.cfg.stages)}"
        raise UsageError(f"{why}: {session.folder} holds no study; check name=... or search first")


def _study(session: Session, journal: Journal) -> Study:
    cfg, maximize = session.cfg, session.metric.maximize
    need_history = cfg.sampler.kind in samplers.NEED_HISTORY or cfg.pruner.kind in pruners.NEED_HISTORY
    return Study(
        journal,
        session.space,
        session.identity,
        maximize=maximize,
        history=History(maximize=maximize) if need_history else None,
        extend=cfg.resume == "extend",
    )


def _driver(session: Session, study: Study) -> Driver:
    cfg, space = session.cfg, session.space

    def make_spec(number: int, params: Params) -> TrialSpec:
        begun = number < len(study.params)
        return session.spec(number, params, session.trained(number, params, study.composed_from) if begun else None)

    return Driver(
        study=study,
        make_sampler=lambda taken: samplers.make(cfg.sampler.kind, space, cfg.seed, taken, cfg.budget.trials),
        pruner=pruners.make(
            session.plain("pruner"), most_steps=session.most_steps(), history=study.history, maximize=study.maximize
        ),
        budget=Budget(
            trials=cfg.budget.trials,
            seconds=None if cfg.budget.hours is None else cfg.budget.hours * 3600,
            patience=cfg.budget.patience,
        ),
        failures=session.failures(),
        first=session.first,
        make_spec=make_spec,
        planned_steps=session.planned_steps,
        shown=session.shown,
        clock=time.time,
        stopwatch=time.monotonic,
        shape_of=lambda spec: shape_of(spec.config),
        fused=session.fused,
    )


def _search(session: Session, study: Study, driver: Driver) -> None:
    if driver.remaining():
        _run_trials(session, study, driver)
    elif session.undelivered(study.journal):
        session.tracker(study.journal)
    if study.progress.best is not None:
        return
    if not study.outcomes:
        raise UsageError(f"budget.hours={session.cfg.budget.hours}: spent before a trial ended")
    tried = sum(number >= study.comparable_from for number in study.outcomes)
    if not tried:
        more = study.progress.finished + session.cfg.budget.trials
        raise UsageError(
            f"resume=extend: no trial of this data has ended; the budget is a total, e.g. budget.trials={more}"
        )
    if not any(o.failure is not None for n, o in study.outcomes.items() if n >= study.comparable_from):
        raise GaveUpError(f"all {tried} trials were stopped before they had a value")
    raise GaveUpError(f"all {tried} trials failed; {_first_failure(study)}")


def _first_failure(study: Study) -> str:
    failed = (n for n, o in study.outcomes.items() if o.failure is not None and n >= study.comparable_from)
    number = min(failed)
    return f"the first was trial {number}: {study.outcomes[number].reason} (see {study.directory(number) / LOG})"


def _run_trials(session: Session, study: Study, driver: Driver) -> None:
    for option in session.left_out:
        session.console.print(f"note: {option} does not fit this data and is left out", style="dim")
    for sentence in session.space.defaults_moved():
        session.console.print(f"note: {sentence}", style="dim")
    session.require_importable()
    executor = session.executor
    session.tracker(study.journal)  # not before: importing MLflow takes as long as starting the workers
    session.console.print(
        f"searching {len(session.space.dimensions)} dimensions with {executor.num_slots} workers; "
        f"the study is in {session.folder}"
    )
    if session.fused != OFF and (why := alone_by(session.space.configure(session.space.default()))) is not None:
        session.console.print(f"fused: every trial alone, because of {why}", style="dim", markup=False)
    disk = Disk(
        session.folder,
        keep=session.cfg.squeeze.keep,
        checkpoint_bytes=session.cfg.budget.checkpoints * GIB,
        maximize=study.maximize,
    )
    disk.restore(study)
    driver.watchers.append(disk)
    drive(driver, executor, session.console, session.cfg.cluster.grace)
    if driver.broken is not None:
        raise GaveUpError(f"{driver.broken}; {_first_failure(study)}; the same command goes on once it is mended")


def _rematch(session: Session, study: Study) -> None:
    if isinstance(session, TrainingSession) and study.progress.best is not None:
        from search.apps.rematch import rematch  # brings scipy

        try:
            rematch(session, study)
        except GaveUpError as error:  # the trials stand
            session.console.print(f"no rematch: {error}", style="red", markup=False)


def _squeeze(session: Session, study: Study) -> None:
    if not isinstance(session, TrainingSession):  # there are no networks to make something of
        return
    from search.apps.squeeze import squeeze  # brings torch

    if any(outcome.state is not TrialState.FAILED for outcome in study.outcomes.values()):
        squeeze(session, study)


def _ablate(session: Session, study: Study) -> None:
    if session.cfg.ablate and isinstance(session, TrainingSession):
        from search.apps.ablate import ablate  # brings scipy

        ablate(session, study)


def _look(session: Session, study: Study) -> None:
    if isinstance(session, TrainingSession):
        from search.apps.look import look_inside

        look_inside(session, study)


def _data_curve(session: Session, study: Study) -> None:
    if isinstance(session, TrainingSession):
        from search.apps.data_curve import data_curve  # brings scipy

        data_curve(session, study)
