"""Where Hydra writes for a command that is to leave nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from search.config.arguments import override

_LEAVES_NOTHING = re.compile(r"stages=\[\s*(preview|predict)\s*\]")


@contextmanager
def hydra_elsewhere(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Give the arguments; for a preview or predictions Hydra fills another folder than the study's, and removes it."""
    words = [text for text in arguments if _LEAVES_NOTHING.fullmatch(text)]
    if not words:
        yield list(arguments)
        return
    with TemporaryDirectory(prefix="search-") as folder:
        moved = [override(f"hydra.{mode}.dir", folder) for mode in ("run", "sweep")]
        at = arguments.index(words[-1]) + 1  # argparse takes the overrides as one run of words
        yield [*arguments[:at], *moved, *arguments[at:]]
