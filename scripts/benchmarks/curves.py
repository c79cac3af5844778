"""Learning curves that somebody measured, for replay in virtual time."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run as it would go if nobody stopped it.

    `values` and `costs` have an entry for each step; a run that `diverged` did so in its last step, which has no
    value. `planned` steps are known beforehand, that a run dies is not.
    """

    values: tuple[float, ...]
    costs: tuple[float, ...]
    planned: int
    diverged: bool

    @property
    def cost(self) -> float:
        """What training it to its end costs."""
        return math.fsum(self.costs)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Runs of one file. `worst` is the worst last value of a run that did not diverge."""

    name: str
    maximize: bool
    runs: tuple[Run, ...]
    worst: float

    def best_of(self, values: Sequence[float]) -> float:
        """Return the best of some values, `worst` where there is none."""
        return (max if self.maximize else min)(values, default=self.worst)

    def final(self, run: Run) -> float:
        """Return what the run is worth in the end: the best value on its way, as a search keeps it."""
        return self.worst if run.diverged else self.best_of(run.values)

    def regret(self, value: float, best: float) -> float:
        """Return how much worse a value is than the best."""
        return (best - value) if self.maximize else (value - best)

    @property
    def most_steps(self) -> int:
        """The longest plan."""
        return max(run.planned for run in self.runs)


def load(path: Path) -> Curves:
    """Read a file: `configs` (JSON list), `metric` and `cost` (runs, steps), `meta` (JSON with `maximize`).

    A metric of NaN where there is a cost: the run died there; a cost of NaN: it is over. Planned steps are
    `epochs` of a run's configuration, where it has that key, else all steps. Raises UsageError for anything else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            metric, cost = file["metric"].astype(float), file["cost"].astype(float)
            configs, maximize = json.loads(str(file["configs"])), bool(json.loads(str(file["meta"]))["maximize"])
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"{path}: not learning curves ({error})") from error
    plans = [int(config.get("epochs", metric.shape[1])) for config in configs]
    runs = tuple(map(_run, metric.tolist(), cost.tolist(), plans))
    ends = [run.values[-1] for run in runs if not run.diverged]
    return Curves(name=path.stem, maximize=maximize, runs=runs, worst=min(ends) if maximize else max(ends))


def _run(metric: Sequence[float], cost: Sequence[float], planned: int) -> Run:
    length = next((step for step, seconds in enumerate(cost[:planned]) if math.isnan(seconds)), planned)
    died = next((step for step, value in enumerate(metric[:length]) if not math.isfinite(value)), None)
    steps = length if died is None else died + 1
    return Run(
        values=tuple(metric[: steps if died is None else died]),
        costs=tuple(cost[:steps]),
        planned=planned,
        diverged=died is not None,
    )
