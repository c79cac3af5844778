"""Mean, standard deviation and range of inputs, and how far one such description is from another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search.checks.evidence import Array

CHUNK_VALUES = 2**21


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Statistics of a part's inputs per channel or feature (C,), missing values aside."""

    count: Array
    mean: Array
    std: Array
    low: Array
    high: Array


def chunks(inputs: Array, indices: Array) -> Iterator[Array]:
    """Yield the inputs, some at a time."""
    step = max(1, CHUNK_VALUES // max(1, int(np.prod(inputs.shape[1:]))))
    for start in range(0, len(indices), step):
        yield inputs[indices[start : start + step]]


def moments_of(inputs: Array, indices: Array) -> Moments:
    """Return the statistics in one pass; sums are of differences from the first chunk's mean, for the digits' sake."""
    axes = (0, *range(2, inputs.ndim))
    shape = (1, -1, *(1,) * (inputs.ndim - 2))
    centre = None
    count, total, squares, low, high = 0.0, 0.0, 0.0, np.inf, -np.inf
    for values in chunks(inputs, indices):
        chunk = values.astype(np.float64)
        known = np.isfinite(chunk) if inputs.dtype.kind == "f" else np.ones(1, dtype=bool)
        number = np.broadcast_to(known, chunk.shape).sum(axis=axes)
        if centre is None:
            sums = np.where(known, chunk, 0.0).sum(axis=axes)
            centre = sums / np.maximum(number, 1)
        low = np.minimum(low, np.where(known, chunk, np.inf).min(axis=axes))
        high = np.maximum(high, np.where(known, chunk, -np.inf).max(axis=axes))
        chunk = np.where(known, chunk - centre.reshape(shape), 0.0)
        count, total, squares = count + number, total + chunk.sum(axis=axes), squares + (chunk**2).sum(axis=axes)
    assert centre is not None
    mean = total / np.maximum(count, 1)
    variance = np.maximum(squares / np.maximum(count, 1) - mean**2, 0.0)
    return Moments(
        count=np.asarray(count), mean=mean + centre, std=np.sqrt(variance), low=np.asarray(low), high=np.asarray(high)
    )


def apart(mean: Array, std: Array, wanted: Moments) -> float:
    """Return the largest difference over channels that vary, in their standard deviations."""
    # what 32 bits of a mean cannot tell apart is no difference
    rounding = 4 * np.finfo(np.float32).eps * np.abs(wanted.mean)
    varies = wanted.std > np.maximum(1e-7, rounding * 8)
    unit = np.where(varies, wanted.std, 1.0)
    means = np.maximum(np.abs(mean - wanted.mean) - rounding, 0.0) / unit
    spreads = np.abs(np.log(std / unit))
    return float(np.where(varies, np.maximum(means, spreads), 0.0).max(initial=0.0))


def merged(parts: list[Moments]) -> Moments:
    """Return the statistics of several parts together."""
    counts = np.stack([p.count for p in parts])
    weights = counts / np.maximum(counts.sum(axis=0), 1)
    mean = sum(w * p.mean for w, p in zip(weights, parts, strict=True))
    variance = sum(w * (p.std**2 + (p.mean - mean) ** 2) for w, p in zip(weights, parts, strict=True))
    low, high = np.min([p.low for p in parts], axis=0), np.max([p.high for p in parts], axis=0)
    return Moments(count=counts.sum(axis=0), mean=np.asarray(mean), std=np.sqrt(variance), low=low, high=high)
