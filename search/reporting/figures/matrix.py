"""A matrix in colours."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from search.checks.evidence import Matrix
from search.reporting.figures.canvas import INK, empty, framed
from search.reporting.figures.numbers import Array, finite, shrunk, spread
from search.reporting.figures.words import in_line

_MOST_CELLS = 400
_FEW_CELLS = 12
"""A side; so many have their numbers written into them."""


def draw_matrix(figure: Matrix, coarseness: float) -> Canvas:
    """Draw cells beside their scale: with zero in white where there are both signs, and grey where not finite."""
    given = np.atleast_2d(np.real(figure.values))
    if not given.size:
        return empty(figure.title)
    given = given.reshape(len(given), -1)
    most = int(_MOST_CELLS / coarseness)
    values = shrunk(finite(given), most, most)
    rows, columns = given.shape
    low, high = spread(values)
    signed = low < 0 < high and bool(np.nanmin(values) < 0 < np.nanmax(values))
    if signed:
        low, high = -max(-low, high), max(-low, high)
    stretched = not 1 / 3 <= rows / columns <= 3
    canvas, axes = framed(figure.title, 720 if stretched else int(np.clip(560 * columns / rows, 420, 900)), 520)
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=colormaps["RdBu_r" if signed else "viridis"].with_extremes(bad="#BBBBBB"),
        vmin=low,
        vmax=high,
        aspect="auto" if stretched else "equal",
        interpolation="nearest",
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
    )
    axes.set(xlabel=in_line(figure.x, 80), ylabel=in_line(figure.y, 60))
    axes.grid(visible=False)
    axes.xaxis.set_ticks(_ticks(columns))
    axes.yaxis.set_ticks(_ticks(rows))
    scale = canvas.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    scale.ax.tick_params(labelsize=9, length=0)
    scale.ax.spines[:].set_visible(False)
    if max(rows, columns) <= _FEW_CELLS:
        _write_numbers(axes, values, given, (low, high), signed=signed)
    return canvas


def _ticks(cells: int) -> range:
    """Return at most a dozen cells at even, round distances."""
    step = next(s * 10**e for e in range(12) for s in (1, 2, 5) if cells <= 12 * s * 10**e)
    return range(0, cells, step)


def _write_numbers(axes: Axes, values: Array, given: Array, scale: tuple[float, float], *, signed: bool) -> None:
    """Write each cell's number into it, light on dark."""
    low, high = scale
    for (row, column), value in np.ndenumerate(values):
        share = 0.5 if math.isnan(value) else (value - low) / (high - low)
        dark = not math.isnan(value) and (abs(share - 0.5) > 0.35 if signed else share < 0.6)
        number = f"{given[row, column].item():.3g}"
        axes.text(column, row, number, ha="center", va="center", fontsize=8, color="white" if dark else INK)
