"""Sweeps of Hydra applications through Hydra's own machinery, with workers in this process."""

import contextlib
import functools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import search.apps.sweeper
from search.apps.sweeper.settings import Settings
from search.jobs.application import Application, JobRunner
from search.sweep.executor import Executor, InProcessExecutor
from tests.kits.commands import environment, events

NAMED = ("hydra/sweeper=ray_optuna", "hydra.sweep.dir=sweep")
Task = Callable[[DictConfig], Any]


class App:
    """A Hydra application in a folder: a configuration, groups, a function; swept as often as a test likes."""

    def __init__(self, folder: Path, config: Mapping[str, Any], groups: Mapping[str, Any] | None = None) -> None:
        """`groups` are configurations by their path, e.g. `{"model/mlp": {"width": 8}}`."""
        self.folder = folder
        self.sweep = folder / "sweep"
        self.executor: Callable[[JobRunner], Executor] = InProcessExecutor
        self.hired = 0
        """How often workers were asked for."""
        for name, node in {"config": config, **(groups or {})}.items():
            path = folder / "conf" / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(OmegaConf.to_yaml(OmegaConf.create(node)))

    def run(self, task: Task, *overrides: str, named: tuple[str, ...] = NAMED) -> Any:
        """Do what `python app.py -m` does in the folder, but for the end of the program."""
        with self.hydra() as hydra, _workers(self._hire):
            return hydra.multirun("config", task, [*named, *overrides, "hydra.mode=MULTIRUN"])

    def grid(self, task: Task, *overrides: str) -> Any:
        """Run with every job named."""
        return self.run(task, "hydra.sweeper.sampler=grid", *overrides)

    @contextlib.contextmanager
    def hydra(self) -> Iterator[Hydra]:
        """Give Hydra as it starts in the folder, and take back what it does to this process."""
        before, state, levels = Path.cwd(), Singleton.get_state(), logging.root.level
        handlers = list(logging.root.handlers)
        os.chdir(self.folder)
        try:
            GlobalHydra.instance().clear()
            version.setbase(None)
            yield Hydra.create_main_hydra_file_or_module(str(self.folder / "app.py"), None, "conf", "app")
        finally:
            os.chdir(before)
            GlobalHydra.instance().clear()
            Singleton.set_state(state)
            for handler in [h for h in logging.root.handlers if h not in handlers]:
                logging.root.removeHandler(handler)
                handler.close()
            logging.root.setLevel(levels)

    @contextlib.contextmanager
    def composed(self, *overrides: str) -> Iterator[tuple[Any, DictConfig]]:
        """Give the loader and a sweep's configuration."""
        with self.hydra() as hydra:
            loader: ConfigLoader = hydra.config_loader
            yield loader, hydra.compose_config("config", [*NAMED, *overrides], RunMode.MULTIRUN)

    @contextlib.contextmanager
    def _hire(self, settings: Settings, application: Application) -> Iterator[Executor]:
        self.hired += 1
        with self.executor(JobRunner(application)) as executor:
            yield executor

    # What a sweep left

    def events(self, kind: str) -> list[dict[str, Any]]:
        return events(self.sweep / "study", kind)

    @property
    def outcomes(self) -> dict[int, dict[str, Any]]:
        """The outcomes by number."""
        return {event["number"]: event for event in self.events("outcome")}

    @property
    def params(self) -> dict[int, dict[str, Any]]:
        """The parameters by number, as they were shown when the job last started."""
        return {event["number"]: event["params"] for event in self.events("started")}

    @property
    def started(self) -> list[int]:
        """The numbers of the jobs in the order in which they started."""
        return [event["number"] for event in self.events("started")]

    @property
    def results(self) -> Any:
        """The file of the best jobs."""
        return plain(self.sweep / "optimization_results.yaml")

    def job(self, number: int) -> Path:
        """The folder of a job."""
        return self.sweep / str(number)

    def overrides(self, number: int) -> Any:
        """What Hydra wrote of a job."""
        return plain(self.job(number) / ".hydra" / "overrides.yaml")

    def about(self, number: int) -> dict[str, Any]:
        """What is stored of a job beside its outcome."""
        found: dict[str, Any] = json.loads((self.sweep / "study" / "trials" / f"{number:05d}" / "job.json").read_text())
        return found


def environment_of_applications() -> dict[str, str]:
    """Return an environment where Hydra finds the sweeper of this checkout."""
    root = Path(__file__).parents[2]
    return {**environment(), "PYTHONPATH": f"{root}{os.pathsep}{root / 'search' / '_plugins'}"}


def plain(path: Path) -> Any:
    """Return a YAML file's content, interpolations as they stand there."""
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


@contextlib.contextmanager
def _workers(hire: Callable[..., Any]) -> Iterator[None]:
    original = search.apps.sweeper.sweep
    search.apps.sweeper.sweep = functools.partial(original, workers=hire)
    try:
        yield
    finally:
        search.apps.sweeper.sweep = original
