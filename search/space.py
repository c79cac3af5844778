"""The search space: what may vary in a composed configuration, and what a choice of values makes of it.

A node's `space` mapping describes dimensions of its own keys; under `choose.<group>` the options of a group stand
side by side, each with its own space, and the choice between them is a dimension itself. A dimension's Optuna name
carries the option (`model.mlp.width`), its place in a trial's configuration does not (`model.width`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from search.errors import UsageError
from search.records import Params, ParamValue

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_ABOUT_SEARCHING = ("space", "fits")
_FIELDS = ("choices", "low", "high", "log", "step")


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One thing that may vary: a choice, or a range of numbers (both ends included).

    `name` is Optuna's, `path` the place of the value in a trial's configuration. `option` says when the dimension
    exists: (name of a choice, its value).
    """

    name: str
    path: str
    default: ParamValue
    choices: tuple[ParamValue, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    integer: bool = False
    option: tuple[str, str] | None = None

    def at(self, u: float) -> ParamValue:
        """Return the value at the quantile u in [0, 1)."""
        if self.choices:
            return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]
        if self.step is not None and not self.log:
            return self._on_grid(int(u * self._num_steps()))
        if self.integer:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return max(int(self.low), min(int(self.high), round(math.exp(low + u * (high - low)))))
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return min(max(math.exp(low + u * (high - low)), self.low), self.high)
        return self.low + u * (self.high - self.low)

    def contains(self, value: ParamValue) -> bool:
        """Tell whether the value may be drawn."""
        if self.choices:
            return any(value == c and isinstance(value, bool) == isinstance(c, bool) for c in self.choices)
        if isinstance(value, bool | str) or value is None or not self.low <= value <= self.high:
            return False
        if self.integer and value != round(value):
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-8

    def nearest(self, value: ParamValue) -> ParamValue:
        """Return the value itself where it may be drawn, else the nearest that may; the first choice of words."""
        if self.choices and self.contains(value):
            return value
        if isinstance(value, bool | str) or value is None:
            return self.choices[0] if self.choices else self._number(self.low)
        if self.choices:
            numbers = [c for c in self.choices if isinstance(c, int | float) and not isinstance(c, bool)]
            return min(numbers, key=lambda c: abs(c - value)) if numbers else self.choices[0]
        clipped = min(max(value, self.low), self.high)
        if self.step is not None:
            return self._on_grid(round((clipped - self.low) / self.step))
        return self._number(clipped)

    def grid(self) -> tuple[ParamValue, ...]:
        """Return every value; raise UsageError for a continuous range."""
        if self.choices:
            return self.choices
        if self.step is None:
            raise UsageError(f"sampler=grid: {self.name} is continuous; give it choices=[...] or a step")
        return tuple(self._on_grid(i) for i in range(self._num_steps()))

    def distribution(self) -> BaseDistribution:
        """Return the dimension as Optuna knows it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.integer:
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def describe(self) -> str:
        """Return the dimension in words, e.g. `0.0001 to 0.01, log`."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        low, high = (str(v) if self.integer else f"{v:g}" for v in (self.low, self.high))
        text = f"{low} to {high}"
        if self.step is not None and not (self.integer and self.step == 1):
            text += f", step {self.step:g}"
        return text + (", log" if self.log else "")

    def _num_steps(self) -> int:
        return math.floor((self.high - self.low) / (self.step or 1) + 1e-8) + 1

    def _on_grid(self, index: int) -> float:
        """Return the value `index` steps above `low`, without the noise of 3 * 0.1."""
        index = min(index, self._num_steps() - 1)
        return self._number(min(round(self.low + (self.step or 1) * index, 12), self.high))

    def _number(self, value: float) -> float:
        return round(value) if self.integer else value


