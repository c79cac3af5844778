"""Hydra's override grammar as a space: `lr=tag(log,interval(1e-5,1e-1)) model=mlp,cnn db=glob(*)`."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    Transformer,
)
from hydra.errors import HydraException
from omegaconf import OmegaConf

from search.errors import UsageError
from search.keyed import keyed_int
from search.records import Params, ParamValue
from search.space.dimension import Dimension
from search.space.space import Space

_NULL_IN_CHOICE = re.compile(r"choice\(([^()]*\bnull\b[^()]*)\)")


@dataclass(frozen=True, kw_only=True)
class SweptOverride:
    """One override of a sweep: the same in every job (`text`), or drawn.

    `key` has its prefix (`+a`, `db@backup`); a dimension has the key's name without it. `texts` says how values that
    are not numbers of a range are written.
    """

    key: str
    text: str | None = None
    dimension: Dimension | None = None
    texts: Mapping[ParamValue, str] = dataclasses.field(default_factory=dict)

    def written(self, value: ParamValue) -> str:
        """Return the override that sets the value, as Hydra parses it."""
        return f"{self.key}={self.texts.get(value, repr(value))}"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep's overrides, in the order in which every job has them."""

    parts: tuple[SweptOverride, ...]
    space: Space

    @classmethod
    def of(cls, parts: Sequence[SweptOverride], conditions: Mapping[str, tuple[str, Sequence[str]]]) -> Sweep:
        """Return the sweep; `conditions` names the dimensions that exist beside some options of a group alone."""
        dimensions: list[Dimension] = []
        for part in parts:
            if (dimension := part.dimension) is None:
                continue
            if dimension.name in conditions:
                group, options = conditions[dimension.name]
                dimensions += [dataclasses.replace(dimension, option=(group, option)) for option in options]
            else:
                dimensions.append(dimension)
        order = sorted(dimensions, key=lambda d: d.option is not None)  # a choice before what it brings
        return cls(parts=tuple(parts), space=Space(dimensions=tuple(order), base=OmegaConf.create({"choose": {}})))

    def overrides(self, params: Params) -> list[str]:
        """Return the overrides of the job with these parameters."""
        return list(self._written(params))

    def _written(self, params: Params) -> Iterator[str]:
        for part in self.parts:
            if part.dimension is None:
                yield part.key if part.text is None else f"{part.key}={part.text}"
            elif part.dimension.name in params:
                yield part.written(params[part.dimension.name])


def swept_overrides(
    params: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader, seed: int
) -> list[SweptOverride]:
    """Read a sweep from its configuration (`params`, by key) and its command line, which has the last word.

    `seed` orders what is shuffled. Raises UsageError for what cannot be parsed or drawn from.
    """
    configured = [f"{key}={_as_text(value)}" for key, value in params.items()]
    found: dict[str, SweptOverride] = {}
    for text in [*configured, *arguments]:
        override = _parsed(text, loader)
        found[override.get_key_element()] = _swept(override, text, seed)
    names = [part.dimension.name for part in found.values() if part.dimension is not None]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name}: is swept twice; name it once")
    return list(found.values())


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else Override._get_value_element_as_str(value)


def _parsed(text: str, loader: ConfigLoader) -> Override:
    try:
        return OverridesParser.create(config_loader=loader).parse_override(text)
    except HydraException as error:
        if match := _NULL_IN_CHOICE.search(text):
            key = text.partition("=")[0]
            wanted = ",".join(part.strip() for part in match[1].split(","))
            raise UsageError(f"{text}: Hydra takes no null in choice(); write {key}={wanted}") from error
        raise UsageError(f"{text}: cannot be parsed ({' '.join(str(error).split())})") from error


def _swept(override: Override, text: str, seed: int) -> SweptOverride:
    key = override.get_key_element()
    if not override.is_sweep_override():
        bare = override.is_delete() and "=" not in text
        return SweptOverride(key=key, text=None if bare else override.get_value_element_as_str())
    name = key.lstrip("+~")
    value = override._value
    if isinstance(value, IntervalSweep):
        return SweptOverride(key=key, dimension=_interval(name, text, value))
    if isinstance(value, RangeSweep) and not value.shuffle and value.step > 0:
        return SweptOverride(key=key, dimension=_range(name, text, value, list(override.sweep_iterator())))
    if isinstance(value, ChoiceSweep | RangeSweep) and "log" in value.tags:
        raise UsageError(f"{text}: log is for intervals and rising ranges")
    return _choices(key, name, text, _elements(override, keyed_int(seed, name, "shuffle")))


