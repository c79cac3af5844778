"""A trial's configuration from its parameters, made anew a thousand times a second."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, ValueNode

from search.records import Params, ParamValue
from search.space.dimension import Dimension
from search.space.reading import ABOUT_SEARCHING

Settings = dict[str, Any]
"""A plain, resolved configuration."""


class TrialConfigs:
    """Makes configurations: chosen nodes in place, values set, no `space`, no `choose`.

    OmegaConf takes a millisecond to copy and resolve a configuration. So each combination of chosen options is resolved
    once, and trials get a copy with their values set, unless something in it is interpolated from what varies.
    """

    def __init__(self, base: DictConfig, dimensions: Sequence[Dimension]) -> None:
        self._base = base
        self._dimensions = {d.name: d for d in dimensions}
        self._groups = [str(group) for group in base.choose]
        self._templates: dict[tuple[ParamValue, ...], _Template | None] = {}

    def make(self, params: Params) -> Settings:
        """Return the configuration of a trial; raise what OmegaConf raises for a value that its key cannot take."""
        options = tuple(params[group] for group in self._groups)
        if options not in self._templates:
            self._templates[options] = self._template(params)
        template = self._templates[options]
        values = {self._dimensions[name].path: params[name] for name in params if name not in self._groups}
        return self._resolved(self._chosen(params), values) if template is None else template.fill(values)

    def _chosen(self, params: Params) -> DictConfig:
        """Return the base with the chosen nodes in place."""
        cfg = copy.deepcopy(self._base)
        for group in self._groups:
            cfg[group] = cfg.choose[group][params[group]]
        del cfg["choose"]
        return cfg

    def _resolved(self, cfg: DictConfig, values: Mapping[str, ParamValue]) -> Settings:
        for path, value in values.items():
            OmegaConf.update(cfg, path, value)
        resolved: Settings = settings_of(OmegaConf.to_container(cfg, resolve=True))
        return resolved

    def _template(self, params: Params) -> _Template | None:
        """Return the resolved combination of options, or None where what varies is interpolated elsewhere."""
        cfg = self._chosen(params)
        there = (d for d in self._dimensions.values() if d.option is None or params[d.option[0]] == d.option[1])
        paths = [d.path for d in there if d.name not in self._groups]
        varied = {word for path in paths for word in path.split(".")}
        if any(varied & set(re.findall(r"\w+", text)) for text in _interpolations(OmegaConf.to_container(cfg))):
            return None
        converters = {path: _converter(cfg, path) for path in paths}
        return _Template(self._resolved(cfg, {}), converters)


class _Template:
    """A resolved configuration, and what each varied key makes of a value."""

    def __init__(self, settings: Settings, converters: Mapping[str, Callable[[Any], Any]]) -> None:
        self._settings = settings
        self._converters = {path: (path.split("."), convert) for path, convert in converters.items()}

    def fill(self, values: Mapping[str, ParamValue]) -> Settings:
        """Return a copy with the values, each as the type of its key."""
        settings: Settings = _copied(self._settings)
        for path, value in values.items():
            (*nodes, key), convert = self._converters[path]
            at = settings
            for node in nodes:
                at = at[node]
            at[key] = convert(value)
        return settings


def settings_of(node: Any) -> Any:
    """Return a plain configuration without what is about searching: `space` and `fits`."""
    if isinstance(node, dict):
        return {k: settings_of(v) for k, v in node.items() if k not in ABOUT_SEARCHING}
    return [settings_of(v) for v in node] if isinstance(node, list) else node


def _copied(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _copied(v) for k, v in node.items()}
    return [_copied(v) for v in node] if isinstance(node, list) else node


def _interpolations(node: Any) -> Iterator[str]:
    """Yield the texts in an unresolved tree that are interpolated."""
    if isinstance(node, dict):
        for value in node.values():
            yield from _interpolations(value)
    elif isinstance(node, list):
        for value in node:
            yield from _interpolations(value)
    elif isinstance(node, str) and "${" in node:
        yield node


def _converter(cfg: DictConfig, path: str) -> Callable[[Any], Any]:
    """Return what turns a value into the type of its key, or raises as setting it would."""
    *nodes, key = path.split(".")
    parent = cfg
    for node in nodes:
        parent = parent[node]
    found = parent._get_node(key)
    assert isinstance(found, ValueNode)
    own = copy.deepcopy(found)
    own._set_parent(None)

    def convert(value: Any) -> Any:
        own._set_value(value)
        return own._value()

    return convert
