"""The augmentation that a trial's configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from search.config.build import called_or_made
from search.errors import UsageError
from search.train.augment.image import Image
from search.train.augment.mixing import Mixed
from search.train.augment.series import Series
from search.train.augment.table import Columns, Table

_OURS = {"picture": Image, "series": Series, "table": Table}


class Augment(Protocol):
    """Changes a training batch."""

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Mixed | None]:
        """Return standardised inputs (N, *shape) changed, in the same shape and type, and who was mixed with whom."""
        ...


def augment_of(node: Mapping[str, Any] | None, kind: str, columns: Columns | None = None) -> Augment | None:
    """Return what an `augment` node names, for data of that kind (picture, series, table, other); None without a node.

    Its target is one of ours, or of the user's own: a function of inputs (N, *shape), standardised, that returns
    others of the same shape, or a class that makes one, e.g. an nn.Module. `columns` are those of a table, on the
    device, where they are known. Raises UsageError where it cannot be made, a strength is out of bounds or it is for
    data of another kind.
    """
    if node is None:
        return None
    augment = called_or_made(node, "augment")
    if not callable(augment):
        raise UsageError(f"augment._target_={node['_target_']}: gives {type(augment).__name__}, nothing to call")
    ours = next((meant for meant, one in _OURS.items() if isinstance(augment, one)), None)
    if ours is None:
        return _Own(augment)
    if ours != kind:
        raise UsageError(f"augment={type(augment).__name__.lower()}: fits {ours} data only, and this is a {kind}")
    found: Augment = augment if columns is None or ours != "table" else partial(augment, columns=columns)
    return found


def ours(augment: Augment) -> bool:
    """Tell whether an augmentation is one of ours: all that it draws is of torch's generators."""
    return not isinstance(augment, _Own)


class _Own:
    """A user's augmentation, which mixes nothing."""

    def __init__(self, augment: Callable[[Tensor], Tensor]) -> None:
        self._augment = augment

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Mixed | None]:
        if isinstance(self._augment, nn.Module):
            self._augment.to(inputs.device)
        with torch.no_grad():
            found = self._augment(inputs)
        if not isinstance(found, Tensor) or found.shape != inputs.shape or found.dtype != inputs.dtype:
            what = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
            raise UsageError(f"augment: gives {what} for {tuple(inputs.shape)} {inputs.dtype}; it must give the same")
        return found, None
