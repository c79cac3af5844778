"""How long and how a network is trained: the settings of a trial's `trainer` node that the loop goes by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how to train. Without the settings that have a default, training is the plainest there is."""

    epochs: int
    batch_size: int
    patience: int | None
    checkpoint_every: int
    accumulate: int = 1
    """Batches whose gradients are summed for one step of the optimiser."""
    sampling: str = "shuffled"
    """shuffled: each example once an epoch; balanced: as many draws, with replacement, the same number a class."""
    ema: float | None = None
    """Decay of the exponential moving average of the weights that is evaluated and kept; None: the weights are."""
    keep: str = "best"
    """Which weights, and figures, are left: best, those of the best epoch on validation; last, those of the last."""
    compile: bool = False
    """Whether the network goes through torch.compile before the first step."""
    diagnostics: bool = True
    """Whether the layers are looked at now and then."""
    micro_batches: int = 1
    """Parts in which each batch is worked through, for lack of memory."""
    refit_epochs: int | None = None
    """Where the plan is that of a refit: the epochs of it that are run; the last weights are kept, not the best."""
    drawn: int | None = None
    """Examples of an epoch where it takes but a part of them, another each time, whatever `sampling` is; None: all."""

    @classmethod
    def of(cls, trainer: Mapping[str, Any], **others: Any) -> Plan:
        """Return the plan that a `trainer` node describes."""
        return cls(**{f.name: trainer[f.name] for f in fields(cls) if f.name in trainer}, **others)

    @property
    def step_size(self) -> int:
        """Examples of one step of the optimiser."""
        return self.batch_size * self.accumulate

    @property
    def keeps_last(self) -> bool:
        """Tell whether the last weights are kept, whatever validation says."""
        return self.keep == "last" or self.refit_epochs is not None

    def steps_an_epoch(self, number: int) -> int:
        """Return how many steps an epoch of so many examples has."""
        return math.ceil(examples_an_epoch(self.drawn or number, self.step_size) / self.step_size)

    @property
    def parts(self) -> int:
        """Parts in which the examples of a step go through the network."""
        return self.accumulate * self.micro_batches


def examples_an_epoch(number: int, step_size: int) -> int:
    """Return how many of so many examples an epoch uses.

    The last is left out where it would be a step of its own: batch norm cannot take a single example.
    """
    return number - 1 if number % step_size == 1 and number > step_size else number
