"""What a command line composes, for benchmarks that train without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def composed(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the nodes data and split, and a trial's configuration, with all defaults but what the words say."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from search.apps.cli import CONFIG, config_folder
    from search.apps.naming import register_resolvers
    from search.config import schema
    from search.space import Space

    schema.register()
    register_resolvers()
    with initialize_config_dir(str(config_folder()), version_base="1.3", job_name="bench"):
        cfg = compose(CONFIG, overrides=list(words))
    nodes = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("data", "split")}
    space = Space.of(cfg)
    return nodes, dict(space.configure(space.default()))
