"""What the figures have in common: paper, colours, axes under a title, lines with words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from search.reporting.figures.numbers import placeable
from search.reporting.figures.words import in_line, wrapped

DPI = 100
WIDTH = 1180
"""Of the widest figure, in pixels."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#4D4D4D")
"""After Okabe and Ito 2008: told apart by the colour blind too."""
INK, FAINT, FRAME, RED = "#222222", "#5F5F5F", "#D0D0D0", "#D62728"
_MOST_NAMES = 12


def framed(title: str, width: int, height: int) -> tuple[Canvas, Axes]:
    """Return a canvas of that size in pixels with one pair of axes under a title."""
    canvas = _canvas(width, height)
    canvas.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    canvas.suptitle(wrapped(title, width // 8, 2), x=0.015, ha="left", fontsize=11, fontweight="bold", color=INK)
    axes = canvas.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FRAME)
    axes.tick_params(color=FRAME, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set(color=INK, fontsize=10)
    axes.yaxis.label.set(color=INK, fontsize=10)
    axes.grid(axis="y", color="#EAEAEA", linewidth=0.8)
    axes.set_axisbelow(True)
    return canvas, axes


def in_pixels(width: int, height: int) -> tuple[Canvas, Axes]:
    """Return a canvas whose only axes count pixels from the upper left corner."""
    canvas = _canvas(width, height)
    axes = canvas.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.axis("off")
    return canvas, axes


def empty(title: str) -> Canvas:
    """Return a figure that says that there is nothing."""
    canvas, axes = in_pixels(520, 110)
    axes.text(16, 16, wrapped(title, 65, 2), fontsize=11, fontweight="bold", color=INK, va="top")
    axes.text(16, 82, "nothing to show", fontsize=9, color=FAINT, va="center")
    return canvas


def draw_levels(axes: Axes, levels: Mapping[str, float], *, log: bool = False) -> None:
    """Draw horizontal lines with their words beside the axes, apart from each other."""
    levels = {word: at for word, at in levels.items() if placeable(at, log=log)}
    for at in levels.values():
        axes.axhline(at, color=FAINT, linewidth=1.1, linestyle=(0, (5, 3)), zorder=2.5)
    axes.set_ylim(axes.get_ylim())  # as it is now, so that the places hold
    taken = -math.inf
    for word, at in sorted(levels.items(), key=lambda item: item[1]):
        taken = max(share_of(axes, at, axis=1), taken + 0.05)
        axes.text(
            1.01, taken, in_line(word, 28), transform=axes.transAxes, fontsize=9, color=FAINT, va="center_baseline"
        )


def share_of(axes: Axes, value: float, *, axis: int) -> float:
    """Return how far along an axis (0: x, 1: y) a value stands, from 0 to 1."""
    point = (axes.get_xlim()[0], value) if axis else (value, axes.get_ylim()[0])
    return float((axes.transScale + axes.transLimits).transform(point)[axis])


def add_legend(canvas: Canvas, drawn: Mapping[str, Artist]) -> None:
    """Name what was drawn, below the axes; of many, some from the first to the last."""
    names = list(drawn)
    if len(names) > _MOST_NAMES:
        names = [names[i * (len(names) - 1) // (_MOST_NAMES - 1)] for i in range(_MOST_NAMES)]
    handles, words = [drawn[name] for name in names], [in_line(name, 40) for name in names]
    if len(drawn) > len(names):
        handles.append(Line2D([], [], linestyle="none"))
        words.append(f"and {len(drawn) - len(names)} more")
    room = canvas.bbox.width / 7.5  # in characters
    columns = max(1, min(len(words), 6, int(room / (max(map(len, words)) + 8))))
    more = math.ceil(len(words) / columns) - 1
    canvas.set_figheight(canvas.get_figheight() + more * 20 / DPI)
    canvas.legend(handles, words, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=INK)


def _canvas(width: int, height: int) -> Canvas:
    return Canvas(figsize=((width + 0.1) / DPI, (height + 0.1) / DPI), dpi=DPI)  # as sizes are cut off
