"""The data of a stack: inputs as the networks are given them, gathered for all networks at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from search.train.batches import ResidentBatches
from search.train.estimator import Estimator
from search.train.steps import number_of_parts

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
    """What the networks are given in a step or a part of it: examples int64 (M, N), inputs, targets (M, N)."""

    examples: Tensor
    inputs: Tensor
    targets: Tensor


class Feed:
    """An epoch of a stack, step by step."""

    def __init__(
        self, inputs: Inputs, targets: Tensor, orders: Tensor, size: int, parts: int, most_steps: int | None = None
    ) -> None:
        """`orders` are the examples of each network, int64 (M, N); a step takes `size` of them, or what is left.

        They go through the networks in so many `parts`. No more than `most_steps` are gathered at once.
        """
        self._inputs, self._targets, self._orders, self._size, self._parts = inputs, targets, orders, size, parts
        full = orders.shape[1] // size
        fitting = _AT_ONCE // max(1, inputs.bytes_of(len(orders) * size))
        self._full, self._ahead = full, min(fitting, most_steps or full)
        self._first, self._block = 0, list[Fed]()

    def number(self, step: int) -> int:
        """Return how many examples of each network a step takes, counted from 0."""
        return min(self._size, self._orders.shape[1] - step * self._size)

    def parts(self, step: int) -> Iterator[Fed]:
        """Yield what the networks are given in a step, part by part, as `torch.tensor_split` has them."""
        parts = number_of_parts(self._parts, self.number(step))
        if step >= self._full or self._ahead < 1:
            begin = step * self._size
            for some in self._orders[:, begin : begin + self._size].tensor_split(parts, dim=1):
                yield self._of(some)
            return
        if not 0 <= step - self._first < len(self._block):
            self._first, self._block = step, self._gathered(step)
        whole = self._block[step - self._first]
        pieces = (values.tensor_split(parts, dim=1) for values in (whole.examples, whole.inputs, whole.targets))
        yield from [whole] if parts == 1 else itertools.starmap(Fed, zip(*pieces, strict=True))

    def _gathered(self, step: int) -> list[Fed]:
        """Return a step and some that follow it."""
        begin, steps = step * self._size, min(self._full - step, self._ahead)
        several = self._orders[:, begin : begin + steps * self._size]
        of_steps = several.reshape(len(several), steps, self._size)
        whole = self._of(of_steps.transpose(0, 1).contiguous())  # what is gathered lies as its indices do
        return [Fed(*row) for row in zip(whole.examples, whole.inputs, whole.targets, strict=True)]

    def _of(self, examples: Tensor) -> Fed:
        return Fed(examples, self._inputs.at(examples), self._targets[examples])