@dataclass(frozen=True, kw_only=True)
class Space:
    """The dimensions of a composed configuration; a choice stands before what it brings."""

    dimensions: tuple[Dimension, ...]
    base: DictConfig = field(repr=False)

    @classmethod
    def of(cls, cfg: DictConfig) -> Space:
        """Read the space of a composed configuration.

        Raises UsageError, naming the key, for a dimension that cannot be drawn from or that belongs to no key.
        """
        base = copy.deepcopy(cfg)
        OmegaConf.set_struct(base, False)
        for group in [str(g) for g in base.choose]:
            if base.get(group) is not None:  # naming a group takes it out of `choose`
                del base.choose[group]
        choices = [d for group, options in base.choose.items() for d in _choice(str(group), options)]
        return cls(dimensions=(*choices, *_dimensions_under(base, skip=("choose", "squeeze"))), base=base)

    def draw(self, draw: Callable[[Dimension], ParamValue]) -> dict[str, ParamValue]:
        """Return parameters (by Optuna's names) drawn dimension by dimension; only those that exist together."""
        params: dict[str, ParamValue] = {}
        for dimension in self.dimensions:
            if dimension.option is None or params.get(dimension.option[0]) == dimension.option[1]:
                params[dimension.name] = draw(dimension)
        return params

    def default(self) -> dict[str, ParamValue]:
        """Return the composed default, each value moved to the nearest one that its space allows."""
        return self.draw(lambda d: d.nearest(d.default))

    def defaults_moved(self) -> list[str]:
        """Return a sentence for each default that lies outside its space."""
        default = self.default()
        return [
            f"{d.name}: default {d.default} lies outside its space, trial 0 takes {default[d.name]}"
            for d in self.dimensions
            if d.name in default and not d.contains(d.default)
        ]

    def complete(self, given: Mapping[str, Any]) -> dict[str, ParamValue]:
        """Return a whole set of parameters: the given ones, by either name, and the defaults of the rest.

        Raises UsageError for a name that does not exist beside the others or a value outside its space.
        """
        if not isinstance(given, Mapping | DictConfig):
            raise UsageError(f"enqueue: {given} must be a mapping of parameters, e.g. {{optimizer.lr: 0.01}}")
        left = {str(name): value for name, value in given.items()}

        def pick(dimension: Dimension) -> ParamValue:
            for name in (dimension.name, dimension.path):
                if name in left:
                    value: ParamValue = left.pop(name)
                    if not dimension.contains(value):
                        raise UsageError(f"enqueue: {name}={value} lies outside its space ({dimension.describe()})")
                    return dimension.nearest(value)  # 3.0 is 3 where whole numbers are meant
            return dimension.nearest(dimension.default)

        params = self.draw(pick)
        if left:
            raise UsageError(f"enqueue: {next(iter(left))} is no parameter of that trial; allowed: {', '.join(params)}")
        return params

    def configure(self, params: Params) -> dict[str, Any]:
        """Return a trial's configuration, resolved: chosen nodes in place, values set, no `space`, no `choose`."""
        cfg = copy.deepcopy(self.base)
        by_name = {d.name: d for d in self.dimensions}
        for group in cfg.choose:
            cfg[group] = cfg.choose[group][params[group]]
        del cfg["choose"]
        for name, value in params.items():
            if name not in self.base.choose:
                OmegaConf.update(cfg, by_name[name].path, value)
        resolved = OmegaConf.to_container(cfg, resolve=True)
        return settings_of(resolved)  # type: ignore[no-any-return]

    def require_valid(self) -> None:
        """Raise UsageError for a dimension with values that its key cannot take."""
        for dimension in self.dimensions:
            chosen: dict[str, ParamValue] = {d.name: d.default for d in self.dimensions if d.name in self.base.choose}
            chosen |= dict([dimension.option]) if dimension.option else {}
            for value in dimension.choices or (dimension.at(0.0), dimension.at(1.0 - 2**-53)):
                try:
                    self.configure({**chosen, dimension.name: value})
                except OmegaConfBaseException as error:
                    raise UsageError(f"{dimension.name}: cannot be {value!r} ({str(error).splitlines()[0]})") from error

    def fitting(self, kind: str) -> tuple[Space, list[str]]:
        """Return the space without the options that do not fit data of that kind, and their names.

        Raises UsageError where a named option, or every one of a choice, does not fit.
        """
        base = copy.deepcopy(self.base)
        left_out = []
        for group, options in base.choose.items():
            for option in [str(o) for o in options]:
                if not _fits(options[option], kind):
                    left_out.append(f"{group}={option}")
                    del options[option]
            if not options:
                raise UsageError(f"choose.{group}: no option fits data of kind {kind}; left out: {', '.join(left_out)}")
        for key in map(str, base):
            node = base.get(key) if not OmegaConf.is_missing(base, key) else None
            if isinstance(node, DictConfig) and not _fits(node, kind):
                raise UsageError(f"{key}: fits {' and '.join(node.fits)} data only, and this is a {kind}")
        return Space.of(base), left_out

    def shown(self, params: Params) -> dict[str, ParamValue]:
        """Return the parameters under the names that MLflow shows: `model.width` for `model.mlp.width`.

        A parameter that this space does not have keeps its name: the trial may be of an earlier one.
        """
        paths = {d.name: d.path for d in self.dimensions}
        return {paths.get(name, name): value for name, value in params.items()}

    def require_grid(self) -> None:
        """Raise UsageError for the first continuous dimension."""
        for dimension in self.dimensions:
            dimension.grid()

    def grid(self) -> Iterator[dict[str, ParamValue]]:
        """Yield every combination of the dimensions' values; the last dimension varies fastest."""
        return _combinations(self.dimensions, {})

    def describe(self) -> dict[str, str]:
        """Return each dimension's name and its values in words."""
        return {d.name: d.describe() for d in self.dimensions}


def _combinations(dimensions: Sequence[Dimension], chosen: dict[str, ParamValue]) -> Iterator[dict[str, ParamValue]]:
    if not dimensions:
        yield chosen
        return
    first, rest = dimensions[0], dimensions[1:]
    if first.option is not None and chosen.get(first.option[0]) != first.option[1]:
        yield from _combinations(rest, chosen)
        return
    for value in first.grid():
        yield from _combinations(rest, {**chosen, first.name: value})


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
    siblings = [str(k) for k in node if k not in (*_ABOUT_SEARCHING, "_target_")]
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
        high = round(low + step * math.floor((high - low) / step + 1e-8), 12)  # the last value that is drawn
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


def _fits(node: DictConfig, kind: str) -> bool:
    fits = node.get("fits")
    return fits is None or kind in fits


def settings_of(node: Any) -> Any:
    """Return a plain configuration without what is about searching: `space` and `fits`."""
    if isinstance(node, dict):
        return {k: settings_of(v) for k, v in node.items() if k not in _ABOUT_SEARCHING}
    return [settings_of(v) for v in node] if isinstance(node, list) else node