def _path(name: str) -> str:
    """Return a key as MLflow takes it: `db@backup` chooses what stands under `backup`."""
    return name.replace("@", ".")


def _elements(override: Override, seed: int) -> list[Any]:
    """Return the values in Hydra's order; shuffled ones in that of the seed: a sweep that is resumed has it again."""
    value: Any = override._value
    if isinstance(value, Glob):
        return list(override.sweep_iterator())
    assert isinstance(value, ChoiceSweep | RangeSweep)
    elements = list(value.list if isinstance(value, ChoiceSweep) else value.range())
    if value.shuffle:
        random.Random(seed).shuffle(elements)
    return elements


def _choices(key: str, name: str, text: str, elements: Sequence[Any]) -> SweptOverride:
    if not elements:
        raise UsageError(f"{text}: has no values")
    texts: dict[ParamValue, str] = {}
    for element in elements:
        value = _plain(element)
        if value in texts:
            raise UsageError(f"{text}: {value} stands there twice (1, 1.0 and true count as one)")
        texts[value] = Transformer.str(element)
    values = tuple(texts)
    dimension = Dimension(name=name, path=_path(name), default=values[0], choices=values)
    return SweptOverride(key=key, dimension=dimension, texts=texts)


def _plain(element: Any) -> ParamValue:
    """Return an element as the study records it: lists, mappings and what is not finite as their text."""
    if isinstance(element, QuotedString):
        return element.text
    if element is None or isinstance(element, bool | int | str):
        return element
    if isinstance(element, float) and math.isfinite(element):
        return element
    return str(Transformer.str(element))


def _interval(name: str, text: str, value: IntervalSweep) -> Dimension:
    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    integer = "int" in value.tags or (isinstance(low, int) and isinstance(high, int))
    log = "log" in value.tags
    if not (math.isfinite(low) and math.isfinite(high)) or low > high or (log and low <= 0):
        raise UsageError(f"{text}: needs two finite numbers, the lower one first, and above 0 with log")
    if integer:
        return _integers(name, int(low), int(high), log=log)
    return Dimension(name=name, path=_path(name), default=float(low), low=float(low), high=float(high), log=log)


def _range(name: str, text: str, value: RangeSweep, elements: Sequence[Any]) -> Dimension:
    """Return a rising range; its stop is excluded, as in Hydra's own sweeps."""
    if not elements:
        raise UsageError(f"{text}: has no values")
    low, high, log = elements[0], elements[-1], "log" in value.tags
    if log and (value.step != 1 or not isinstance(low, int) or low <= 0):
        raise UsageError(f"{text}: log is for ranges of whole numbers above 0, without a step")
    if isinstance(low, int):
        return _integers(name, low, high, log=log, step=int(value.step))
    return Dimension(name=name, path=_path(name), default=low, low=low, high=high, step=float(value.step))


def _integers(name: str, low: int, high: int, *, log: bool, step: int = 1) -> Dimension:
    return Dimension(
        name=name, path=_path(name), default=low, low=low, high=high, log=log, step=None if log else step, integer=True
    )


def conditions_of(
    parts: Sequence[SweptOverride],
    groups: Sequence[str],
    keys_with: Callable[[str, str], set[str]],
) -> dict[str, tuple[str, Sequence[str]]]:
    """Return, for each dimension that not every option of a swept group knows, the group and the options that do.

    `groups` names the dimensions that choose a group's option; `keys_with(group, option)` returns those of the swept
    keys that the configuration has with that option.
    """
    keys = [part.dimension.name for part in parts if part.dimension is not None and not part.key.startswith("+")]
    conditions: dict[str, tuple[str, Sequence[str]]] = {}
    for part in parts:
        if part.dimension is None or part.dimension.name not in groups:
            continue
        group = part.dimension.name
        known = {str(option): keys_with(group, str(option)) for option in part.dimension.choices}
        for key in keys:
            options = [option for option in known if key in known[option]]
            if key not in groups and key not in conditions and 0 < len(options) < len(known):
                conditions[key] = (group, options)
    return conditions
