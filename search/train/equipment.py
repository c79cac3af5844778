"""What a worker gets before its first piece of work."""

from __future__ import annotations

from dataclasses import dataclass

from search.train.data.arrays import Dataset


@dataclass(frozen=True, kw_only=True)
class Equipment:
    """What a worker is given once: the data and the device to work on."""

    dataset: Dataset
    device: str
    threads: int
    gpu_share: float = 1.0
    """Part of a GPU's memory that the worker may take: Ray's own fractions are bookkeeping."""
    token: tuple[str, str] | None = None
    """A file that the driver wrote and what stands in it: a worker must see the driver's folder."""
