"""The user's part of a traceback: who reads it looks for the line that is theirs, not for the engine's."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_ENGINE = Path(__file__).resolve().parent
_KINDS = ("stdlib", "platstdlib", "purelib", "platlib")
_LIBRARIES = tuple({Path(sysconfig.get_path(kind)).resolve() for kind in _KINDS})


def told(error: BaseException) -> str:
    """Return the error in one line, with the innermost line of the user's own code where it passed through any."""
    words = " ".join(str(error).split())
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return f"{text} ({place})" if (place := user_line(error)) else text


def user_line(error: BaseException) -> str | None:
    """Return `file.py:12 in function`, the innermost line of the user's own code; None where there is none."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}" if own else None


def user_traceback(error: BaseException) -> str | None:
    """Return the traceback from the first line of the user's own code on, without the engine's lines.

    None where there is none of the user's.
    """
    if user_line(error) is None:
        return None
    told = traceback.TracebackException.from_exception(error)
    _leave_out_engine(told)
    return "".join(told.format())


def _leave_out_engine(told: traceback.TracebackException) -> None:
    """Cut what leads to the user's code, and the engine's lines within it, also from what the error was caused by."""
    frames = list(told.stack)
    first = next((i for i, frame in enumerate(frames) if _is_users(frame.filename)), 0)
    told.stack = traceback.StackSummary.from_list([f for f in frames[first:] if not _is_engines(f.filename)])
    for earlier in (told.__cause__, told.__context__):
        if earlier is not None:
            _leave_out_engine(earlier)


def _is_engines(filename: str) -> bool:
    return not filename.startswith("<") and Path(filename).resolve().is_relative_to(_ENGINE)


def _is_users(filename: str) -> bool:
    if filename.startswith("<"):  # what is made at run time
        return filename.startswith(("<stdin>", "<ipython"))
    path = Path(filename).resolve()
    return not any(path.is_relative_to(root) for root in (_ENGINE, *_LIBRARIES))
