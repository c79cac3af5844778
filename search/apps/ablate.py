"""The stage ablate: one change at a time to the best trial, each trained over the same seeds as the base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.apps.repeated import Configs, base_of_study, values_by_seed
from search.apps.report import print_ablation
from search.apps.summary import tell
from search.apps.training import TrainingSession
from search.post.comparison import ABLATION, BASE, Comparison, base_of, change_of, unchanged
from search.space import changed, in_words, misfit, settings_of
from search.sweep.study import Study


def ablate(session: TrainingSession, study: Study) -> None:
    """Bring the stored comparison up to date with the base, the changes and the seeds, then MLflow with it.

    Every figure is one of validation; the test split is not touched.
    """
    name, base = base_of_study(session, study)
    base = {"augment": None, **base}  # which a trial is not given where there is none
    changes = _changes(session, base)
    different = {change: config for change, config in changes.items() if config != base}
    values = values_by_seed(session, "ablation", {BASE: base, **different}, session.cfg.ablation.seeds)
    told = base_of(name, values[BASE])
    ablation = Comparison(
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
    file = session.folder / ABLATION
    if ablation != Comparison.load(file):
        ablation.save(file)
    if "report" not in session.cfg.stages:  # which prints it, too
        print_ablation(session, ablation)
    tell(session, study.journal)


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
        if (fits := (piece or {}).get("fits")) is not None and kind not in fits:
            return f"changes.{name}.{group}: fits {' and '.join(fits)} data only, and this is a {kind}"
    return None
