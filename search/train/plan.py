"""How long and how a network is trained: the settings of a trial's `trainer` node that the loop goes by."""

from __future__ import annotations

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
    compile: bool = False
    """Whether the network goes through torch.compile before the first step."""
    diagnostics: bool = True
    """Whether the layers are looked at now and then."""
    micro_batches: int = 1
    """Parts in which each batch is worked through, for lack of memory."""
    refit_epochs: int | None = None
    """Where the plan is that of a refit: the epochs of it that are run; the last weights are kept, not the best."""

    @classmethod
    def of(cls, trainer: Mapping[str, Any], **others: Any) -> Plan:
        """Return the plan that a `trainer` node describes."""
        return cls(**{f.name: trainer[f.name] for f in fields(cls) if f.name in trainer}, **others)

    @property
    def step_size(self) -> int:
        """Examples of one step of the optimiser."""
        return self.batch_size * self.accumulate

    @property
    def parts(self) -> int:
        """Parts in which the examples of a step go through the network."""
        return self.accumulate * self.micro_batches
