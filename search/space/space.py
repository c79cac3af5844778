"""All that may vary in a composed configuration, and what a choice of values makes of it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from search.errors import UsageError
from search.records import Params, ParamValue
from search.space.dimension import Dimension
from search.space.reading import dimensions_of
from search.space.trial_config import Settings, TrialConfigs


@dataclass(frozen=True, kw_only=True)
class Space:
    """The dimensions of a composed configuration; a choice stands before what it brings."""

    dimensions: tuple[Dimension, ...]
    base: DictConfig = field(repr=False)

    @classmethod
    def of(cls, cfg: DictConfig, within: str | None = None) -> Space:
        """Read the space of a composed configuration, or of one of its nodes alone.

        Raises UsageError, naming the key, for a dimension that cannot be drawn from or that belongs to no key.
        """
        base = copy.deepcopy(cfg)
        OmegaConf.set_struct(base, False)
        for group in [str(g) for g in base.choose]:
            if within is not None or base.get(group) is not None:  # naming a group takes it out of `choose`
                del base.choose[group]
        found = dimensions_of(base)
        if within is not None:
            found = tuple(d for d in found if d.name.startswith(f"{within}."))
        return cls(dimensions=found, base=base)

    def draw(self, draw: Callable[[Dimension], ParamValue]) -> dict[str, ParamValue]:
        """Return parameters (by Optuna's names) drawn dimension by dimension; only those that exist together."""
        params: dict[str, ParamValue] = {}
        for dimension in self.dimensions:
            if dimension.option is None or params.get(dimension.option[0]) == dimension.option[1]:
                params[dimension.name] = draw(dimension)
        return params

    def default(self) -> dict[str, ParamValue]:
        """Return the composed default, each value moved to the nearest one that its space allows."""
        return self._default_with({})

    def _default_with(self, chosen: Params) -> dict[str, ParamValue]:
        return self.draw(lambda d: chosen.get(d.name, d.nearest(d.default)))

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

    def narrowed(self, name: str, low: float, high: float) -> Space:
        """Return the space with other bounds of a range, named as Optuna does."""
        dimension = next(d for d in self.dimensions if d.name == name)
        group, _, key = dimension.path.partition(".")
        chosen = dimension.option is not None and dimension.option[0] == group
        where = f"choose.{group}.{dimension.option[1]}" if dimension.option and chosen else group
        base = copy.deepcopy(self.base)
        OmegaConf.update(base, f"{where}.space.{key}.low", low)
        OmegaConf.update(base, f"{where}.space.{key}.high", high)
        return Space.of(base)

    def has(self, params: Params) -> bool:
        """Tell whether this is a whole set of parameters of this space, with values that it allows."""
        there = self.draw(lambda d: params.get(d.name))
        return there.keys() == params.keys() and all(
            d.contains(there[d.name]) for d in self.dimensions if d.name in there
        )

    def configure(self, params: Params, keys: Sequence[str] | None = None) -> Settings:
        """Return a trial's configuration, resolved: chosen nodes in place, values set, no `space`, no `choose`.

        With `keys`, these nodes of it alone.
        """
        config = self._configs.make(params)
        return config if keys is None else {key: config[key] for key in keys}

    def most(self, name: str, default: int) -> int:
        """Return the highest whole number that a key takes in any trial; `default` where it does not vary."""
        dimension = next((d for d in self.dimensions if d.name == name), None)
        drawn = (*dimension.choices, dimension.high) if dimension else ()
        return max(default, *(int(v) for v in drawn if isinstance(v, int | float)), 1)

    def compositions(self, params: Params) -> Iterator[Settings]:
        """Yield the configurations, at their defaults, that a trial of an earlier space may have begun with.

        Where its parameters name an option, that is the only one.
        """
        groups = [d for d in self.dimensions if d.name in self.base.choose]
        named = [[c for c in d.choices if params.get(d.name, c) == c] for d in groups]
        for options in itertools.product(*named):
            yield self.configure(self._default_with(dict(zip([d.name for d in groups], options, strict=True))))

    @cached_property
    def _configs(self) -> TrialConfigs:
        return TrialConfigs(self.base, self.dimensions)

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


def _fits(node: DictConfig, kind: str) -> bool:
    fits = node.get("fits")
    return fits is None or kind in fits
