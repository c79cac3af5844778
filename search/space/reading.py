"""The dimensions that a composed configuration describes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from search.errors import UsageError
from search.records import ParamValue
from search.space.dimension import Dimension, rounded

ABOUT_SEARCHING = ("space", "fits")
"""Keys of a node that are not settings of it."""
_FIELDS = ("choices", "low", "high", "log", "step")


def dimensions_of(base: DictConfig) -> tuple[Dimension, ...]:
    """Return the dimensions, a choice before what it brings.

    Raises UsageError, naming the key, for a dimension that cannot be drawn from or that belongs to no key.
    """
    choices = [d for group, options in base.choose.items() for d in _choice(str(group), options)]
    return (*choices, *_dimensions_under(base, skip=("choose", "squeeze", "changes")))


def _choice(group: str, options: Any) -> Iterator[Dimension]:
    if not isinstance(options, DictConfig) or not options:
        raise UsageError(f"choose.{group}: has no options; e.g. choose.{group}=[a,b]")
    names = tuple(map(str, options))
    yield Dimension(name=group, path=group, default=names[0], choices=names)
    for option in names:
        address = f"choose.{group}.{option}"
        if not isinstance(options[option], DictConfig):
            raise UsageError(f"{address}: must be a configuration of {group}")
        yield from _dimensions_under(
            options[option], at=address, name=f"{group}.{option}", path=group, option=(group, option)
        )


def _dimensions_under(
    node: DictConfig,
    *,
    at: str = "",
    name: str = "",
    path: str = "",
    option: tuple[str, str] | None = None,
    skip: tuple[str, ...] = (),
) -> Iterator[Dimension]:
    """Yield the dimensions of every `space` in the tree; `at` is the node's address, for errors."""
    for key in sorted(str(k) for k in node):
        if key in skip or OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        child = node[key]
        if key == "space":
            if not isinstance(child, DictConfig):
                raise UsageError(f"{_dotted(at, key)}={child}: must be a mapping, e.g. {{width: {{choices: [1, 2]}}}}")
            for dim, spec in child.items():
                yield _dimension(node, str(dim), spec, at=at, name=name, path=path, option=option)
        elif isinstance(child, DictConfig):
            yield from _dimensions_under(
                child, at=_dotted(at, key), name=_dotted(name, key), path=_dotted(path, key), option=option
            )


def _dimension(
    node: DictConfig, key: str, spec: Any, *, at: str, name: str, path: str, option: tuple[str, str] | None
) -> Dimension:
    address = _dotted(at, "space", key)
    siblings = [str(k) for k in node if k not in (*ABOUT_SEARCHING, "_target_")]
    if key not in siblings:
        raise UsageError(
            f"{address}: {at or 'the configuration'} has no key {key}; allowed: {', '.join(siblings) or 'none'}"
        )
    if isinstance(node[key], DictConfig | ListConfig):
        raise UsageError(f"{address}: {key}={node[key]} is no number, word or truth value, which alone can vary")
    if not isinstance(spec, Mapping | DictConfig):
        raise UsageError(f"{address}={spec!r}: must be a mapping, {{choices: [...]}} or {{low: ..., high: ...}}")
    plain: dict[str, Any] = {str(k): v for k, v in _plain(spec).items()}
    for word in plain:
        if word not in _FIELDS:
            raise UsageError(f"{address}.{word}: no such field; allowed: {', '.join(_FIELDS)}")
    if plain.get("choices") is not None:
        values: dict[str, Any] = {"choices": _choices(address, plain["choices"])}
    else:
        values = _bounds(address, plain, node[key])
    return Dimension(name=_dotted(name, key), path=_dotted(path, key), default=node[key], option=option, **values)


def _plain(spec: Any) -> dict[Any, Any]:
    plain = OmegaConf.to_container(spec, resolve=True) if isinstance(spec, DictConfig) else dict(spec)
    assert isinstance(plain, dict)
    return plain


def _dotted(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _choices(address: str, choices: Any) -> tuple[ParamValue, ...]:
    if not isinstance(choices, list) or not choices:
        raise UsageError(f"{address}.choices={choices}: must be a list of at least one value")
    for value in choices:
        if not (value is None or isinstance(value, bool | int | float | str)):
            raise UsageError(f"{address}.choices: {value} must be a number, a word, true, false or null")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{address}.choices: {value} must be finite")
    if len(set(choices)) < len(choices):
        raise UsageError(f"{address}.choices={choices}: a value stands there twice")
    return tuple(choices)


def _bounds(address: str, spec: Mapping[str, Any], default: Any) -> dict[str, Any]:
    low, high = (_finite(address, word, spec.get(word)) for word in ("low", "high"))
    log, step = spec.get("log"), spec.get("step")
    if log not in (None, True, False):
        raise UsageError(f"{address}.log={log}: must be true or false")
    if low > high:
        raise UsageError(f"{address}: low={low} lies above high={high}")
    if log and low <= 0:
        raise UsageError(f"{address}: log needs low above 0, not low={low}")
    integer = isinstance(low, int) and isinstance(high, int) and not isinstance(default, float)
    if step is not None:
        if _finite(address, "step", step) <= 0:
            raise UsageError(f"{address}.step={step}: must be above 0")
        if log:
            raise UsageError(f"{address}.step={step}: cannot be combined with log=true; use choices=[...]")
        integer = integer and isinstance(step, int)
    number = int if integer else float
    if step is not None:
        high = rounded(low + step * math.floor((high - low) / step + 1e-8), step)  # the last value that is drawn
    return {
        "low": number(low),
        "high": number(high),
        "log": bool(log),
        "step": 1 if integer and step is None and not log else step,
        "integer": integer,
    }


def _finite(address: str, word: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{address}.{word}={'null' if value is None else value}: must be a number")
    return value
