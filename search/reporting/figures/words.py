"""Words on a figure: short enough for their place, and drawn as they are."""

from __future__ import annotations

import textwrap
from functools import lru_cache

from matplotlib import font_manager


def wrapped(text: str, width: int, lines: int) -> str:
    """Return the text in so many lines of so many characters at most."""
    return _as_is("\n".join(textwrap.wrap(text, max(width, 4), max_lines=lines, placeholder="…")))


def in_line(text: str, most: int) -> str:
    """Return the text in one line of at most so many characters: its begin and its end tell names apart."""
    line = " ".join(text.split())
    if len(line) > most:
        line = f"{line[: most // 2]}…{line[len(line) - (most - 1) // 2 :]}"
    return _as_is(line)


def _as_is(text: str) -> str:
    """Return what matplotlib draws as this text: no formulas, a box for what its font lacks."""
    shown = "".join(c if c == "\n" or _has(c) else "□" for c in text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown  # legends leave such names out


@lru_cache(maxsize=4096)
def _has(character: str) -> bool:
    """Tell whether both weights have the character."""
    fonts = (font_manager.findfont(font_manager.FontProperties(weight=weight)) for weight in ("normal", "bold"))
    return all(font_manager.get_font(font).get_char_index(ord(character)) for font in fonts)
