"""The configurations of a Hydra application's jobs, composed once for each choice of groups."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, open_dict


class JobConfigs:
    """Composes the configuration of job after job.

    Hydra takes 45 ms for one. What a job's other overrides do to it is done by Hydra's own function, on a copy.
    """

    def __init__(self, loader: ConfigLoaderImpl, master: DictConfig) -> None:
        """`master` is the sweep's configuration, as Hydra composed it for the multirun."""
        self._loader, self._master = loader, master
        self._parser = OverridesParser.create(config_loader=loader)
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return a configuration of its own for the job; raises Hydra's exceptions where there can be none."""
        parsed = [self._parser.parse_override(text) for text in overrides]
        chosen = [o for o in parsed if self.chooses(o) or o.is_hydra_override()]
        key = tuple(str(o.input_line) for o in chosen)
        if key not in self._composed:
            self._composed[key] = self._loader.load_sweep_config(self._master, list(key))
        config = copy.deepcopy(self._composed[key])
        self._loader._apply_overrides_to_config([o for o in parsed if o not in chosen], config)
        _note(config, [o for o in parsed if not o.is_hydra_override()])
        return config

    def chooses(self, override: Override) -> bool:
        """Tell whether the override chooses a group's option: those cannot be applied to what is composed."""
        return override.package is not None or (
            self.is_group(override.key_or_group) and not isinstance(override.value(), dict)
        )

    def is_group(self, key: str) -> bool:
        """Tell whether the application has such a config group."""
        return bool(self._loader.repository.group_exists(key))


def _note(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Put down the job's overrides, as Hydra does at the end of a composition."""
    job = config.hydra.job
    written: Any = [str(o.input_line) for o in overrides]
    with open_dict(config.hydra):
        config.hydra.overrides.task = written
        job.override_dirname = get_overrides_dirname(
            overrides=list(overrides),
            kv_sep=job.config.override_dirname.kv_sep,
            item_sep=job.config.override_dirname.item_sep,
            exclude_keys=job.config.override_dirname.exclude_keys,
        )
