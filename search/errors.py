"""Errors that are told to the user in one line, without a traceback."""


class UsageError(Exception):
    """A configuration that cannot work; the message names the key, its value and what is allowed."""


class GaveUpError(Exception):
    """A search that stopped because going on would waste time; the message says why."""
