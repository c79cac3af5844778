"""Calls of chatty libraries."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Swallow what is printed, logged and warned of, errors excepted; what is raised is raised all the same."""
    quiet, before = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
