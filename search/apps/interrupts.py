"""What Ctrl-C and SIGTERM do: the first asks the program to leave in order, the second ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from search.apps.exits import INTERRUPTED

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def raise_on_signals() -> None:
    """Let the first signal raise KeyboardInterrupt wherever the program is; Ray installs handlers of its own."""
    _install(_raise)


@contextlib.contextmanager
def asked_on_signals(ask: Callable[[], None]) -> Iterator[None]:
    """Inside, let the first signal call `ask` instead."""
    _install(ask)
    try:
        yield
    finally:
        raise_on_signals()


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """Inside, handle signals as this module does; then leave them to whoever had them: the program is another's."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    raise_on_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise() -> None:
    raise KeyboardInterrupt


def _install(first: Callable[[], None]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, _leave)
        first()

    for each in _SIGNALS:
        if signal.getsignal(each) is not _leave:  # it was asked to leave already
            signal.signal(each, handle)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
