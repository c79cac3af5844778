"""Tab completion: Hydra's, taught the lists that this program has beyond Hydra's grammar."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from hydra.plugins.completion_plugin import CompletionPlugin
from omegaconf.errors import OmegaConfBaseException

from search.config.arguments import CHOOSABLE, config_dir, expand
from search.config.checks import STAGES
from search.errors import UsageError

_ASKED = ("-sc", "--shell-completion", "--shell_completion")
_LIST = re.compile(r"(?P<key>stages|choose\.(?P<group>\w+))=\[?(?P<typed>[\w\-,]*)")
_hydras_query = CompletionPlugin._query


def with_completion(arguments: Sequence[str], conf: Path) -> list[str]:
    """Return the arguments; where a shell asks for completion, Hydra's answer is ours from now on.

    The shell asks without what was typed, so a `--config-dir` in the line is handed over. Raises UsageError for one
    who asks without a line.
    """
    if not any(text in _ASKED for text in arguments) or not any(text.startswith("query=") for text in arguments):
        return list(arguments)
    line = os.environ.get("COMP_LINE")
    if line is None:
        raise UsageError('-sc query: is for the shell, which sets COMP_LINE; eval "$(search -sc install=bash)"')

    def query(self: CompletionPlugin, config_name: str | None, line: str) -> list[str]:
        found: list[str] | None = []
        with _silence():
            found = _of_a_list(self.config_loader, line)
            if found is None:
                found = _hydras_query(self, config_name, _expanded(line, conf, str(config_name)))
        return found or []

    CompletionPlugin._query = query  # type: ignore[method-assign]
    with _silence():
        if own := config_dir(line.split()[1:]):
            return [*arguments, "--config-dir", str(own)]
    return list(arguments)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Let nothing be said about a line that is not finished: it would stand in the middle of what is typed."""
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(UsageError, HydraException, OmegaConfBaseException, SystemExit),
    ):
        yield


def _expanded(line: str, conf: Path, config_name: str) -> str:
    """Return the line with the words before the one that is typed as Hydra understands them."""
    words = line.split()
    typed = "" if not words or line.endswith(" ") else words.pop()
    return " ".join([*expand(words, conf, config_name), typed])


def _of_a_list(loader: ConfigLoader, line: str) -> list[str] | None:
    """Return how a list that is typed may go on, or None where it is none of ours."""
    match = _LIST.fullmatch(line.rpartition(" ")[2])
    if match is None or (match["group"] and match["group"] not in CHOOSABLE):
        return None
    names = loader.get_group_options(match["group"], ObjectType.CONFIG) if match["group"] else STAGES
    *before, last = match["typed"].split(",")
    head = f"{match['key']}=[" + "".join(f"{name}," for name in before)
    longer = [f"{head}{name}" for name in names if name.startswith(last) and name not in (*before, last)]
    return [*longer, f"{head}{last}]"] if last in names else longer
