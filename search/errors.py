"""Errors that are told to the user in one line, without a traceback."""


class UsageError(Exception):
    """A configuration that cannot work; the message names the key, its value and what is allowed."""


class NoRoomError(Exception):
    """A disk that takes no more; the message says whose write failed. The same command goes on once there is room."""


class GaveUpError(Exception):
    """A search that stopped because going on would waste time; the message says why."""


class StrandedError(UsageError):
    """A trial that cannot go on, because what it began with is no longer composed."""


class UnsoundError(Exception):
    """Data or a setup with which training would be pointless; the message says which check found that."""
