"""How much memory this process holds, as Linux counts it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

GIB = 2**30
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def resident_memory() -> int:
    """Return the bytes that the process holds now (its peak where the system does not tell)."""
    return _read("VmRSS") or _lifetime_peak()


def reset_peak_memory() -> None:
    """Begin a new peak, where the system can."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return


def peak_memory() -> int:
    """Return the most bytes that the process held since the last reset, or in its life."""
    return _read("VmHWM") or _lifetime_peak()


def _read(key: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)


def _lifetime_peak() -> int:
    """Return ru_maxrss in bytes: macOS gives bytes, Linux KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
