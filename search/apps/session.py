"""What the stages of one search share, made when first needed: study folder, workers, tracker."""

from __future__ import annotations

import contextlib
import platform
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from omegaconf import OmegaConf
from rich.console import Console

from search.apps.clusters import Clusters
from search.apps.composed import Composed
from search.apps.driving import DELIVERING
from search.apps.source import source_tags
from search.apps.trained import trained
from search.config.schema import SearchConfig
from search.keyed import keyed_int
from search.layout import CONFIG
from search.records import FailureKind, Params, TrialSpec
from search.space import Settings, Space
from search.sweep.executor import Run
from search.sweep.failures import FailurePolicy, Failures
from search.sweep.identity import Identity
from search.sweep.journal import Journal, trial_folder
from search.tracking.outbox import MlflowTracker, delivered
from search.tracking.projection import Projection, prepare_mlflow
from search.tracking.tracker import NullTracker, SearchInfo, Tracker

if TYPE_CHECKING:
    from search.sweep.ray_executor import RayExecutor

_PACKAGES = ("torch", "optuna", "hydra-core", "mlflow", "ray", "numpy")


class Compared(Protocol):
    """What trials are compared by."""

    @property
    def name(self) -> str:
        """As reports and tables name it."""
        ...

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a search runs: the study's folder, whom it tells, Hydra's choices by group, its name in a multirun."""

    folder: Path
    console: Console
    choices: Mapping[str, str | None]
    job: str | None = None
    clusters: Clusters = field(default_factory=Clusters)


class Session(ABC):
    """One run of the program over one composed configuration."""

    keys: tuple[str, ...]
    """What a worker needs of a trial's configuration: nothing of the rest, which may hold secrets, leaves."""
    make_run: str
    """What does a trial in a worker, as `module:name`."""
    metric: Compared
    space: Space
    left_out: Sequence[str] = ()
    """Options that do not fit."""
    named: Mapping[str, str] = {}
    """Options that were named, by group."""

    def __init__(self, composed: Composed, place: Place) -> None:
        self.node, self.tracking_uri = composed.cfg, composed.tracking_uri
        self.cfg: SearchConfig = composed.cfg  # type: ignore[assignment] # a DictConfig of that schema
        self.folder, self.job, self.console = place.folder, place.job, place.console
        self._clusters = place.clusters
        self._resources = contextlib.ExitStack()
        self._tracker: Tracker | None = None

    def require_importable(self) -> None:  # noqa: B027 - most have nothing to import here
        """Raise UsageError where what trials call cannot be imported: before workers start, not in every trial."""

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """What the trials' figures depend on. Interpolations stay unresolved: they may hold secrets."""

    @abstractmethod
    def equipment(self, device: str, token: tuple[str, str] | None) -> Any:
        """Return what a worker is given once; `token` is a file that it must see, and what stands in it."""

    @abstractmethod
    def run_here(self) -> Run:
        """Return what does a trial in this process."""

    @abstractmethod
    def planned_steps(self, params: Params) -> int:
        """Return how many reports a trial plans."""

    @abstractmethod
    def most_steps(self) -> int:
        """Return how many reports a trial plans at most."""

    @property
    def fused(self) -> int | None:
        """How many trials of one shape are trained as one program at most; None: as many as are measured to pay."""
        return 1

    @property
    def about(self) -> Mapping[str, object]:
        """What MLflow is told of the search beside the settings of every search."""
        return {}

    @property
    def first(self) -> list[Params]:
        """The parameters of the first trials, which are not sampled."""
        return [self.space.default(), *(self.space.complete(given) for given in self.cfg.enqueue)]

    def plain(self, key: str) -> dict[str, Any]:
        """Return a node of the configuration as plain values, resolved."""
        plain = OmegaConf.to_container(self.node[key], resolve=True)
        assert isinstance(plain, dict)
        return {str(k): v for k, v in plain.items()}

    @cached_property
    def executor(self) -> RayExecutor:
        """The workers; Ray starts here."""
        from search.sweep.ray_executor import RayExecutor, Resources

        cluster, device = self.cfg.cluster, self.cfg.device
        self.console.print("starting the workers ...", style="dim")
        visible = device.removeprefix("cuda:") if device.startswith("cuda:") else None
        without_gpu = device == "cpu" or cluster.gpus == 0
        executor = RayExecutor(
            self.make_run,
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
            cluster=self._clusters.get(cluster, visible),
        )
        self._resources.enter_context(executor)
        token = self.folder / "token"
        token.write_text(uuid.uuid4().hex)
        # A worker sees the GPU that it was given as its first.
        executor.equip(self.equipment("cuda" if visible else device, (str(token), token.read_text())))
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

    def shown(self, params: Params) -> Params:
        """Return a trial's parameters as people see them: named groups first, then what was drawn."""
        return {**self.named, **self.space.shown(params)}

    def spec(self, number: int, params: Params, config: Settings | None = None) -> TrialSpec:
        """Return the work of a trial; one that was begun before is given its `config` (see `trained`)."""
        return TrialSpec(
            number=number,
            params=params,
            config=self.space.configure(params, self.keys) if config is None else config,
            seed=keyed_int(self.cfg.seed, number, "trial"),
            directory=str(trial_folder(self.folder, number)),
            snapshots=True,
        )

    def trained(self, number: int, params: Params, composed_from: int) -> Settings:
        """Return what a trial that was begun is trained with, made from what is composed now.

        Those before `composed_from` may be of an earlier composition. Raises as `search.apps.trained.trained` does.
        """
        earlier = number < composed_from or self.cfg.resume == "extend"
        return trained(self.space, self.keys, params, trial_folder(self.folder, number) / CONFIG, earlier=earlier)

    def tracker(self, journal: Journal) -> Tracker:
        """Return the study's tracker; the first call begins it."""
        if self._tracker is None:
            self._tracker = self._begin_tracking(journal)
        return self._tracker

    def await_tracking(self) -> None:
        """Wait until the tracker, if there is one, has opened its store, but not for a server that is away."""
        if self._tracker is not None:
            self._tracker.parent_run()

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
        patience = DELIVERING * self.cfg.cluster.grace if status == "KILLED" else None
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
            params={**self._settings(), **self.about},
            tags={
                "search.name": self.cfg.name,
                "search.python": platform.python_version(),
                **{f"search.{name}": version(name) for name in _PACKAGES},
                **source_tags(),
            },
            files=(config,),
            began=None if first is None else first.time,
        )

    def _settings(self) -> dict[str, object]:
        cfg = self.cfg
        return {
            "seed": cfg.seed,
            "metric": self.metric.name,
            "sampler": cfg.sampler.kind,
            "pruner": cfg.pruner.kind,
            "budget.trials": cfg.budget.trials,
            "device": cfg.device,
        }
