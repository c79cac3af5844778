"""The one exception that the command line shows as a single line."""


class UsageError(Exception):
    """Something the user can mend; the message names the key, the value and what is allowed."""
