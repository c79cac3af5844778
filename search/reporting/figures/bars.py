"""Groups of bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from search.checks.evidence import Bars
from search.reporting.figures.canvas import COLOURS, FAINT, INK, RED, WIDTH, add_legend, draw_levels, empty, framed
from search.reporting.figures.numbers import Array, finite
from search.reporting.figures.words import in_line

_MOST_LABELS = 120
_FEW_BARS = 24
"""So many have their values written above them."""


def draw_bars(figure: Bars) -> Canvas:
    """Draw a group a label, of the first labels where there are many; what is not finite is written."""
    bars = {name: finite(values).ravel() for name, values in figure.bars.items()}
    labels = max((values.size for values in bars.values()), default=0)
    number = min(labels, _MOST_LABELS)
    if not number:
        return empty(figure.title)
    total = number * len(bars)
    canvas, axes = framed(figure.title, int(np.clip(200 + 40 * total, 560, WIDTH)), 440)
    axes.set_ylabel(in_line(figure.y, 50))
    width = 0.8 / len(bars)
    drawn: dict[str, Artist] = {}
    for i, (name, values), colour in zip(range(len(bars)), bars.items(), cycle(COLOURS), strict=False):
        values = values[:number]
        at = np.arange(values.size) + (i - (len(bars) - 1) / 2) * width
        axes.bar(at, np.nan_to_num(values), 0.92 * width, color=colour)
        drawn[name] = Patch(color=colour)
        written = [f"{value:.3g}" for value in np.real(figure.bars[name]).ravel()[:number].tolist()]
        _write_values(axes, at, values, written, every=total <= _FEW_BARS)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.margins(y=0.1)
    axes.set_xlim(-0.6, number - 0.4)
    _write_labels(axes, [in_line(label, 24) for label in figure.labels[:number]], canvas.bbox.width - 200)
    draw_levels(axes, figure.levels)
    if len(bars) > 1:
        add_legend(canvas, drawn)
    if labels > number:
        axes.set_xlabel(f"the first {number} of {labels:,}", color=FAINT)
    return canvas


def _write_values(axes: Axes, at: Array, values: Array, written: Sequence[str], *, every: bool) -> None:
    """Write values above their bars: all of them, or those alone that a bar cannot show."""
    for x, value, word in zip(at, values, written, strict=True):
        lost, below = math.isnan(value), value < 0
        if every or lost:
            axes.annotate(
                word,
                (x, 0 if lost else value),
                (0, -3 if below else 3),
                textcoords="offset points",
                fontsize=8,
                color=RED if lost else INK,
                ha="center",
                va="top" if below else "bottom",
            )


def _write_labels(axes: Axes, labels: Sequence[str], width: float) -> None:
    """Write the labels so that they stand apart: aslant where they are long, not each where they are many."""
    room = width / max(1, len(labels))
    every = max(1, math.ceil(13 / room))
    longest = 7 * max(map(len, labels), default=0)
    angle = 0 if longest < room * every else 35 if room > 24 else 90
    shown = range(0, len(labels), every)
    axes.set_xticks(list(shown), [labels[i] for i in shown], rotation=angle, fontsize=9 if room > 16 else 8)
    axes.tick_params(axis="x", length=0)
    if angle == 35:
        for word in axes.get_xticklabels():
            word.set(ha="right", rotation_mode="anchor")
