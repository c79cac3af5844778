"""Lines over an axis, with marks and levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from search.checks.evidence import Curves
from search.reporting.figures.canvas import COLOURS, FAINT, add_legend, draw_levels, empty, framed, share_of
from search.reporting.figures.numbers import Array, finite, placeable, thinned
from search.reporting.figures.words import in_line

_MOST_POINTS = 2000
_FEW_POINTS = 30
"""So many are shown as dots too."""
_DASHES = ("-", "--")


def draw_curves(figure: Curves, coarseness: float) -> Canvas:
    """Draw lines; a logarithmic axis leaves gaps where values are not positive, and is linear where all are."""
    given = {name: finite(line) for name, line in figure.lines.items()}
    given = {name: line for name, line in given.items() if line.ndim == 2 and len(line) == 2}
    log_x, log_y = (
        asked and any((line[axis] > 0).any() for line in given.values())
        for axis, asked in enumerate((figure.log_x, figure.log_y))
    )
    lines = {name: _with_gaps(line, log_x, log_y) for name, line in given.items()}
    if not any(np.isfinite(line).all(axis=0).any() for line in lines.values()):
        return empty(figure.title)
    canvas, axes = framed(figure.title, 820, 460)
    axes.set(xlabel=in_line(figure.x, 80), ylabel=in_line(figure.y, 50))
    axes.set(xscale="log" if log_x else "linear", yscale="log" if log_y else "linear")
    drawn: dict[str, Artist] = {}
    for (name, line), style in zip(lines.items(), _styles(len(lines)), strict=True):
        few = np.count_nonzero(np.isfinite(line).all(axis=0)) <= _FEW_POINTS
        x, y = thinned(line[0], line[1], int(_MOST_POINTS / coarseness))
        (drawn[name],) = axes.plot(x, y, linewidth=1.6, marker="." if few else "", markersize=7, **style)
    draw_levels(axes, figure.levels, log=log_y)
    _draw_marks(axes, {word: at for word, at in figure.marks.items() if placeable(at, log=log_x)})
    if len(drawn) > 1 or next(iter(drawn)) not in ("", figure.y, figure.title):
        add_legend(canvas, drawn)
    return canvas


def _with_gaps(line: Array, log_x: bool, log_y: bool) -> Array:
    """Return the line with gaps where an axis has no place."""
    lost = ((line[0] <= 0) & log_x) | ((line[1] <= 0) & log_y)
    return np.where(lost, np.nan, line)


def _styles(number: int) -> list[dict[str, Any]]:
    """Return a style a line: colours of their own, or shades in order where there are too many for that."""
    if number > len(COLOURS) * len(_DASHES):
        return [{"color": colour} for colour in colormaps["viridis"](np.linspace(0, 0.92, number))]
    return [{"color": colour, "linestyle": dash} for dash in _DASHES for colour in COLOURS][:number]


def _draw_marks(axes: Axes, marks: Mapping[str, float]) -> None:
    """Draw vertical lines with their words above the axes, in as many rows as they need."""
    for at in marks.values():
        axes.axvline(at, color=FAINT, linewidth=1.1, linestyle=(0, (1.5, 1.5)), zorder=2.5)
    axes.set_xlim(axes.get_xlim())  # as it is now, so that the places hold
    ends: list[float] = []  # of the last word in each row
    for name, at in sorted(marks.items(), key=lambda item: item[1]):
        word = in_line(name, 40)
        width = 0.0095 * len(word)
        start = min(max(share_of(axes, at, axis=0) - width / 2, 0.0), 1 - width)
        row = next((r for r, end in enumerate(ends) if end < start), len(ends))
        ends[row : row + 1] = [start + width + 0.01]
        axes.text(
            start + width / 2,
            1.015 + 0.05 * row,
            word,
            transform=axes.transAxes,
            fontsize=9,
            color=FAINT,
            ha="center",
        )
