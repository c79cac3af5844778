"""One thing that may vary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.errors import UsageError
from search.records import ParamValue

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One thing that may vary: a choice, or a range of numbers (both ends included).

    `name` is Optuna's, `path` the place of the value in a trial's configuration. `option` says when the dimension
    exists: (name of a choice, its value).
    """

    name: str
    path: str
    default: ParamValue
    choices: tuple[ParamValue, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    integer: bool = False
    option: tuple[str, str] | None = None

    def at(self, u: float) -> ParamValue:
        """Return the value at the quantile u in [0, 1)."""
        if self.choices:
            return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]
        if self.step is not None and not self.log:
            return self._on_grid(int(u * self._num_steps()))
        if self.integer:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return max(int(self.low), min(int(self.high), round(math.exp(low + u * (high - low)))))
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return min(max(math.exp(low + u * (high - low)), self.low), self.high)
        return self.low + u * (self.high - self.low)

    def contains(self, value: ParamValue) -> bool:
        """Tell whether the value may be drawn."""
        if self.choices:
            return any(value == c and isinstance(value, bool) == isinstance(c, bool) for c in self.choices)
        if isinstance(value, bool | str) or value is None or not self.low <= value <= self.high:
            return False
        if self.integer and value != round(value):
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-8

    def nearest(self, value: ParamValue) -> ParamValue:
        """Return the value itself where it may be drawn, else the nearest that may; the first choice of words."""
        if self.choices and self.contains(value):
            return value
        if isinstance(value, bool | str) or value is None:
            return self.choices[0] if self.choices else self._number(self.low)
        if self.choices:
            numbers = [c for c in self.choices if isinstance(c, int | float) and not isinstance(c, bool)]
            return min(numbers, key=lambda c: abs(c - value)) if numbers else self.choices[0]
        clipped = min(max(value, self.low), self.high)
        if self.step is not None:
            return self._on_grid(round((clipped - self.low) / self.step))
        return self._number(clipped)

    @property
    def size(self) -> int | None:
        """How many values it has; None: a continuous range."""
        if self.choices:
            return len(self.choices)
        return None if self.step is None else self._num_steps()

    def grid(self) -> tuple[ParamValue, ...]:
        """Return every value; raise UsageError for a continuous range."""
        if self.choices:
            return self.choices
        if self.step is None:
            raise UsageError(f"sampler=grid: {self.name} is continuous; give it choices=[...] or a step")
        return tuple(self._on_grid(i) for i in range(self._num_steps()))

    def distribution(self) -> BaseDistribution:
        """Return the dimension as Optuna knows it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.integer:
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def describe(self) -> str:
        """Return the dimension in words, e.g. `0.0001 to 0.01, log`."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        low, high = (str(v) if self.integer else f"{v:g}" for v in (self.low, self.high))
        text = f"{low} to {high}"
        if self.step is not None and not (self.integer and self.step == 1):
            text += f", step {self.step:g}"
        return text + (", log" if self.log else "")

    def _num_steps(self) -> int:
        return math.floor((self.high - self.low) / (self.step or 1) + 1e-8) + 1

    def _on_grid(self, index: int) -> float:
        """Return the value `index` steps above `low`, without the noise of 3 * 0.1."""
        index = min(index, self._num_steps() - 1)
        step = self.step or 1
        return self._number(min(max(rounded(self.low + step * index, step), self.low), self.high))

    def _number(self, value: float) -> float:
        return round(value) if self.integer else value


def rounded(value: float, step: float) -> float:
    """Return some steps' sum as a person would write it, with as many decimals as steps of that size need."""
    return round(value, max(12, 6 - math.floor(math.log10(step))))
