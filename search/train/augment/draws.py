"""Random numbers for the examples of a batch, and the bounds of strengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from search.errors import UsageError

Limits = Mapping[str, tuple[float, float]]
"""The lowest and the highest value of each strength, both allowed."""


def uniform(inputs: Tensor, low: float, high: float, *shape: int) -> Tensor:
    """Return numbers (N, *shape) between `low` and `high`, on the device and of the type of inputs (N, ...)."""
    return inputs.new_empty((len(inputs), *shape)).uniform_(low, high)


def chance(inputs: Tensor, share: float, *shape: int) -> Tensor:
    """Return a mask (N, *shape) that is true with probability `share`."""
    return uniform(inputs, 0.0, 1.0, *shape) < share


def per_example(values: Tensor, inputs: Tensor) -> Tensor:
    """Return values (N,) shaped to broadcast against inputs (N, *shape)."""
    return values.reshape(-1, *(1,) * (inputs.ndim - 1))


def stretch(length: int, size: int, inputs: Tensor) -> Tensor:
    """Return a mask (N, size) of `length` positions in a row around a drawn one; the ends may cut it off."""
    first = torch.randint(size, (len(inputs), 1), device=inputs.device) - length // 2
    positions = torch.arange(size, device=inputs.device)
    return (positions >= first) & (positions < first + length)


def require_within(strengths: Any, limits: Limits) -> None:
    """Raise UsageError for the first of an augmentation's strengths that lies outside its limits."""
    for name, (low, high) in limits.items():
        value = getattr(strengths, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UsageError(f"augment.{name}={value}: must be a number in {low:g} to {high:g}")
