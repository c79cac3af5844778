"""The data of a stack: inputs as the networks are given them, gathered for all networks at once."""

from __future__ import annotations

from torch import Tensor

from search.train.batches import ResidentBatches
from search.train.estimator import Estimator

_MOST_BYTES = 2**28


class Inputs:
    """Standardised once, where that takes no more than a quarter of a GiB; else batch by batch."""

    def __init__(self, estimator: Estimator, batches: ResidentBatches) -> None:
        self._estimator, self._batches = estimator, batches
        whole = batches.inputs
        fits = whole.numel() * estimator.mean.element_size() <= _MOST_BYTES
        self._standardised = estimator.standardised(whole) if fits else None

    def at(self, indices: Tensor) -> Tensor:
        """Return the inputs of examples, int64 (...) on the device, standardised: (..., *shape)."""
        if self._standardised is not None:
            return self._standardised[indices]
        found = self._batches.inputs[indices]
        flat = found.flatten(0, indices.ndim - 1)
        standardised = self._estimator.standardised(flat)
        return standardised.view(*indices.shape, *standardised.shape[1:])
