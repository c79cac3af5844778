"""When a trial is stopped early: decided in the driver at every report."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import Trial


class Pruner(ABC):
    """Sees every report once, in the order of arrival."""

    @abstractmethod
    def decide(self, trial: Trial, number: int, step: int, value: float, planned: int) -> str | None:
        """Take in a report that `trial` has too; return why it should stop, or None. `planned` steps are its budget."""


class NoPruner(Pruner):
    """Lets every trial run to its end."""

    def decide(self, trial: Trial, number: int, step: int, value: float, planned: int) -> str | None:
        """Return None."""
        return None


class Asha(Pruner):
    """Asynchronous successive halving, stop rule (Li et al. 2020), over a table of sorted values per rung.

    Rungs are fractions of a trial's planned steps. At a rung a trial goes on if its best value so far is among the
    best 1/eta of all that came there before it and itself; equal values never push each other out.
    """

    def __init__(self, *, rungs: Sequence[float], eta: int, maximize: bool) -> None:
        self._rungs = sorted(rungs)
        self._eta = eta
        self._sign = -1.0 if maximize else 1.0
        self._table: dict[float, list[float]] = {rung: [] for rung in self._rungs}
        self._best: dict[int, float] = {}

    def decide(self, trial: Trial, number: int, step: int, value: float, planned: int) -> str | None:
        """Compare at a rung; between rungs only remember the best value."""
        best = min(self._sign * value, self._best.get(number, math.inf))
        self._best[number] = best
        reasons = [self._compare(rung, best) for rung in self._rungs if _step_of(rung, planned) == step < planned]
        reason = next(filter(None, reasons), None)
        return None if reason is None else f"rung at step {step}: {reason}"

    def _compare(self, rung: float, best: float) -> str | None:
        arrived = self._table[rung]
        better = bisect_left(arrived, best)
        insort(arrived, best)
        if better < math.ceil(len(arrived) / self._eta):
            return None
        return f"{better} of {len(arrived) - 1} were better, the best 1/{self._eta} go on"


def _step_of(rung: float, planned: int) -> int:
    return max(1, math.ceil(rung * planned - 1e-9))


class OptunaPruner(Pruner):
    """One of Optuna's pruners, asked through the copy of the study in memory."""

    def __init__(self, study: optuna.Study, pruner: optuna.pruners.BasePruner) -> None:
        study.pruner = pruner
        self._name = type(pruner).__name__

    def decide(self, trial: Trial, number: int, step: int, value: float, planned: int) -> str | None:
        """Ask Optuna whether to prune."""
        return f"{self._name} at step {step}" if trial.should_prune() else None


def make(config: Mapping[str, Any], *, most_steps: int, study: optuna.Study, maximize: bool) -> Pruner:
    """Return the pruner that `config` (the pruner node) describes; no trial plans more than `most_steps`."""
    kind = config["kind"]
    if kind == "none":
        return NoPruner()
    if kind == "asha":
        return Asha(rungs=config["rungs"], eta=config["eta"], maximize=maximize)
    if kind == "median":
        return OptunaPruner(
            study,
            optuna.pruners.MedianPruner(
                n_startup_trials=config["startup_trials"], n_warmup_steps=config["warmup_steps"]
            ),
        )
    return OptunaPruner(
        study,
        optuna.pruners.HyperbandPruner(
            min_resource=config["min_resource"],
            max_resource=most_steps,
            reduction_factor=config["reduction_factor"],
        ),
    )
