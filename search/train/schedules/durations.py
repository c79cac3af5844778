"""How long things last in a run: fractions of its budget, epochs or steps, told apart by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from search.errors import UsageError

Unit = Literal["budget", "epochs", "steps"]
"""Of a duration: a fraction of the run, epochs, or steps of the optimiser."""
UNITS: tuple[str, ...] = get_args(Unit)
_SLACK = 2e-3
"""A fraction of the budget is rarely exact: three times 0.333 is meant to be all of it."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a run is: so many `steps` of the optimiser, `steps_per_epoch` of them in an epoch."""

    steps: int
    steps_per_epoch: int

    def of_one(self, unit: Unit) -> float:
        """Return the steps of one whole budget, of one epoch or of one step; raise UsageError for no unit."""
        lengths = {"budget": self.steps, "epochs": self.steps_per_epoch, "steps": 1}
        if unit not in lengths:
            raise UsageError(f"schedule.unit={unit}: must be one of {', '.join(UNITS)}")
        return float(lengths[unit])

    def length(self, key: str, duration: float, unit: Unit) -> float:
        """Return the steps that the duration `key` of a schedule lasts, at least one.

        Raises UsageError where it is not above 0, or a fraction above 1.
        """
        if not 0 < duration <= (1 if unit == "budget" else float("inf")):
            allowed = "a fraction of the budget, above 0 and up to 1" if unit == "budget" else f"{unit}, above 0"
            raise UsageError(f"schedule.{key}={duration}: must be {allowed}")
        return max(1.0, duration * self.of_one(unit))

    def ends(self, lengths: Iterable[float], unit: Unit) -> list[int]:
        """Return after how many steps each of the pieces ends that follow each other, up to the first past the run.

        Where the lengths were fractions of the budget, a piece that ends almost with the run ends with it.
        """
        slack = _SLACK * self.steps if unit == "budget" else 0.0
        found: list[int] = []
        for end in itertools.accumulate(lengths):
            found.append(self.steps if abs(end - self.steps) <= slack else round(end))
            if found[-1] >= self.steps:
                break
        return found
