"""Everything about a configuration that can be refused in about a second, before data, torch or Ray are touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from search.config.checks import check, check_values
from search.config.messages import suggestion
from search.errors import UsageError
from search.space import Space, changed_values
from search.tracking.projection import store_uri

_OF_STUDENTS = ("temperature", "mix", "lr_factor", "dropout_factor")
"""What may vary of `squeeze.distill`."""


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
    students_space(cfg)
    return Composed(
        cfg=cfg,
        space=space,
        tracking_uri=store_uri(cfg.tracking.uri, Path(cfg.output_dir)) if cfg.tracking.enabled else None,
    )


def students_space(cfg: DictConfig) -> Space:
    """Return what students are drawn from; raise UsageError for a dimension that cannot be drawn from or has no use."""
    node = OmegaConf.to_container(cfg.squeeze.distill, resolve=True)
    try:
        space = Space.of(OmegaConf.create({"choose": {}, "distill": node}))
    except UsageError as error:
        raise UsageError(f"squeeze.{error}") from error
    for d in space.dimensions:
        key = d.path.removeprefix("distill.")
        if key not in _OF_STUDENTS:
            raise UsageError(f"squeeze.distill.space.{key}: cannot vary; {suggestion(key, _OF_STUDENTS)}")
        check_values(f"squeeze.{d.path}", d.choices or (d.low, d.high), f"squeeze.distill.space.{key}")
    return space
