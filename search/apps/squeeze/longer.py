"""The best trials left training far past their end: their weights go on, under a schedule of their own."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

from search.apps.squeeze.members import Members
from search.apps.training import TrainingSession, from_best
from search.keyed import keyed_int
from search.layout import WEIGHTS
from search.post.contenders import Candidate
from search.records import Outcome, TrialSpec, TrialState
from search.reporting.progress import WorkDisplay
from search.space import Settings
from search.sweep.batch import run_all
from search.sweep.journal import trial_folder
from search.sweep.repeat import run_missing
from search.sweep.study import Study

_NAME = "left training"


def leave_training(session: TrainingSession, study: Study, members: Members) -> list[Candidate]:
    """Go on with the best trials whose weights are there; add what they become, and return it as candidates.

    One that ended is not repeated.
    """
    begun = _begun(session, study)
    specs = _specs(session, begun)
    names = [_NAME if k == 0 else f"{_NAME} {k + 1}" for k in range(len(specs))]
    named = {spec.directory: name for spec, name in zip(specs, names, strict=True)}

    def run(missing: list[TrialSpec]) -> list[Outcome]:
        most = max(spec.config["trainer"]["epochs"] for spec in missing)
        shown = [named[spec.directory] for spec in missing]
        with WorkDisplay(session.console, "leaving the best training", shown, most) as display:
            return run_all(session.executor, missing, display, session.failures())

    candidates = []
    for name, trial, spec, outcome in zip(names, begun, specs, run_missing(specs, run), strict=True):
        if outcome.state is TrialState.FAILED:
            session.console.print(f"{name} failed: {outcome.reason}", style="red", markup=False)
            continue
        folder = str(Path(spec.directory).relative_to(session.folder))
        members.add(folder, dict(spec.config), trial)
        candidates.append(Candidate(name=name, weights={folder: 1.0}, validation=members.load(folder, "validation")))
    return candidates


def add_longer(session: TrainingSession, study: Study, members: Members) -> None:
    """Add what the best trials became when they were left training, as it is composed now."""
    begun = _begun(session, study)
    for trial, spec in zip(begun, _specs(session, begun), strict=True):
        members.add(str(Path(spec.directory).relative_to(session.folder)), dict(spec.config), trial)


def _begun(session: TrainingSession, study: Study) -> dict[str, Settings]:
    """Return the trials that go on, and what they were trained with."""
    return {
        f"trials/{number:05d}": config
        for number, config in islice(from_best(session, study), session.cfg.squeeze.longer.trials)
        if (trial_folder(session.folder, number) / WEIGHTS).exists()
    }


def _specs(session: TrainingSession, begun: dict[str, Settings]) -> list[TrialSpec]:
    return [_spec(session, k, trial, config) for k, (trial, config) in enumerate(begun.items())]


def _spec(session: TrainingSession, k: int, trial: str, config: Settings) -> TrialSpec:
    longer = session.cfg.squeeze.longer
    began = {
        "freeze": (config.get("pretrained") or {}).get("freeze", []),
        "weights": str(session.folder / trial / WEIGHTS),
        "lr_factor": 1.0,
        "preprocessing": "file",  # what the trial standardised with stands beside its weights
    }
    return TrialSpec(
        number=k,
        params={},
        config={
            **config,
            "optimizer": _slower(config["optimizer"], longer.lr_factor),
            "pretrained": began,
            "schedule": _schedule(longer.restarts),
            "trainer": {
                **config["trainer"],
                "epochs": math.ceil(longer.times * config["trainer"]["epochs"]),
                "patience": None,
            },
        },
        seed=keyed_int(session.cfg.seed, "longer", k),
        directory=str(session.folder / "longer" / str(k)),
        snapshots=True,
    )


def _slower(optimizer: Settings, factor: float) -> Settings:
    rate = optimizer.get("lr")
    return {**optimizer, "lr": rate * factor} if isinstance(rate, int | float) else optimizer


def _schedule(restarts: int) -> Settings:
    """Return warm restarts that fill the run (Loshchilov and Hutter 2017); of none, a constant rate."""
    if not restarts:
        return {"_target_": "search.train.schedules.constant", "unit": "budget", "warmup": 0.0}
    return {
        "_target_": "search.train.schedules.sgdr",
        "unit": "budget",
        "warmup": 0.0,
        "cycle": 1 / restarts,
        "multiplier": 1.0,
        "final": 0.0,
        "decay": 1.0,
    }
