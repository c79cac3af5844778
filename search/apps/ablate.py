"""The stage ablate: one change at a time to the best trial, each trained over the same seeds as the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.apps.report import print_ablation
from search.apps.summary import tell
from search.apps.training import TrainingSession, best_trained
from search.errors import GaveUpError
from search.files import unfinished
from search.keyed import keyed_int
from search.layout import LOG, WEIGHTS, predictions_of
from search.post.ablation import BASE, Ablation, base_of, change_of, unchanged
from search.records import Outcome, Report, TrialSpec
from search.reporting.progress import TrainingsDisplay
from search.space import changed, in_words, misfit, settings_of
from search.sweep.batch import run_all
from search.sweep.repeat import run_missing
from search.sweep.study import Study

Configs = Mapping[str, Mapping[str, Any]]
"""What is trained, by the name of the change."""


def ablate(session: TrainingSession, study: Study) -> None:
    """Bring the stored comparison up to date with the base, the changes and the seeds, then MLflow with it.

    Every figure is one of validation; the test split is not touched.
    """
    name, base = _base(session, study)
    changes = _changes(session, base)
    different = {change: config for change, config in changes.items() if config != base}
    values = _values(session, {BASE: base, **different})
    told = base_of(name, values[BASE])
    ablation = Ablation(
        metric=session.metric.name,
        maximize=session.metric.maximize,
        seeds=session.cfg.ablation.seeds,
        base=told,
        changes=tuple(
            change_of(c, in_words(base, config), values[c], told, maximize=session.metric.maximize)
            if c in different
            else unchanged(c)
            for c, config in changes.items()
        ),
    )
    if ablation != Ablation.load(session.folder):
        ablation.save(session.folder)
    if "report" not in session.cfg.stages:  # which prints it, too
        print_ablation(session, ablation)
    tell(session, study.journal)


def _base(session: TrainingSession, study: Study) -> tuple[str, Mapping[str, Any]]:
    """Return the best trial's name and configuration, the default's where there is none."""
    best = best_trained(session, study)
    if best is None:
        return "the default", session.spec(0, session.first[0]).config
    return f"trial {best[0]}", best[1]


def _changes(session: TrainingSession, base: Mapping[str, Any]) -> Configs:
    """Return the base with each change; say which ones do not apply to it."""
    known = session.plain("changes")
    configs = {}
    for name in session.cfg.ablate:
        change = known[name]
        why = misfit(base, settings_of(change), f"changes.{name}") or _unfit(session, name, change)
        if why is None:
            configs[name] = changed(base, settings_of(change))
        else:
            session.console.print(f"note: {name} does not apply and is left out ({why})", style="dim", markup=False)
    return configs


def _unfit(session: TrainingSession, name: str, change: Mapping[str, Any]) -> str | None:
    """Return why a node of a change does not fit the data, if so."""
    kind = session.dataset.examples.kind
    for group, piece in change.items():
        if (fits := piece.get("fits")) is not None and kind not in fits:
            return f"changes.{name}.{group}: fits {' and '.join(fits)} data only, and this is a {kind}"
    return None


def _values(session: TrainingSession, configs: Configs) -> dict[str, list[float | None]]:
    """Return the metric of each configuration by seed, None where its training failed."""
    specs = _specs(session, configs)
    outcomes = run_missing(specs, lambda missing: _run(session, missing))
    for spec in specs:
        _clear(spec)
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


def _specs(session: TrainingSession, configs: Configs) -> list[TrialSpec]:
    """Return all trainings, seed by seed: when one is killed, whole pairs are there."""
    about_data = {k: v for k, v in session.identity.items() if k.partition(".")[0] in ("data", "split")}
    specs: list[TrialSpec] = []
    for k in range(session.cfg.ablation.seeds):
        seed = keyed_int(session.cfg.seed, "ablation", k)  # one for all: same batches, same weights where shapes agree
        for name, config in configs.items():
            # The folder is all that is known of it later, also where there is no study that knows its data.
            whole = {**config, "trained_on": {**about_data, "seed": seed}}
            directory = session.folder / "ablation" / name / str(k)
            specs.append(TrialSpec(number=len(specs), params={}, config=whole, seed=seed, directory=str(directory)))
    return specs


def _kind(spec: TrialSpec) -> str:
    return Path(spec.directory).parent.name


def _title(spec: TrialSpec) -> str:
    return f"{_kind(spec)} with seed {Path(spec.directory).name}"


def _run(session: TrainingSession, specs: Sequence[TrialSpec]) -> list[Outcome]:
    with TrainingsDisplay(session.console, "ablation", [_kind(spec) for spec in specs]) as display:

        def watch(said: Report | Outcome) -> None:
            display(said)
            if isinstance(said, Outcome) and said.failure is None:
                _clear(specs[said.number])  # now: all together may be more than the disk takes

        return run_all(session.executor, specs, watch, session.failures())


def _clear(spec: TrialSpec) -> None:
    """Remove what nobody needs of a training that ended."""
    for name in (WEIGHTS, predictions_of("validation")):
        path = Path(spec.directory) / name
        path.unlink(missing_ok=True)
        unfinished(path).unlink(missing_ok=True)
