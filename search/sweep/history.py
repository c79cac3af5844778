"""A search as an Optuna study in memory, for the samplers and pruners of Optuna's that look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import Trial, create_trial
from optuna.trial import TrialState as OptunaState

from search.records import Outcome, Params, Report, TrialState


class History:
    """Trials by number."""

    def __init__(self, *, maximize: bool | Sequence[bool]) -> None:
        directions = [maximize] if isinstance(maximize, bool) else maximize
        self.study = optuna.create_study(
            storage=InMemoryStorage(),
            study_name="search",  # Optuna's Hyperband assigns brackets by this name
            pruner=optuna.pruners.NopPruner(),
            directions=["maximize" if each else "minimize" for each in directions],
        )
        self._live: dict[int, Trial] = {}

    def create(self, number: int, params: Params, distributions: Mapping[str, BaseDistribution]) -> None:
        """Add a running trial; one of another space, which Optuna could make nothing of, is left out."""
        try:
            template = create_trial(
                state=OptunaState.RUNNING, params=dict(params), distributions={k: distributions[k] for k in params}
            )
        except (KeyError, ValueError):
            return
        storage, study_id = self.study._storage, self.study._study_id
        self._live[number] = Trial(self.study, storage.create_new_trial(study_id, template_trial=template))

    def report(self, report: Report) -> None:
        """Take in a running trial's figure."""
        live = self._live.get(report.number)
        if live is not None and len(self.study.directions) == 1:  # Optuna has no reports of several objectives
            live.report(report.metrics["objective"], report.step)

    def should_prune(self, number: int) -> bool:
        """Ask the study's pruner about a running trial."""
        return number in self._live and self._live[number].should_prune()

    def tell(self, outcome: Outcome) -> None:
        """End a trial."""
        trial = self._live.pop(outcome.number, None)
        if trial is None:
            return
        values = outcome.values or outcome.value
        if outcome.state is TrialState.COMPLETE and values not in (None, ()):
            self.study.tell(trial, values)
        elif outcome.state is TrialState.PRUNED:
            self.study.tell(trial, state=OptunaState.PRUNED)
        else:
            self.study.tell(trial, state=OptunaState.FAIL)
