"""A learning rate's course over a run, drawn for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from search.train.metrics import Array

WIDTH, HEIGHT = 60, 8
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def drawn(rates: Array, epochs: int) -> list[str]:
    """Return the lines of a plot of rates (steps,), at least one, over so many epochs; an axis on the left and below.

    A column is as high as the mean of its steps; the axis starts at 0.
    """
    top = float(rates.max())
    levels = np.rint(_columns(rates) / (top or 1.0) * HEIGHT * (len(_EIGHTHS) - 1)).astype(int)
    labels = {HEIGHT - 1: f"{top:.2g}", HEIGHT // 2 - 1: f"{top / 2:.2g}"}
    room = max(map(len, (*labels.values(), "0")))
    lines = [
        f"{labels.get(row, ''):>{room}} {'┤' if row in labels else '│'}{_row(levels, row)}".rstrip()
        for row in reversed(range(HEIGHT))
    ]
    middle = f"{epochs / 2:g}".center(WIDTH - 1 - len(f"{epochs}"))
    return [*lines, f"{'0':>{room}} └{'─' * WIDTH}", f"{'':{room}}  0{middle}{epochs}"]


def momentum_line(momenta: Array | None) -> str | None:
    """Return in words how the momentum (steps,) goes; None where the schedule leaves it alone."""
    if momenta is None:
        return None
    lowest = int(momenta.argmin()) / max(1, len(momenta) - 1)
    span = f"{momenta.max():.3g} to {momenta.min():.3g}"
    return f"momentum, or the first of betas: {span}, lowest after {lowest:.0%} of the run"


def cycles_line(cycle_ends: Sequence[int], steps_per_epoch: int) -> str | None:
    """Return in words where cycles end; None where there are none."""
    if not cycle_ends:
        return None
    ends = ", ".join(f"{end / steps_per_epoch:.3g}" for end in cycle_ends)
    return f"cycles end at epoch {ends}"


def _columns(rates: Array) -> Array:
    """Return a mean for each column (WIDTH,); a run of fewer steps repeats them."""
    edges = np.linspace(0, len(rates), WIDTH + 1)
    spans = [(int(a), max(int(a) + 1, int(np.ceil(b)))) for a, b in pairwise(edges)]
    return np.array([rates[a:b].mean() for a, b in spans])


def _row(levels: Array, row: int) -> str:
    full = len(_EIGHTHS) - 1
    return "".join(_EIGHTHS[min(max(level - row * full, 0), full)] for level in levels)
