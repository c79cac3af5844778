"""The one place that turns configuration into calls: everything named by `_target_` is resolved here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import get_method, instantiate

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
    _require_taken(node, key)
    try:
        made: Callable[..., Any] = instantiate({**node, "_partial_": True}, _convert_="all")
    except Exception as error:
        raise UsageError(f"{key}._target_={node['_target_']}: {_innermost(error)}") from error
    return made


def _require_taken(node: Mapping[str, Any], key: str) -> None:
    """Raise UsageError for a key that the target takes no argument for; whatever has no signature may take all."""
    try:
        parameters = inspect.signature(get_method(node["_target_"])).parameters
    except Exception:  # noqa: BLE001 - instantiate says more about a target that cannot be imported
        return
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for name in node:
        if name not in parameters and not name.startswith("_"):
            raise UsageError(f"{key}.{name}: {node['_target_']} takes no {name}; {suggestion(name, list(parameters))}")


def named(target: str, key: str) -> Callable[..., Any]:
    """Return the function or class of that dotted name; raise UsageError where it cannot be imported.

    `key` is its node's place in the configuration, for the error.
    """
    try:
        found: Callable[..., Any] = get_method(target)
    except Exception as error:  # of a module of the user's, which may do anything when it is imported
        raise UsageError(f"{key}._target_={target}: {_innermost(error)}") from error
    return found


def accepted(node: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the offered arguments that the node's target takes by name and does not set itself."""
    target = get_method(node["_target_"])
    parameters = inspect.signature(target).parameters
    own = not inspect.isclass(target) or "__init__" in vars(target)  # an inherited **kwargs promises nothing
    takes_all = own and any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return {k: v for k, v in offered.items() if k not in node and (takes_all or k in parameters)}


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return told(error) if user_line(error) else " ".join(str(error).split())
