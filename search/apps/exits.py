"""Exit codes of the command."""

USAGE_ERROR = 2
"""A mistake in the configuration; one line says which."""
UNSOUND = 3
"""A check of the data or of the setup says fail; no trial was started."""
GAVE_UP = 4
"""Too many trials failed for one cause."""
INTERRUPTED = 75
"""EX_TEMPFAIL, also of a full disk: the same command goes on."""
