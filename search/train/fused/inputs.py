"""The data of a stack: inputs as the networks are given them, gathered for all networks at once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from search.train.batches import ResidentBatches
from search.train.estimator import Estimator

_MOST_BYTES = 2**28
_AT_ONCE = 2**22
"""Bytes of inputs that are gathered at once: those of a few steps, which would take longer one by one."""


class Inputs:
    """Standardised once, where that takes no more than a quarter of a GiB; else batch by batch."""

    def __init__(self, estimator: Estimator, batches: ResidentBatches) -> None:
        self._estimator, self._batches = estimator, batches
        whole = batches.inputs
        fits = whole.numel() * estimator.mean.element_size() <= _MOST_BYTES
        self._standardised = estimator.standardised(whole) if fits else None

    def bytes_of(self, number: int) -> int:
        """Return how many bytes so many examples take."""
        whole = self._batches.inputs if self._standardised is None else self._standardised
        return number * whole[:1].numel() * self._estimator.mean.element_size()

    def at(self, indices: Tensor) -> Tensor:
        """Return the inputs of examples, int64 (...) on the device, standardised: (..., *shape)."""
        if self._standardised is not None:
            return self._standardised[indices]
        found = self._batches.inputs[indices]
        flat = found.flatten(0, indices.ndim - 1)
        standardised = self._estimator.standardised(flat)
        return standardised.view(*indices.shape, *standardised.shape[1:])


@dataclass(frozen=True)
class Fed:
    """What the networks are given in a step: examples int64 (M, N), their inputs (M, N, *shape) and targets (M, N)."""

    examples: Tensor
    inputs: Tensor
    targets: Tensor

    def parts(self, number: int) -> list[Fed]:
        """Return so many parts of it, as `torch.tensor_split` has them."""
        if number == 1:
            return [self]
        pieces = (values.tensor_split(number, dim=1) for values in (self.examples, self.inputs, self.targets))
        return [Fed(*piece) for piece in zip(*pieces, strict=True)]


class Feed:
    """An epoch of a stack, step by step."""

    def __init__(self, inputs: Inputs, targets: Tensor, orders: Tensor, size: int) -> None:
        """`orders` are the examples of each network, int64 (M, N); a step takes `size` of them, or what is left."""
        self._inputs, self._targets, self._orders, self._size = inputs, targets, orders, size
        self._full = orders.shape[1] // size
        self._first, self._block = 0, list[Fed]()

    def __call__(self, step: int) -> Fed:
        """Return what the networks are given in a step, counted from 0."""
        if not 0 <= step - self._first < len(self._block):
            self._first, self._block = step, self._gathered(step)
        return self._block[step - self._first]

    def _gathered(self, step: int) -> list[Fed]:
        """Return a step and some that follow it."""
        begin = step * self._size
        if step >= self._full:
            return [self._of(self._orders[:, begin:])]
        one = self._orders[:, begin : begin + self._size]
        steps = min(self._full - step, max(1, _AT_ONCE // max(1, self._inputs.bytes_of(one.numel()))))
        several = self._orders[:, begin : begin + steps * self._size]
        of_steps = several.reshape(len(several), steps, self._size)
        whole = self._of(of_steps.transpose(0, 1).contiguous())  # what is gathered lies as its indices do
        rows = zip(whole.examples, whole.inputs, whole.targets, strict=True)
        return [Fed(*row) for row in rows]

    def _of(self, examples: Tensor) -> Fed:
        return Fed(examples, self._inputs.at(examples), self._targets[examples])
