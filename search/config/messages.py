"""Hydra's and OmegaConf's errors as one line that names the key and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from search.config.arguments import config_dir, options_in, override

_UNKNOWN = re.compile(r"Could not (?:override|delete from config) '?([\w.@/\-]+?)'?\.(?:\s|$)")
_UNKNOWN_IN_FILE = re.compile(
    r"In '([^']+)': ConfigKeyError raised while composing config:\s+Key '[^']*' not in '\w+'\s+full_key: (\S+)"
)
_UNREADABLE = re.compile(r"LexerNoViableAltException: (.*)")
_NULL_IN_CHOICE = re.compile(r"while evaluating 'choice\(([^()]*\bnull\b[^()]*)\)': mismatch type")
_FULL_KEY = re.compile(r"full_key: (\S+)")
_NO_OPTION = re.compile(
    r"Could not find '([\w/]+)/([^'/]*)'\s+Available options in '[^']*':((?:\s+\S+)*?)\s+Config search",
    re.DOTALL,
)

_NOISE = ("full_key:", "object_type=", "reference_type=", "See https", "^", "Config search path", "provider=")


_ONES_OWN = ("loss", "objective")
"""They have no options to choose from: their keys are added."""


def one_line(error: BaseException, conf: Path, config_name: str, arguments: Sequence[str] = ()) -> str:
    """Return what went wrong in one line; composes the options that were chosen to say which keys exist."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem_mark.name}:{error.problem_mark.line + 1}: {error.problem}"
    text = "\n".join(_chain(error))
    if match := _UNKNOWN_IN_FILE.search(text):
        file, key = match.groups()
        if key.partition(".")[0] == file.partition("/")[0]:  # Hydra puts a file's keys under its group's name
            return f"{file}.yaml: must begin with the line # @package _global_"
        return f"{file}.yaml: {_unknown_key(key, _composed(conf, config_name))}"
    if match := _NO_OPTION.search(text):
        group, option, options = match.groups()
        return f"{group}={option}: no such option; allowed: {', '.join(options.split())}"
    if match := _NULL_IN_CHOICE.search(text):
        return f"choice({match[1]}): Hydra takes no null in choice(); write {match[1]} alone"
    if match := _UNREADABLE.search(text):
        return f"{match[1].strip()}: cannot be read; write key=value, without spaces around ="
    if match := _UNKNOWN.search(text):
        options = options_in(arguments, conf)
        chosen = _composed(conf, config_name, arguments, options) if options else None
        if chosen is not None:
            return _unknown_key(match[1], chosen, options)
        return _unknown_key(match[1], _composed(conf, config_name))
    lines = dict.fromkeys(line.strip() for line in text.splitlines())  # causes repeat what they caused
    message = "; ".join(line for line in lines if line and not line.startswith(_NOISE))
    message = message.removeprefix("Error merging override ")
    if (match := _FULL_KEY.search(text)) and match[1] not in message:
        message = f"{match[1]}: {message}"
    return message


def _chain(error: BaseException) -> Iterator[str]:
    """Yield the message of an error and of what caused it."""
    yield str(error)
    if isinstance(error.__cause__, HydraException | OmegaConfBaseException):
        yield str(error.__cause__)


def _unknown_key(key: str, known: DictConfig | None, options: Sequence[str] = ()) -> str:
    """Return which keys there are beside the mistyped one; `options` were chosen on the command line."""
    parent, _, name = key.rpartition(".")
    node = (OmegaConf.select(known, parent) if parent else known) if known is not None else None
    if isinstance(node, DictConfig):
        allowed = [str(k) for k in node if not str(k).startswith("_")]
        chosen = next((f" with {option}" for option in options if option.partition("=")[0] == parent), "")
        return f"{key}: no such key{chosen}; {suggestion(name, allowed)}"
    if known is not None and parent in known:
        advice = f"add it: +{key}=..." if parent in _ONES_OWN else f"name an option first, e.g. {parent}=..."
        return f"{key}: {parent} is {node}; {advice}"
    return _unknown_key(parent, known, options) if parent else f"{key}: no such key"


def suggestion(name: str, allowed: Sequence[str]) -> str:
    """Return "did you mean ...? allowed: ..." for a mistyped name."""
    near = difflib.get_close_matches(name, allowed, n=1)
    listed = f"allowed: {', '.join(allowed) or 'nothing'}"
    return f"did you mean {near[0]}? {listed}" if near else listed


def _composed(
    conf: Path, config_name: str, arguments: Sequence[str] = (), options: Sequence[str] = ()
) -> DictConfig | None:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    own = config_dir(arguments)
    places = [] if own is None else [f"hydra.searchpath=[{override('', f'file://{own}').removeprefix('=')}]"]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            return compose(config_name, overrides=[*places, *options])
    except (HydraException, OmegaConfBaseException):
        return None
