"""Draws what checks saw: a figure's record becomes a PNG. The only package that knows matplotlib; import it late."""

from __future__ import annotations

import io
import math
from pathlib import Path

from matplotlib.figure import Figure as Canvas
from PIL import Image

from search.checks.evidence import Bars, Curves, Figure, Pictures, load
from search.files import write_atomically
from search.reporting.figures.bars import draw_bars
from search.reporting.figures.curves import draw_curves
from search.reporting.figures.matrix import draw_matrix
from search.reporting.figures.pictures import draw_pictures

MOST_BYTES = 200_000
_COARSEST = 6.0
"""64 pictures of noise are small enough by then."""


def draw(figure: Figure) -> bytes:
    """Return the figure as a PNG at most 1200 pixels wide, as fine as it can be in 200 kB."""
    coarseness = 1.0
    while True:
        image = _image(_canvas_of(figure, coarseness))
        content = _png(image)
        if len(content) > MOST_BYTES:
            content = _png(image.quantize(method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))
        if len(content) <= MOST_BYTES or coarseness >= _COARSEST:
            return content
        coarseness *= max(1.2, 1.1 * math.sqrt(len(content) / MOST_BYTES))


def draw_file(path: Path) -> Path:
    """Draw the figure of a file of evidence into a `.png` beside it; return that.

    Raises OSError or ValueError where there is no figure.
    """
    to = path.with_suffix(".png")
    write_atomically(to, draw(load(path)))
    return to


def _canvas_of(figure: Figure, coarseness: float) -> Canvas:
    if isinstance(figure, Pictures):
        return draw_pictures(figure, coarseness)
    if isinstance(figure, Curves):
        return draw_curves(figure, coarseness)
    return draw_bars(figure) if isinstance(figure, Bars) else draw_matrix(figure, coarseness)


def _image(canvas: Canvas) -> Image.Image:
    pixels = io.BytesIO()
    canvas.savefig(pixels, format="rgba", facecolor="white")
    width, height = map(int, canvas.bbox.size)
    return Image.frombytes("RGBA", (width, height), pixels.getvalue()).convert("RGB")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()
