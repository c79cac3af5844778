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
from search.records import Params
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
        names = [part.dimension.name for part in parts if part.dimension is not None]
        groups = [name for name in names if self._is_group(name)]
        self._parts = parts
        self.sweep = Sweep.of(parts, conditions_of(parts, groups, self._keys_with))
        if settings.enumerates:
            self.space.require_grid()
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
        """What the jobs' results depend on, as far as it is configuration. Interpolations stay unresolved."""
        config = OmegaConf.to_container(_without(self._master, ["hydra"]), resolve=False)
        assert isinstance(config, dict)
        swept = [part.dimension.name for part in self._parts if part.dimension is not None]
        kept = {
            key: value
            for key, value in flatten({str(k): v for k, v in config.items()}).items()
            if not any(key == name or key.startswith(f"{name}.") for name in swept)
        }
        fixed = [part.key if part.text is None else f"{part.key}={part.text}" for part in self._fixed()]
        described: Mapping[str, Any] = {
            **kept,
            **self.space.describe(),
            "overrides": fixed,
            "direction": list(self._settings.direction),
            "seed": self._settings.seed,
        }
        plain: Identity = json.loads(json.dumps(described, default=str))
        return plain

    def _is_group(self, name: str) -> bool:
        return self.configs.is_group(name.partition("@")[0])

    def _fixed(self) -> list[SweptOverride]:
        return [part for part in self._parts if part.dimension is None]

    def _keys_with(self, group: str, option: str) -> set[str]:
        """Return those of the swept keys that the configuration has with this option, others at their first."""
        overrides = []
        for part in self._parts:
            dimension = part.dimension
            if dimension is None:
                overrides.append(part.key if part.text is None else f"{part.key}={part.text}")
            elif dimension.name == group:
                overrides.append(part.written(option))
            elif self._is_group(dimension.name):
                overrides.append(part.written(dimension.default))
        config = self.configs.compose(overrides)
        names = [part.dimension.name for part in self._parts if part.dimension is not None]
        return {name for name in names if _has(config, name)}


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
