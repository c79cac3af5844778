"""What a command line composes, for benchmarks that do without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from search.train.data.arrays import Dataset


def configured(words: Sequence[str]) -> DictConfig:
    """Return the configuration with all defaults but what the words say."""
    from hydra import compose, initialize_config_dir

    from search.apps.cli import CONFIG, config_folder
    from search.apps.naming import register_resolvers
    from search.config import schema

    schema.register()
    register_resolvers()
    with initialize_config_dir(str(config_folder()), version_base="1.3", job_name="bench"):
        return compose(CONFIG, overrides=list(words))


def composed(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the nodes data and split, and a trial's configuration, with all defaults but what the words say."""
    from omegaconf import OmegaConf

    from search.space import Space

    cfg = configured(words)
    nodes = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("data", "split")}
    space = Space.of(cfg)
    return nodes, dict(space.configure(space.default()))


def data_of(cfg: DictConfig) -> Dataset:
    """Return the data that a configuration names, divided as it says."""
    from omegaconf import OmegaConf

    from search.train.data.own import load
    from search.train.data.split import divide

    data, split = (OmegaConf.to_container(cfg[key], resolve=True) for key in ("data", "split"))
    assert isinstance(data, dict)
    assert isinstance(split, dict)
    examples = load({str(k): v for k, v in data.items()})
    return Dataset(examples=examples, split=divide(examples, {str(k): v for k, v in split.items()}))
