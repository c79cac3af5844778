"""What a network is given: refusals of one line for shapes and names that it cannot take, and inputs cut to pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor
from torch.nn import functional

from search.errors import UsageError

T = TypeVar("T")


def require_axes(model: str, in_shape: tuple[int, ...]) -> int:
    """Return how many axes an input has beside its channels: 1 for a series (C, L), 2 for a picture (C, H, W).

    Raises UsageError for any other.
    """
    if len(in_shape) not in (2, 3):
        needed = "needs series (C, L) or pictures (C, H, W)"
        raise UsageError(f"model={model}: {needed}, the data has shape {in_shape}; use model=mlp")
    return len(in_shape) - 1


def one_of(key: str, value: str, allowed: Mapping[str, T]) -> T:
    """Return what `value` names among the allowed; raise UsageError where it names nothing."""
    if value not in allowed:
        raise UsageError(f"{key}={value}: no such option; allowed: {', '.join(allowed)}")
    return allowed[value]


def filled_up(inputs: Tensor, multiple: int, axes: int) -> Tensor:
    """Return inputs whose last axes are multiples of a number, with zeros (the mean, once standardised) at the end."""
    missing: list[int] = []
    for size in reversed(inputs.shape[-axes:]):  # as `pad` wants it: the last axis first
        missing += [0, -size % multiple]
    return functional.pad(inputs, missing) if any(missing) else inputs
