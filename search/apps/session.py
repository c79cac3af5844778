"""What the stages of one search share, made when first needed: data, study folder, workers, tracker."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf
from rich.console import Console

from search.apps.composed import Composed
from search.config.build import factory
from search.config.schema import SearchConfig
from search.errors import UsageError
from search.keyed import keyed_int
from search.records import Params, TrialSpec
from search.tracking.outbox import MlflowTracker, delivered
from search.tracking.projection import Projection
from search.tracking.tracker import NullTracker, SearchInfo, Tracker
from search.train.data.arrays import Dataset, Examples
from search.train.data.split import divide
from search.train.metrics import Metric, objective

if TYPE_CHECKING:
    from search.sweep.journal import Journal
    from search.sweep.ray_executor import RayExecutor

_MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the tracker tries again itself
}
_NAMED_GROUPS = ("model", "optimizer", "schedule")
_PACKAGES = ("torch", "optuna", "hydra-core", "mlflow", "ray", "numpy")


class Session:
    """One run of the program over one composed configuration."""

    def __init__(
        self,
        composed: Composed,
        folder: Path,
        console: Console,
        *,
        choices: Mapping[str, str | None],
        job: str | None,
    ) -> None:
        """`folder` is the study's; `choices` are Hydra's, by group; `job` names this job of a multirun."""
        self._node = composed.cfg
        self.cfg: SearchConfig = composed.cfg  # type: ignore[assignment] # a DictConfig of that schema
        self.space, self.first, self.tracking_uri = composed.space, composed.first, composed.tracking_uri
        self.folder, self.job, self.console = folder, job, console
        self.named = {group: str(choices[group]) for group in _NAMED_GROUPS if choices.get(group)}
        self._resources = contextlib.ExitStack()
        self._tracker: Tracker | None = None

    @cached_property
    def dataset(self) -> Dataset:
        """The examples with their split."""
        node = OmegaConf.to_container(self._node.data, resolve=True)
        assert isinstance(node, dict)
        examples = factory({str(k): v for k, v in node.items()}, "data")()
        if not isinstance(examples, Examples):
            raise UsageError(f"data._target_={node['_target_']}: gives {type(examples).__name__}, not Examples")
        split = OmegaConf.to_container(self._node.split, resolve=True)
        assert isinstance(split, dict)
        return Dataset(examples=examples, split=divide(examples, {str(k): v for k, v in split.items()}))

    @cached_property
    def metric(self) -> Metric:
        """The objective."""
        return objective(self.cfg.metric.name, self.cfg.metric.mode, self.dataset.examples.task)

    @cached_property
    def executor(self) -> RayExecutor:
        """The workers; Ray starts here."""
        from search.sweep.ray_executor import RayExecutor, Resources
        from search.trial import Equipment, Runner

        cluster = self.cfg.cluster
        self.console.print("starting the workers ...", style="dim")
        executor = RayExecutor(
            Runner,
            Resources(
                address=cluster.address if cluster.kind == "existing" else None,
                cpus=cluster.cpus,
                gpus=cluster.gpus,
                workers=cluster.workers,
                cpus_per_trial=cluster.cpus_per_trial,
                gpus_per_trial=self._gpus_per_trial(),
            ),
        )
        self._resources.enter_context(executor)
        executor.equip(Equipment(dataset=self.dataset, device=self.cfg.device, threads=self.cfg.trainer.threads))
        return executor

    def shown(self, params: Params) -> Params:
        """Return a trial's parameters as people see them: named groups first, then what was drawn."""
        return {**self.named, **self.space.shown(params)}

    def spec(self, number: int, params: Params) -> TrialSpec:
        """Return the work of a trial."""
        return TrialSpec(
            number=number,
            params=params,
            config=self.space.configure(params),
            seed=keyed_int(self.cfg.seed, number, "trial"),
            directory=str(self.folder / "trials" / f"{number:05d}"),
        )

    def tracker(self, journal: Journal) -> Tracker:
        """Return the study's tracker; the first call begins it and hands it what it has not delivered yet."""
        if self._tracker is None:
            self._tracker = self._begin_tracking(journal.uid)
            for event, position in journal.events(start=self._tracker.position):
                self._tracker.record(event, position)
        return self._tracker

    def undelivered(self, journal: Journal) -> bool:
        """Tell whether the tracking server lacks events of the study."""
        uri = self.tracking_uri
        if uri is None:
            return False
        state = delivered(self.folder, uri)
        return state is None or state.position != journal.size()

    def parent_run(self, journal: Journal) -> tuple[str, str] | None:
        """Return MLflow's address and the id of the search's run, once it is there; None without tracking."""
        uri = self.tracking_uri
        run = self.tracker(journal).parent_run()
        return None if uri is None or run is None else (uri, run)

    def close(self, status: str) -> None:
        """End the workers and deliver what the tracker has left."""
        self._resources.close()
        if self._tracker is not None and (problem := self._tracker.finish(status)):
            self.console.print(f"not everything reached {problem}; the same command delivers it later", style="red")

    def _gpus_per_trial(self) -> float:
        wanted = self.cfg.cluster.gpus_per_trial
        if wanted is not None:
            return wanted
        if self.cfg.device == "cpu" or self.cfg.cluster.gpus == 0:
            return 0.0
        import torch  # only asked for where the answer may be a GPU

        return 1.0 if torch.cuda.is_available() or self.cfg.device.startswith("cuda") else 0.0

    def _begin_tracking(self, uid: str) -> Tracker:
        uri = self.tracking_uri
        if uri is None:
            return NullTracker()
        for key, value in _MLFLOW_SETTINGS.items():
            os.environ.setdefault(key, value)  # read when mlflow is imported
        base, info = Path(self.cfg.output_dir), self._info(uid)
        experiment = self.cfg.tracking.experiment
        return MlflowTracker(lambda resumed: Projection(uri, experiment, base, info, resumed=resumed), uri, self.folder)

    def _info(self, uid: str) -> SearchInfo:
        config = self.folder / "config.yaml"
        config.write_text(OmegaConf.to_yaml(self._node))  # unresolved: what comes from the environment stays there
        return SearchInfo(
            uid=uid,
            name=self.job or self.cfg.name,
            maximize=self.metric.maximize,
            params=self._shown_settings(),
            tags={
                "search.name": self.cfg.name,
                "search.data": self.dataset.examples.digest(),
                "search.python": platform.python_version(),
                **{f"search.{name}": version(name) for name in _PACKAGES},
                **_git_tags(),
            },
            files=(config,),
        )

    def _shown_settings(self) -> dict[str, object]:
        cfg = self.cfg
        return {
            "seed": cfg.seed,
            "data": self.dataset.examples.name,
            **self.named,
            "metric": self.metric.name,
            "sampler": cfg.sampler.kind,
            "pruner": cfg.pruner.kind,
            "budget.trials": cfg.budget.trials,
            "trainer.epochs": cfg.trainer.epochs,
            "split.fractions": list(cfg.split.fractions),
            "device": cfg.device,
        }


def _git_tags() -> Mapping[str, str]:
    """Return commit and state of the checkout that the user stands in, as MLflow names them."""

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    tags = {
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": getpass.getuser(),
    }
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "mlflow.source.git.branch": git("branch", "--show-current")}
        tags["mlflow.source.git.dirty"] = str(bool(git("status", "--porcelain"))).lower()
    return tags
