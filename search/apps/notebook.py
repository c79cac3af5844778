"""A search from Python: `search.run(["data=digits", "model=mlp"])` in a notebook or a script."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from search.apps.cli import CONFIG, config_folder
from search.apps.clusters import Clusters
from search.apps.composed import composed
from search.apps.interrupts import own_signals
from search.apps.naming import register_resolvers
from search.apps.search import run as run_stages
from search.apps.session import Place
from search.checks.stored import StageFindings
from search.config import schema
from search.config.arguments import expand, override
from search.config.messages import one_line
from search.errors import GaveUpError, UsageError
from search.records import Finding
from search.reporting.progress import SteadyConsole
from search.sweep.reading import ReadStudy, read_study


def run(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None, quiet: bool = False) -> ReadStudy:
    """Do what `search` does with these overrides; return the study that stands on disk then.

    `config_dir` is a folder of configurations of the user's own (`--config-dir`); `quiet` leaves out what would be
    printed. Raises UsageError for what cannot work, UnsoundError where a check of data or setup fails, GaveUpError
    where the trials failed, KeyboardInterrupt where it was interrupted: the same call goes on.
    """
    return read_study(_run(overrides, config_dir, quiet))


def inspect(
    cfg: Sequence[str] | DictConfig = (), *, config_dir: str | Path | None = None, quiet: bool = False
) -> tuple[Finding, ...]:
    """Look at the data as `search stages=[inspect]` does; return what was found, row by row of the recipe.

    `cfg` is a list of overrides, or a composed configuration. Files of evidence stand in the study's folder. Raises
    UsageError for what cannot work; a verdict fail is returned like any other.
    """
    return _findings("inspect", cfg, config_dir, quiet)


def preflight(
    cfg: Sequence[str] | DictConfig = (), *, config_dir: str | Path | None = None, quiet: bool = False
) -> tuple[Finding, ...]:
    """Prove the setup as `search stages=[preflight]` does; arguments and errors are those of `inspect`."""
    return _findings("preflight", cfg, config_dir, quiet)


def _findings(
    stage: str, cfg: Sequence[str] | DictConfig, config_dir: str | Path | None, quiet: bool
) -> tuple[Finding, ...]:
    alone: dict[str, Any] = {"stages": [stage], f"{stage}.on_fail": "warn"}
    if isinstance(cfg, DictConfig):
        own = cfg.copy()
        OmegaConf.set_readonly(own, False)
        with _in_one_line():
            for key, value in alone.items():
                OmegaConf.update(own, key, value)
        folder = _run(own, config_dir, quiet)
    else:
        _check(cfg)
        folder = _run([*cfg, f"stages=[{stage}]", f"{stage}.on_fail=warn"], config_dir, quiet)
    found = StageFindings.load(folder, stage)
    assert found is not None  # the stage has just stored it
    return found.findings


def _run(given: Sequence[str] | DictConfig, config_dir: str | Path | None, quiet: bool) -> Path:
    """Run the stages; return the study's folder."""
    if not isinstance(given, DictConfig):
        _check(given)
    own = None if config_dir is None else Path(config_dir).resolve()
    if own is not None and not own.is_dir():
        raise UsageError(f"config_dir={config_dir}: no such folder")
    with _in_one_line(), _importable(Path.cwd()), own_signals(), contextlib.closing(Clusters()) as clusters:
        choices: dict[str, str] = {}
        if isinstance(given, DictConfig):
            register_resolvers()
            cfg = given
        else:
            with _hydra_left_alone():
                cfg = _composed(list(given), own)
            choices = {str(k): v for k, v in cfg.hydra.runtime.choices.items()}
        with open_dict(cfg):
            cfg.pop("hydra", None)
        checked, stages = composed(cfg), list(cfg.stages)
        if "preview" in stages:
            raise UsageError("stages=[preview]: is for the command line, because it leaves no study to return")
        if "predict" in stages:
            raise UsageError("stages=[predict]: is for the command line; here, load the champion with MLflow")
        folder = Path(cfg.output_dir).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        place = Place(
            folder=folder,
            console=SteadyConsole(soft_wrap=True, quiet=quiet),
            choices=choices,
            clusters=clusters,
        )
        if run_stages(checked, place):
            raise GaveUpError(f"stages={stages}: failed, as was printed")
        return folder


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Raise UsageError for a value that cannot be resolved, e.g. from the environment."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise UsageError(one_line(error, config_folder(), CONFIG)) from error


def _check(overrides: Sequence[str]) -> None:
    if isinstance(overrides, str):
        raise UsageError(f"overrides={overrides!r}: must be a list, e.g. [{overrides!r}]")
    for word in overrides:
        if word.startswith("-"):
            raise UsageError(f"{word}: is for the command line; search.run takes overrides, key=value")


def _composed(overrides: list[str], config_dir: Path | None) -> DictConfig:
    schema.register()
    register_resolvers()
    conf = config_folder()
    words = [*(["--config-dir", str(config_dir)] if config_dir else []), *overrides]
    try:
        expanded = expand(words, conf, CONFIG)[2 if config_dir else 0 :]
        more = [f"hydra.searchpath=[{override('', f'file://{config_dir}').removeprefix('=')}]"] if config_dir else []
        with initialize_config_dir(str(conf), version_base="1.3", job_name=CONFIG):
            cfg = compose(CONFIG, overrides=[*more, *expanded], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UsageError(one_line(error, conf, CONFIG, words)) from error
    return cfg


@contextlib.contextmanager
def _hydra_left_alone() -> Iterator[None]:
    """Leave Hydra to whoever initialised it before, as notebooks do for their own configurations."""
    hydra = GlobalHydra.instance()
    theirs, hydra.hydra = hydra.hydra, None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = theirs


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Find the user's own modules in the folder that they stand in, as the command line does; workers do, too."""
    there = str(folder) in sys.path
    if not there:
        sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if not there:
            sys.path.remove(str(folder))
