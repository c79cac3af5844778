"""What the stages of one search share, made when first needed: data, study folder, workers, tracker."""

from __future__ import annotations

import contextlib
import os
import platform
import uuid
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich.console import Console

from search.apps.composed import Composed
from search.apps.interrupts import raise_on_signals
from search.apps.source import source_tags
from search.apps.trained import WITHOUT_EFFECT, needed, trained
from search.config.build import factory
from search.config.schema import SearchConfig
from search.errors import UsageError
from search.keyed import keyed_int
from search.layout import CONFIG
from search.records import FailureKind, Params, TrialSpec
from search.space import Settings
from search.sweep.failures import FailurePolicy, Failures
from search.sweep.identity import Identity, flatten
from search.sweep.journal import Journal, trial_folder
from search.tracking.outbox import MlflowTracker, delivered
from search.tracking.projection import Projection, prepare_mlflow
from search.tracking.tracker import NullTracker, SearchInfo, Tracker
from search.train.data.arrays import Dataset, Examples
from search.train.data.split import divide
from search.train.data.table import only_known_words
from search.train.equipment import Equipment
from search.train.metrics import objective

if TYPE_CHECKING:
    from search.sweep.ray_executor import RayExecutor

_DELIVERING = 0.2
"""Share of the grace after an interruption in which MLflow may be told the rest."""
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
        """`folder` is the study's; `choices` are Hydra's, by group; `job` names this job of a multirun.

        The data is loaded here; raises UsageError where it, the objective or the space does not fit.
        """
        self.node, self.tracking_uri = composed.cfg, composed.tracking_uri
        self.cfg: SearchConfig = composed.cfg  # type: ignore[assignment] # a DictConfig of that schema
        self.folder, self.job, self.console = folder, job, console
        self.named = {group: str(choices[group]) for group in _NAMED_GROUPS if choices.get(group)}
        self.dataset = self._load()
        task = self.dataset.examples.task
        self.metric = objective(self.cfg.metric.name, self.cfg.metric.mode, task)
        self.selection_metric = objective(self.cfg.squeeze.metric or "loss", None, task, key="squeeze.metric")
        self.space, self.left_out = composed.space.fitting(self.dataset.examples.kind)
        self.first: list[Params] = [self.space.default(), *(self.space.complete(given) for given in self.cfg.enqueue)]
        self._resources = contextlib.ExitStack()
        self._tracker: Tracker | None = None

    def _load(self) -> Dataset:
        examples = factory(self.plain("data"), "data")()
        if not isinstance(examples, Examples):
            raise UsageError(f"data._target_={self.node.data._target_}: gives {type(examples).__name__}, not Examples")
        split = divide(examples, self.plain("split"))
        return Dataset(examples=only_known_words(examples, split.train), split=split)

    def plain(self, key: str) -> dict[str, Any]:
        """Return a node of the configuration as plain values, resolved."""
        plain = OmegaConf.to_container(self.node[key], resolve=True)
        assert isinstance(plain, dict)
        return {str(k): v for k, v in plain.items()}

    @property
    def registered_name(self) -> str | None:
        """The champion's name in MLflow's registry: one of its own for each job of a multirun."""
        name = self.cfg.squeeze.register
        return name if name is None or self.job is None else f"{name}-{self.job}"

    @cached_property
    def identity(self) -> Identity:
        """What the trials' figures depend on. Interpolations stay unresolved: they may hold secrets."""
        tree = OmegaConf.to_container(self.space.base, resolve=False)
        assert isinstance(tree, dict)
        trainer = {k: v for k, v in tree["trainer"].items() if k not in WITHOUT_EFFECT}
        nodes = {str(group): tree[group] for group in (*_NAMED_GROUPS, "choose") if tree[group]}
        return flatten(
            {
                **nodes,
                "trainer": trainer,
                "split": tree["split"],
                "split.seed": self.cfg.split.seed,
                "seed": self.cfg.seed,
                "metric": self.metric.name,
                "data": self.dataset.examples.name,
                "data.digest": self.dataset.examples.digest(),
            }
        )

    @cached_property
    def executor(self) -> RayExecutor:
        """The workers; Ray starts here."""
        from search.sweep.ray_executor import RayExecutor, Resources

        cluster, device = self.cfg.cluster, self.cfg.device
        self.console.print("starting the workers ...", style="dim")
        if device.startswith("cuda:"):
            os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
            device = "cuda"  # a worker sees the one it was given, as its first
        without_gpu = device == "cpu" or cluster.gpus == 0
        executor = RayExecutor(
            "search.trial:Runner",  # which brings torch: not into this process
            Resources(
                address=cluster.address if cluster.kind == "existing" else None,
                cpus=cluster.cpus,
                gpus=cluster.gpus,
                workers=cluster.workers,
                cpus_per_trial=cluster.cpus_per_trial,
                gpus_per_trial=0.0 if without_gpu else cluster.gpus_per_trial,
                memory_per_trial=cluster.memory_per_trial,
                recycle_trials=cluster.recycle_trials,
                recycle_growth=cluster.recycle_growth,
            ),
        )
        raise_on_signals()  # Ray took the handlers
        self._resources.enter_context(executor)
        token = self.folder / "token"
        token.write_text(uuid.uuid4().hex)
        executor.equip(
            Equipment(
                dataset=self.dataset,
                device=device,
                threads=self.cfg.trainer.threads,
                gpu_share=min(1.0, cluster.gpus_per_trial or 1.0),
                token=(str(token), token.read_text()),
            )
        )
        return executor

    def failures(self) -> Failures:
        """Return a new count of failures under the configuration's policy."""
        node = self.cfg.failures
        retries = self.plain("failures")["retries"]
        return Failures(
            FailurePolicy(
                retries={FailureKind(key.replace("_", "-")): budget for key, budget in retries.items()},
                hang_seconds=node.hang_seconds,
                timeout_seconds=node.timeout_seconds,
                window=node.window,
                share=node.share,
            )
        )

    def planned_steps(self, params: Params) -> int:
        """Return how many epochs a trial plans."""
        epochs = params.get("trainer.epochs", self.cfg.trainer.epochs)
        assert isinstance(epochs, int)
        return epochs

    def most_steps(self) -> int:
        """Return how many epochs a trial plans at most."""
        dimension = next((d for d in self.space.dimensions if d.name == "trainer.epochs"), None)
        drawn = (*dimension.choices, dimension.high) if dimension else ()
        return max(self.cfg.trainer.epochs, *(int(v) for v in drawn if isinstance(v, int | float)), 1)

    def shown(self, params: Params) -> Params:
        """Return a trial's parameters as people see them: named groups first, then what was drawn."""
        return {**self.named, **self.space.shown(params)}

    def spec(self, number: int, params: Params, config: Settings | None = None) -> TrialSpec:
        """Return the work of a trial; one that was begun before is given its `config` (see `trained`)."""
        return TrialSpec(
            number=number,
            params=params,
            config=needed(self.space.configure(params)) if config is None else config,
            seed=keyed_int(self.cfg.seed, number, "trial"),
            directory=str(trial_folder(self.folder, number)),
        )

    def trained(self, number: int, params: Params, composed_from: int) -> Settings:
        """Return what a trial that was begun is trained with, made from what is composed now.

        Those before `composed_from` may be of an earlier composition. Raises as `search.apps.trained.trained` does.
        """
        earlier = number < composed_from or self.cfg.resume == "extend"
        return trained(self.space, params, trial_folder(self.folder, number) / CONFIG, earlier=earlier)

    def tracker(self, journal: Journal) -> Tracker:
        """Return the study's tracker; the first call begins it."""
        if self._tracker is None:
            self._tracker = self._begin_tracking(journal)
        return self._tracker

    def undelivered(self, journal: Journal) -> bool:
        """Tell whether the tracking server lacks events of the study."""
        if self.tracking_uri is None:
            return False
        state = delivered(self.folder, self.tracking_uri)
        return state is None or state.position != journal.size() or not state.ended

    def parent_run(self, journal: Journal) -> tuple[str, str] | None:
        """Return MLflow's address and the id of the search's run, once it is there; None without tracking."""
        run = self.tracker(journal).parent_run()
        return None if self.tracking_uri is None or run is None else (self.tracking_uri, run)

    def close(self, status: str) -> None:
        """End the workers and deliver what the tracker has left; after an interruption ("KILLED") without delay."""
        self._resources.close()
        patience = _DELIVERING * self.cfg.cluster.grace if status == "KILLED" else None
        if self._tracker is not None and (problem := self._tracker.finish(status, patience)):
            self.console.print(f"not everything stands in MLflow: {problem}", style="red", markup=False)

    def _begin_tracking(self, journal: Journal) -> Tracker:
        uri = self.tracking_uri
        return NullTracker() if uri is None else MlflowTracker(self.mlflow(journal), journal.events, uri, self.folder)

    def mlflow(self, journal: Journal) -> Callable[[], Projection]:
        """Return what opens the study's projection to MLflow."""
        uri = self.tracking_uri
        assert uri is not None
        prepare_mlflow()
        base, info = Path(self.cfg.output_dir), self._info(journal)
        experiment = self.cfg.tracking.experiment
        return lambda: Projection(uri, experiment, base, info)

    def _info(self, journal: Journal) -> SearchInfo:
        config = self.folder / "config.yaml"
        if "sync" not in self.cfg.stages or not config.exists():  # it stays the search's
            config.write_text(OmegaConf.to_yaml(self.node))  # unresolved: what comes from the environment stays there
        first = next((event for event, _ in journal.events()), None)
        return SearchInfo(
            uid=journal.uid,
            name=self.job or self.cfg.name,
            maximize=self.metric.maximize,
            params=self._shown_settings(),
            tags={
                "search.name": self.cfg.name,
                "search.data": self.dataset.examples.digest(),
                "search.python": platform.python_version(),
                **{f"search.{name}": version(name) for name in _PACKAGES},
                **source_tags(),
            },
            files=(config,),
            began=None if first is None else first.time,
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
