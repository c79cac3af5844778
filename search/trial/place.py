"""Where work is done: the data, and the device that it lies on from one piece of work to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from search.errors import UsageError
from search.train.batches import Batches, batches_of
from search.train.data.arrays import Dataset


class Place:
    """One worker's data and device ("auto": a GPU where torch sees one)."""

    def __init__(self, dataset: Dataset, device: str) -> None:
        """Raise UsageError where there is no such device."""
        self.dataset = dataset
        self.device = torch.device(_device(device))
        self._resident: Batches | None = None

    def batches(self, trainer: Mapping[str, Any]) -> Batches:
        """Return the batches of the data as a `trainer` node asks for them."""
        if trainer["loading"] == "loader":
            return batches_of(self.dataset.examples, self.device, trainer)
        if self._resident is None:
            self._resident = batches_of(self.dataset.examples, self.device, trainer)
        return self._resident


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device={name}: torch sees no GPU here; use device=cpu")
    return name
