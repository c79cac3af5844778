"""The single best trained again on training and validation data: what it learned with all that may be learned from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from search.apps.training import TrainingSession, best_trained
from search.keyed import keyed_int
from search.post.contenders import Candidate
from search.records import TrialSpec, TrialState
from search.reporting.progress import WorkDisplay
from search.space import Settings
from search.sweep.batch import run_all
from search.sweep.study import Study

_FOLDER = "refits"


def refit_configs(session: TrainingSession, study: Study) -> dict[str, Settings]:
    """Return what each refit is trained with, by its folder: the best trial's configuration."""
    best = best_trained(session, study) if session.cfg.squeeze.refit else None
    return {} if best is None else {f"{_FOLDER}/{k}": best[1] for k in range(session.cfg.squeeze.refit)}


def refit(session: TrainingSession, study: Study, configs: Mapping[str, Settings]) -> list[Candidate]:
    """Train the refits for as many epochs as the best trial's weights had; return those that did not fail.

    They have no validation figure: what it would be taken of, they have seen.
    """
    shutil.rmtree(session.folder / _FOLDER, ignore_errors=True)  # of an earlier best trial
    best = best_trained(session, study)
    if best is None or not configs:
        return []
    epochs = study.outcomes[best[0]].best_step
    specs = [
        TrialSpec(
            number=k,
            params={},
            config=config,
            seed=keyed_int(session.cfg.seed, "refit", k),
            directory=str(session.folder / place),
            refit_epochs=epochs,
        )
        for k, (place, config) in enumerate(configs.items())
    ]
    names = _names(len(specs))
    title = f"refitting trial {best[0]} with the validation data"
    with WorkDisplay(session.console, title, names, epochs or 0) as display:
        outcomes = run_all(session.executor, specs, display, session.failures())
    candidates = []
    for name, place, outcome in zip(names, configs, outcomes, strict=True):
        if outcome.state is TrialState.FAILED:
            session.console.print(f"{name} failed: {outcome.reason}", style="red", markup=False)
        else:
            candidates.append(Candidate(name=name, weights={place: 1.0}, validation=None))
    return candidates


def _names(number: int) -> list[str]:
    return ["refit"] if number == 1 else [f"refit {k + 1}" for k in range(number)]
