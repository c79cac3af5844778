"""The one place that turns configuration into calls: everything named by `_target_` is resolved here."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

from hydra.utils import get_method, instantiate
from omegaconf import MISSING

from search.config.messages import suggestion
from search.errors import UsageError
from search.traces import told, user_line


def factory(node: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Return what `node["_target_"]` names with the node's other keys bound.

    `key` is the node's place in the configuration, for the error. Raises UsageError where the target cannot be
    imported.
    """
    if not node.get("_target_"):
        raise UsageError(f"{key}: needs a _target_, the dotted name of a class or function")
    try:
        made = _bound(node)
    except (Exception, SystemExit) as error:  # a module of the user's may do anything when it is imported
        if isinstance(error, SystemExit) and _is_told_to_end(error):
            raise
        raise UsageError(f"{key}._target_={node['_target_']}: {_innermost(error, node['_target_'])}") from error
    _require_taken(node, key)
    return made


def _bound(node: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the target of a node with its other keys bound; raises what Hydra raises where there is none.

    Hydra takes milliseconds to look for nodes within, which nothing plain has. It is asked once for each target
    whether that may be called, and again at each call.
    """
    target = node["_target_"]
    arguments = {
        key: deepcopy(list(value)) if isinstance(value, list | tuple) else value
        for key, value in node.items()
        if key != "_target_"
    }
    module, _, name = target.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    plain = all(_is_plain(value) and not key.startswith("_") for key, value in arguments.items())
    if not plain or not (inspect.isclass(found) or inspect.isfunction(found)):
        made: Callable[..., Any] = instantiate({**node, "_partial_": True}, _convert_="all")
        return made
    return partial(_authorized(target, cast(Hashable, found)), **arguments)


def _is_plain(value: Any) -> bool:
    """Tell whether a value is what it is, without anything that OmegaConf or Hydra would make of it."""
    if isinstance(value, str):
        return "${" not in value and value != MISSING
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | None)


@lru_cache(maxsize=64)
def _authorized(target: str, _found: Hashable) -> Callable[..., Any]:
    """Return a target that Hydra allows; `_found` is what has that name now: modules may be loaded again."""
    made: Callable[..., Any] = instantiate({"_target_": target, "_partial_": True})
    return made


def named(target: str, key: str) -> Callable[..., Any]:
    """Return the function or class of that dotted name; raise UsageError where it cannot be imported.

    `key` is its node's place in the configuration, for the error.
    """
    return factory({"_target_": target}, key)


def target_of(node: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Return what `node["_target_"]` names with nothing bound: a class is one; raise UsageError as `factory` does."""
    factory({"_target_": node.get("_target_")}, key)
    target: Callable[..., Any] = get_method(node["_target_"])
    return target


def called_or_made(node: Mapping[str, Any], key: str) -> Any:
    """Return the function that a node names with its arguments bound, or what the class that it names makes of them.

    Raises UsageError as `factory` does.
    """
    found = factory(node, key)
    return found() if inspect.isclass(get_method(node["_target_"])) else found


def accepted(node: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the offered arguments that the node's target takes by name and does not set itself."""
    target = get_method(node["_target_"])
    parameters = inspect.signature(target).parameters
    own = not inspect.isclass(target) or "__init__" in vars(target)  # an inherited **kwargs promises nothing
    takes_all = own and any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return {k: v for k, v in offered.items() if k not in node and (takes_all or k in parameters)}


def _require_taken(node: Mapping[str, Any], key: str) -> None:
    """Raise UsageError for a key of the node that its target does not take."""
    taken, takes_all = _taken(node["_target_"])
    for name in node:
        if not (takes_all or name in taken or name.startswith("_")):
            function = node["_target_"].rpartition(".")[2]
            raise UsageError(f"{key}.{name}: no argument of {function}; {suggestion(name, taken)}")


def _taken(target: str) -> tuple[list[str], bool]:
    """Return the names of the arguments that a function or class takes, and whether it takes any other."""
    try:
        parameters = inspect.signature(get_method(target)).parameters.values()
    except ValueError:  # of a builtin: it does not say
        return [], True
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _is_told_to_end(error: SystemExit) -> bool:
    """Tell whether the process is ended by compiled code, as Ray does to a worker whose driver died: no file has it."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and not Path(frames[-1].filename).is_file()


def _innermost(error: BaseException, target: str) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename and Path(error.filename).name}:{error.lineno})"
    if user_line(error):
        return told(error)
    module, _, name = target.rpartition(".")
    if isinstance(error, ModuleNotFoundError) and error.name == target and module in sys.modules:
        there = [n for n, v in vars(sys.modules[module]).items() if getattr(v, "__module__", None) == module]
        return f"{module} has no {name}; {suggestion(name, there)}"
    return " ".join(str(error).split())
