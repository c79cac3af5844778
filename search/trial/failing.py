"""How a failure is told."""

from __future__ import annotations

import time
import traceback

import torch

from search.errors import UsageError
from search.files import no_room
from search.records import FailureKind, Outcome, failed
from search.traces import told, user_traceback
from search.train.steps import NonFiniteError

_NO_MEMORY = "can't allocate memory"  # torch raises a RuntimeError for it on a CPU


def no_memory(error: Exception) -> bool:
    """Tell whether memory, or that of the device, was too small."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _NO_MEMORY in str(error)


def failed_with(number: int, error: Exception, seconds: float) -> Outcome:
    """Return the Outcome of work that raised."""
    if isinstance(error, NonFiniteError):
        kind = FailureKind.NON_FINITE
    elif no_memory(error):
        kind = FailureKind.OUT_OF_MEMORY
    elif no_room(error):
        kind = FailureKind.DISK_FULL
    else:
        kind = FailureKind.EXCEPTION
    ours = isinstance(error, UsageError | NonFiniteError)  # it says all there is, and where it was raised says nothing
    message = " ".join(str(error).split()) if ours else told(error)
    trace = user_traceback(error) or (message if ours else "".join(traceback.format_exception(error)))
    return failed(number, kind, message, time=time.time(), traceback=trace, seconds=seconds)
