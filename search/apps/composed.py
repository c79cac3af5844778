"""Everything about a configuration that can be refused in about a second, before data, torch or Ray are touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from search.config.checks import check, check_values
from search.space import Space, changed_values
from search.tracking.projection import store_uri


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A checked configuration with its space."""

    cfg: DictConfig
    space: Space
    tracking_uri: str | None


def composed(cfg: DictConfig) -> Composed:
    """Check a configuration; raise UsageError for the first thing that cannot work."""
    check(cfg)  # type: ignore[arg-type] # a DictConfig of that schema
    space = Space.of(cfg, within=None if cfg.objective is None else "objective")
    if cfg.sampler.kind == "grid":
        space.require_grid()
    space.require_valid()
    for d in space.dimensions:
        check_values(d.path, d.choices or (d.low, d.high), f"the space of {d.name}")
    for at, key, value in changed_values(space.base):
        check_values(key, [value], at)
    for given in cfg.enqueue:
        space.complete(given)
    return Composed(
        cfg=cfg,
        space=space,
        tracking_uri=store_uri(cfg.tracking.uri, Path(cfg.output_dir)) if cfg.tracking.enabled else None,
    )
