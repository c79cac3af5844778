"""Numbers made drawable: finite, and no more of them than a figure can show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_LARGEST = 1e100
"""Beyond it, matplotlib's own arithmetic overflows."""


def finite(values: Any) -> Array:
    """Return float64 of drawable size, NaN where the values are not finite."""
    numbers = np.array(np.real(values), dtype=np.float64)
    numbers[~np.isfinite(numbers)] = np.nan
    return np.clip(numbers, -_LARGEST, _LARGEST)


def spread(values: Array) -> tuple[float, float]:
    """Return the lowest and the highest value, never the same; 0 and 1 where none is finite."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if high - low > 1e-12 * max(abs(low), abs(high)):
        return low, high
    half = 0.5 * max(1.0, abs(low))
    return low - half, high + half


def placeable(value: float, *, log: bool) -> bool:
    """Tell whether an axis has a place for the value."""
    return math.isfinite(value) and abs(value) <= _LARGEST and (value > 0 or not log)


def thinned(x: Array, y: Array, most: int) -> tuple[Array, Array]:
    """Return at most so many points of a line: the lowest and the highest of each stretch, so that no peak is lost."""
    if len(y) <= most:
        return x, y
    kept: list[int] = []
    for stretch in np.array_split(np.arange(len(y)), max(1, most // 2)):
        known = stretch[np.isfinite(y[stretch])]
        ends = (known[np.argmin(y[known])], known[np.argmax(y[known])]) if known.size else stretch[:1]
        kept += sorted({int(i) for i in ends})
    return x[kept], y[kept]


def shrunk(values: Array, rows: int, columns: int) -> Array:
    """Return an array (H, W, ...) with at most so many rows and columns, each the mean of those it stands for."""
    for axis, most in enumerate((rows, columns)):
        size = values.shape[axis]
        if size > most:
            starts = np.arange(most) * size // most
            counts = np.diff([*starts, size]).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
            values = np.add.reduceat(values, starts, axis=axis) / counts
    return values
