"""The single best trained again on training and validation data: what it learned with all that may be learned from."""

from __future__ import annotations

from collections.abc import Mapping

from search.apps.squeeze.members import REFITS
from search.apps.training import TrainingSession, best_trained
from search.keyed import keyed_int
from search.post.contenders import Candidate
from search.records import Outcome, TrialSpec, TrialState
from search.reporting.progress import WorkDisplay
from search.space import Settings
from search.sweep.batch import run_all
from search.sweep.repeat import run_missing
from search.sweep.study import Study


def refit_configs(session: TrainingSession, study: Study) -> dict[str, Settings]:
    """Return what each refit is trained with, by its folder: the best trial's configuration, and what it is of."""
    best = best_trained(session, study) if session.cfg.squeeze.refit else None
    if best is None:
        return {}
    number, config = best
    seeds = [keyed_int(session.cfg.seed, "refit", k) for k in range(session.cfg.squeeze.refit)]
    epochs = study.outcomes[number].best_step
    # The folder is all that is known of it later: one of another trial, or of other data, is trained anew.
    about = {"trial": number, "epochs": epochs, "data": session.identity["data.digest"]}
    return {f"{REFITS}/{k}": {**config, "refit": {**about, "seed": seed}} for k, seed in enumerate(seeds)}


def refit(session: TrainingSession, configs: Mapping[str, Settings]) -> list[Candidate]:
    """Train the refits for as many epochs as the best trial's weights had; return those that did not fail.

    They have no validation figure: what it would be taken of, they have seen. One that ended is not repeated.
    """
    specs = [
        TrialSpec(
            number=k,
            params={},
            config=config,
            seed=config["refit"]["seed"],
            directory=str(session.folder / place),
            refit_epochs=config["refit"]["epochs"],
        )
        for k, (place, config) in enumerate(configs.items())
    ]
    names = ["refit"] if len(specs) == 1 else [f"refit {k + 1}" for k in range(len(specs))]

    named = {spec.directory: name for spec, name in zip(specs, names, strict=True)}

    def run(missing: list[TrialSpec]) -> list[Outcome]:
        title = f"refitting trial {missing[0].config['refit']['trial']} with the validation data"
        shown = [named[spec.directory] for spec in missing]
        with WorkDisplay(session.console, title, shown, missing[0].refit_epochs or 0) as display:
            return run_all(session.executor, missing, display, session.failures())

    candidates = []
    for name, place, outcome in zip(names, configs, run_missing(specs, run), strict=True):
        if outcome.state is TrialState.FAILED:
            session.console.print(f"{name} failed: {outcome.reason}", style="red", markup=False)
        else:
            candidates.append(Candidate(name=name, weights={place: 1.0}, validation=None))
    return candidates
