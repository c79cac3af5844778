"""What a sweep is: its overrides as a space, and every job's configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from search.apps.sweeper.settings import Settings
from search.errors import UsageError
from search.jobs.application import numbered
from search.jobs.job_configs import JobConfigs
from search.records import OBJECTIVE, Params
from search.space.overrides import Sweep, SweptOverride, conditions_of, swept_overrides
from search.space.space import Space
from search.sweep.identity import Identity, flatten


class Definition:
    """A sweep as its configuration and its command line describe it."""

    def __init__(self, settings: Settings, context: HydraContext, master: DictConfig, arguments: Sequence[str]) -> None:
        """Raises UsageError for what cannot be drawn from, and what Hydra raises where a job cannot be composed."""
        self._settings, self._master = settings, master
        self.configs = JobConfigs(context.config_loader, master)  # type: ignore[arg-type] # the only one there is
        parts = swept_overrides(settings.params, arguments, context.config_loader, settings.seed)
        self._parts = parts
        self._with_option: dict[str, DictConfig] = {}
        groups = [name for name in self._names() if self._is_group(name)]
        self.sweep = Sweep.of(parts, conditions_of(parts, groups, self._keys_with))
        if settings.enumerates:
            self._require_grid()
        elif not self.space.dimensions:
            raise UsageError("nothing is swept; e.g. lr=interval(0.1,1), or hydra.sweeper.sampler=grid for one job")
        numbered(self.configs.compose(self.sweep.overrides(self.space.default())), 0)

    @property
    def space(self) -> Space:
        """The dimensions."""
        return self.sweep.space

    def job_config(self, number: int, params: Params) -> DictConfig:
        """Return the whole configuration of a job."""
        return numbered(self.configs.compose(self.sweep.overrides(params)), number)

    @cached_property
    def identity(self) -> Identity:
        """What the jobs' results depend on, as far as it is configuration. Interpolations stay unresolved.

        The application's keys stand under `app`, so that none of them is taken for one of the sweep's own. What every
        option of the swept groups leaves as it is stands there once, what some change with each of these.
        """
        leaves = {case: self._leaves(config) for case, config in self._composed_cases().items()}
        first = next(iter(leaves.values()))
        common = {key for key in first if all(key in each and each[key] == first[key] for each in leaves.values())}
        described: Mapping[str, Any] = {
            **{f"app.{key}": first[key] for key in common},
            **{
                f"app.{key} with {case}": value
                for case, each in leaves.items()
                for key, value in each.items()
                if key not in common
            },
            **{f"space.{name}": words for name, words in self.space.describe().items()},
            "metric": self._settings.metric or OBJECTIVE,
            "direction": list(self._settings.direction),
            "seed": self._settings.seed,
        }
        return described

    def _composed_cases(self) -> Mapping[str, DictConfig]:
        """Return the configurations with each option of a swept group, by `group=option`; else the only one."""
        return self._with_option or {"": self.configs.compose(self._fixed())}

    def _leaves(self, config: DictConfig) -> dict[str, Any]:
        """Return what the application has by dotted key, without the values that are swept, as JSON has it."""
        tree = OmegaConf.to_container(_without(config, ["hydra"]), resolve=False, enum_to_str=True)
        plain: dict[str, Any] = json.loads(json.dumps(tree, default=str, skipkeys=True))
        swept = [name for name in self._names() if not self._is_group(name)]
        return {
            key: value
            for key, value in flatten(plain).items()
            if not any(key == name or key.startswith(f"{name}.") for name in swept)
        }

    def _require_grid(self) -> None:
        for dimension in self.space.dimensions:
            if dimension.size is None:
                raise UsageError(
                    f"hydra.sweeper.sampler=grid: {dimension.name} is continuous; name its values, "
                    "e.g. choice(0.1,0.2) or range(0,1,0.1)"
                )

    def _is_group(self, name: str) -> bool:
        return self.configs.is_group(name.partition("@")[0])

    def _names(self) -> list[str]:
        return [part.dimension.name for part in self._parts if part.dimension is not None]

    def _fixed(self) -> list[str]:
        return [_set(part) for part in self._parts if part.dimension is None]

    def _keys_with(self, group: str, option: str) -> set[str]:
        """Return those of the swept keys that the configuration has with this option, others at their first."""
        overrides = []
        for part in self._parts:
            dimension = part.dimension
            if dimension is None:
                overrides.append(_set(part))
            elif dimension.name == group:
                overrides.append(part.written(option))
            elif self._is_group(dimension.name):
                overrides.append(part.written(dimension.default))
        config = self._with_option[f"{group}={option}"] = self.configs.compose(overrides)
        return {name for name in self._names() if _has(config, name)}


def _set(part: SweptOverride) -> str:
    """Return the override that is the same in every job."""
    return part.key if part.text is None else f"{part.key}={part.text}"


def _has(config: DictConfig, path: str) -> bool:
    parent, _, key = path.rpartition(".")
    node = OmegaConf.select(config, parent, throw_on_missing=False) if parent else config
    if isinstance(node, ListConfig):
        return key.isdigit() and int(key) < len(node)
    return isinstance(node, DictConfig) and key in node._content  # type: ignore[operator] # whatever its value


def _without(config: DictConfig, keys: Sequence[str]) -> DictConfig:
    copied = config.copy()
    with open_dict(copied):
        for key in keys:
            copied.pop(key, None)
    return copied
