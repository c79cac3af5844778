"""What an ensemble may cost to use, and which members it can still afford."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.errors import UsageError
from search.layout import COST
from search.train.metrics import Array


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one member costs: its parameters, and the milliseconds of predicting one example in a batch of many."""

    parameters: int
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the distinct members of an ensemble may cost together; None is no limit."""

    members: int | None = None
    parameters: int | None = None
    milliseconds: float | None = None


class Budget:
    """The limits and what each of M members costs."""

    def __init__(self, prices: Array, limits: Array) -> None:
        self._prices, self._limits = prices, limits

    @classmethod
    def free(cls, num_members: int) -> Budget:
        """Return a budget that affords everything."""
        return cls(np.zeros((0, num_members)), np.zeros(0))

    def affordable(self, chosen: Array) -> Array:
        """Return a mask (M,) of those that may be added to the members of a mask; these may always."""
        spent = self._prices @ chosen
        # Costs in float64 do not add up to the last bit.
        fits = (spent[:, None] + self._prices <= self._limits[:, None] * (1 + 1e-9)).all(axis=0)
        return np.asarray(fits | chosen)

    def filled(self, ranked: Array, most: int) -> Array:
        """Return the first `most` members of a ranking that fit together; one that does not fit is passed over."""
        chosen = np.zeros(self._prices.shape[1], dtype=bool)
        taken: list[int] = []
        for row in map(int, ranked):
            if len(taken) < most and self.affordable(chosen)[row]:
                chosen[row] = True
                taken.append(row)
        return np.array(taken, dtype=np.intp)


def budget_of(limits: Limits, members: Sequence[str], costs: Mapping[str, Cost] | None) -> Budget:
    """Return the budget; raise UsageError where a limit leaves no member at all."""
    prices, most = [], []
    for name, limit in dataclasses.asdict(limits).items():
        if limit is None:
            continue
        if name == "members":
            each = [1.0] * len(members)
        else:
            assert costs is not None, f"a limit of {name} needs the members' costs"
            each = [float(getattr(costs[member], name)) for member in members]
        if min(each) > limit:
            raise UsageError(f"squeeze.limits.{name}={limit}: no member fits; the least has {min(each):.4g}")
        prices.append(each)
        most.append(float(limit))
    if prices and not (np.array(prices) <= np.array(most)[:, None]).all(axis=0).any():
        raise UsageError(f"squeeze.limits: no member fits all of them: {_listed(limits)}")
    return Budget(np.array(prices).reshape(len(prices), len(members)), np.array(most))


def _listed(limits: Limits) -> str:
    return ", ".join(f"{k}={v}" for k, v in dataclasses.asdict(limits).items() if v is not None)


def cost_in(folder: Path) -> Cost | None:
    """Return what a training wrote of its network into its folder; None where it wrote nothing."""
    try:
        plain = json.loads((folder / COST).read_bytes())
        return Cost(parameters=int(plain["parameters"]), milliseconds=float(plain["milliseconds"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / COST}: damaged; put it back from a copy") from error
