"""Batches in a given order: from arrays that lie on the device, or through PyTorch's DataLoader."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from search.train.data.arrays import Array, Examples

Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs (N, *shape) and targets (N,) on the device, and the indices of the examples (N,) on the CPU."""


class Batches(Protocol):
    """Where batches come from; the order is always the caller's."""

    def __call__(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield the examples of `order`, int64 (M,), batch by batch."""
        ...


BatchesOf = Callable[[Mapping[str, Any]], Batches]
"""Gives the batches of the data as a `trainer` node asks for them."""


class ResidentBatches:
    """Everything on the device once, each batch gathered there."""

    def __init__(self, examples: Examples, device: torch.device) -> None:
        self.inputs = _tensor(examples.inputs).to(device)
        self.targets = _tensor(examples.targets).to(device)
        self._device = device

    def __call__(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield batches gathered on the device."""
        on_device = order.to(self._device)
        for start in range(0, len(order), batch_size):
            chosen = on_device[start : start + batch_size]
            yield self.inputs[chosen], self.targets[chosen], order[start : start + batch_size]


class LoaderBatches:
    """An ordinary DataLoader, for data that does not fit on the device (a memory-mapped array, say)."""

    def __init__(self, examples: Examples, device: torch.device, num_workers: int) -> None:
        self._examples, self._device, self._num_workers = _Indexed(examples), device, num_workers

    def __call__(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield batches that were collated on the CPU."""
        loader: DataLoader[Any] = DataLoader(
            self._examples,
            batch_size=batch_size,
            sampler=order.tolist(),
            num_workers=self._num_workers,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # else it draws from the global one, and dropout would differ
        )
        for inputs, targets, indices in loader:
            yield inputs.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True), indices


def batches_of(examples: Examples, device: torch.device, trainer: Mapping[str, Any]) -> Batches:
    """Return the batches of examples as a `trainer` node asks for them."""
    if trainer["loading"] == "loader":
        return LoaderBatches(examples, device, trainer["loader_workers"])
    return ResidentBatches(examples, device)


class _Indexed(TorchDataset[tuple[Array, Array, int]]):
    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[Array, Array, int]:
        return np.array(self._examples.inputs[index]), np.array(self._examples.targets[index]), index


def _tensor(array: Array) -> Tensor:
    with warnings.catch_warnings():  # shared arrays are read-only; nothing here writes to them
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
