"""Hydra's override grammar as a space: `lr=tag(log,interval(1e-5,1e-1)) model=mlp,cnn db=glob(*)`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
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
from search.space.dimension import Dimension, rounded
from search.space.space import Space

_WALKED = 10_000
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
        override = _parsed(text, loader, seed)
        found[override.get_key_element()] = _swept(override, text, seed)
    _require_named_once(list(found.values()))
    return list(found.values())


def _require_named_once(parts: Sequence[SweptOverride]) -> None:
    """Raise UsageError where what is drawn for a key would be set again, or was set before (`a=1,2 ++a=3`)."""
    keys = [part.key for part in parts if not part.key.startswith("~")]
    for part in parts:
        same = [key for key in keys if part.dimension is not None and _name(key) == part.dimension.name]
        if len(same) > 1:
            raise UsageError(f"{_name(same[0])}: is named twice, as {' and '.join(same)}; name it once")


def _name(key: str) -> str:
    return key.lstrip("+~")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else Override._get_value_element_as_str(value)


def _parsed(text: str, loader: ConfigLoader, seed: int) -> Override:
    try:
        with _randomness_of(keyed_int(seed, text, "parse")):
            override = OverridesParser.create().parse_override(text)
        override.config_loader = loader  # a glob asks it for a group's options
        return override
    except HydraException as error:
        if match := _NULL_IN_CHOICE.search(text):
            key = text.partition("=")[0]
            wanted = ",".join(part.strip() for part in match[1].split(","))
            raise UsageError(f"{text}: Hydra takes no null in choice(); write {key}={wanted}") from error
        raise UsageError(f"{text}: cannot be parsed ({' '.join(str(error).split())})") from error


@contextlib.contextmanager
def _randomness_of(seed: int) -> Iterator[None]:
    """Seed what the parser shuffles itself, a list: a sweep that is resumed has the same one again."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


def _swept(override: Override, text: str, seed: int) -> SweptOverride:
    key = override.get_key_element()
    if not override.is_sweep_override():
        bare = override.is_delete() and "=" not in text
        return SweptOverride(key=key, text=None if bare else override.get_value_element_as_str())
    name = _name(key)
    value = override._value
    if isinstance(value, IntervalSweep):
        return SweptOverride(key=key, dimension=_interval(name, text, value))
    if isinstance(value, RangeSweep):
        _require_countable(text, value)
        if value.step > 0 and not value.shuffle:
            return SweptOverride(key=key, dimension=_range(name, text, value))
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
    plain = [_plain(element) for element in elements]
    kinds = {(type(value), value) for value in plain}
    if len(set(plain)) < len(kinds):  # 1, 1.0 and true are three values to Hydra, and one to Python and Optuna
        plain = [str(Transformer.str(element)) for element in elements]
    texts: dict[ParamValue, str] = {}
    for value, element in zip(plain, elements, strict=True):
        if value in texts:
            raise UsageError(f"{text}: {value} stands there twice")
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
    if not (math.isfinite(low) and math.isfinite(high)) or low > high or (log and (int(low) if integer else low) <= 0):
        raise UsageError(f"{text}: needs two finite numbers, the lower one first, and above 0 with log")
    if integer:
        return _integers(name, int(low), int(high), log=log)
    return Dimension(name=name, path=_path(name), default=float(low), low=float(low), high=float(high), log=log)


def _require_countable(text: str, value: RangeSweep) -> None:
    numbers = (value.start, value.stop, value.step)
    if not all(number is not None and math.isfinite(number) for number in numbers) or value.step == 0:
        raise UsageError(f"{text}: needs finite numbers, and a step other than 0")


def _range(name: str, text: str, value: RangeSweep) -> Dimension:
    """Return a rising range; its stop is excluded, as in Hydra's own sweeps."""
    low, high = _ends(value)
    log = "log" in value.tags
    if low is None or high is None:
        raise UsageError(f"{text}: has no values")
    if log and (value.step != 1 or not isinstance(low, int) or low <= 0):
        raise UsageError(f"{text}: log is for ranges of whole numbers above 0, without a step")
    if isinstance(low, int):
        return _integers(name, low, int(high), log=log, step=int(value.step))
    step = float(value.step)
    return Dimension(name=name, path=_path(name), default=low, low=low, high=rounded(high, step), step=step)


def _ends(value: RangeSweep) -> tuple[float | None, float | None]:
    """Return the first and the last number, without walking through what may be millions."""
    numbers: Any = value.range()
    if not isinstance(numbers, range):
        start, stop, step = map(Decimal, (numbers.start, numbers.stop, numbers.step))
        count = math.ceil((stop - start) / step)
        if count > _WALKED:
            return float(start), float(start + step * (count - 1))
        numbers = list(numbers)  # now and then Hydra's rounding lets the stop in
    return (numbers[0], numbers[-1]) if numbers else (None, None)


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
