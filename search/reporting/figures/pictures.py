"""Inputs side by side, in units of pixels: small pictures are magnified evenly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from search.checks.evidence import Pictures
from search.reporting.figures.canvas import COLOURS, FAINT, FRAME, INK, WIDTH, empty, in_pixels
from search.reporting.figures.numbers import Array, finite, shrunk, spread, thinned
from search.reporting.figures.words import wrapped

MOST = 64
_RED = np.array([214.0, 39.0, 40.0])
_MARGIN, _GAP = 16, 12
_CAPTION_LINES = 3


def draw_pictures(figure: Pictures, coarseness: float) -> Canvas:
    """Draw the first inputs with their captions, all to one scale."""
    inputs = _stacked(finite(figure.inputs[:MOST]))
    if not inputs.size:
        return empty(figure.title)
    number, series = len(inputs), inputs.ndim == 3
    grid = _Grid.of(number, wide=series)
    captions = [wrapped(caption, int(grid.side / 6.2), _CAPTION_LINES) for caption in figure.captions[:number]]
    lines = max((caption.count("\n") + 1 for caption in captions if caption), default=0)
    width = max(grid.columns * (grid.side + _GAP) - _GAP + 2 * _MARGIN, 520)
    title = wrapped(figure.title, width // 8, 2)
    top = _MARGIN + 18 * (title.count("\n") + 1) + 6
    deep = grid.height + 14 * lines + _GAP + 4
    canvas, axes = in_pixels(width, top + grid.rows * deep + 24)
    corners = [(_MARGIN + i % grid.columns * (grid.side + _GAP), top + i // grid.columns * deep) for i in range(number)]
    put = _put_series if series else _put_pictures
    words = put(axes, inputs, corners, grid, coarseness)
    if len(figure.inputs) > number:
        words += f"; {number} of {len(figure.inputs):,} shown"
    axes.text(_MARGIN, _MARGIN - 2, title, fontsize=11, fontweight="bold", color=INK, va="top")
    axes.text(_MARGIN, axes.get_ylim()[0] - 10, words, fontsize=8, color=FAINT, va="bottom")
    for (x, y), caption in zip(corners, captions, strict=False):
        axes.text(x, y + grid.height + 5, caption, fontsize=8, color=INK, va="top", linespacing=1.15)
    return canvas


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """How many cells, and their size in pixels."""

    rows: int
    columns: int
    side: int
    height: int

    @classmethod
    def of(cls, number: int, *, wide: bool) -> _Grid:
        rows = math.ceil(number / (4 if wide and number <= 16 else 8))
        columns = math.ceil(number / rows)
        side = min(560 if wide else 220, (WIDTH - 2 * _MARGIN + _GAP) // columns - _GAP)
        return cls(rows=rows, columns=columns, side=side, height=min(side * 3 // 5, 160) if wide else side)


def _stacked(inputs: Array) -> Array:
    """Return inputs as pictures (N, C, H, W) or series (N, C, L); of more dimensions, the first of each."""
    if inputs.ndim < 3:
        return inputs.reshape(len(inputs), 1, inputs.shape[1] if inputs.ndim == 2 else 1)
    while inputs.ndim > 4:
        inputs = inputs[:, 0]
    return inputs


def _put_pictures(axes: Axes, inputs: Array, corners: Sequence[tuple[int, int]], grid: _Grid, coarseness: float) -> str:
    """Put pictures (N, C, H, W) at their corners; return the scale in words."""
    colours = inputs.shape[1] == 3
    inputs = inputs if colours else inputs[:, :1]
    low, high = spread(inputs)
    rgb = np.repeat((inputs - low) / (high - low) * 255, 1 if colours else 3, axis=1).transpose(0, 2, 3, 1)
    lost = np.isnan(rgb).any(axis=-1, keepdims=True)
    rgb = np.where(lost, _RED, rgb)
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    board = np.full((int(canvas.bbox.height), int(canvas.bbox.width), 3), 255, dtype=np.uint8)
    for (x, y), picture in zip(corners, rgb, strict=True):
        shown = _fitted(picture, int(grid.side / coarseness), grid.side)
        height, width = shown.shape[:2]
        y += grid.height - height  # it stands on its caption
        board[y - 1 : y + height + 1, x - 1 : x + width + 1] = 208  # a frame
        board[y : y + height, x : x + width] = np.rint(shown)
    canvas.figimage(board, zorder=-1)
    return f"one scale for all: {low:.3g} to {high:.3g}" + ("; red is not finite" if lost.any() else "")


def _fitted(picture: Array, most: int, side: int) -> Array:
    """Return the picture (H, W, 3) with at most so many pixels a side, each of them as a square as large as fits."""
    share = min(1.0, most / max(picture.shape[:2]))
    picture = shrunk(picture, *(max(1, round(size * share)) for size in picture.shape[:2]))
    times = max(1, side // max(picture.shape[:2]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def _put_series(axes: Axes, inputs: Array, corners: Sequence[tuple[int, int]], grid: _Grid, coarseness: float) -> str:
    """Put series (N, C, L) at their corners, a line a channel; return the scale in words."""
    low, high = spread(inputs)
    channels, length = inputs.shape[1:]
    drawn = min(channels, len(COLOURS))
    places = np.linspace(0, grid.side, length) if length > 1 else np.array([grid.side / 2])
    for (x, y), example in zip(corners, inputs, strict=True):
        right, bottom = x + grid.side, y + grid.height
        axes.plot([x, right, right, x, x], [y, y, bottom, bottom, y], color=FRAME, linewidth=0.8)
        for values, colour in zip(example[:drawn], COLOURS, strict=False):
            at, line = thinned(places, values, int(2 * grid.side / coarseness))
            share = (line - low) / (high - low)
            few = np.count_nonzero(np.isfinite(line)) <= 1
            axes.plot(
                x + at,
                bottom - 3 - (grid.height - 6) * share,
                color=colour,
                linewidth=0.9,
                marker="." if few else "",
            )
    words = f"one scale for all: {low:.3g} to {high:.3g}; {length:,} steps"
    if channels > 1:
        words += f", {drawn} of {channels} channels" if drawn < channels else f", {channels} channels"
    return words + ("; gaps are not finite" if np.isnan(inputs).any() else "")
