"""What Hydra finds: the sweeper's settings, and a class that imports the rest when a sweep begins.

Hydra imports this module whenever any of its applications starts, so it costs nothing.
"""

import re
import sys
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.errors import CompactHydraException, HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

_NULL_IN_CHOICE = re.compile(r"(?P<key>[^=]+)=choice\((?P<values>[^()]*\bnull\b[^()]*)\)")


@dataclass
class RayOptunaConf:
    """The settings, named as those of Hydra's Optuna sweeper where they mean the same; null: the default."""

    _target_: str = "hydra_plugins.ray_optuna_sweeper.sweeper.RayOptunaSweeper"
    defaults: list[Any] = field(
        default_factory=lambda: [
            "_self_",
            {"sampler": "random"},
            {"/hydra/sweeper/folder@_global_.hydra.sweep": "named"},
        ]
    )

    sampler: Any = None  # random, tpe, qmc or grid
    seed: int = 0  # of the sampler, and of what jobs make of search.current_trial().seed
    direction: Any = "minimize"  # or maximize; a list where the function returns several values
    n_trials: int | None = None  # total of the study; null: 20, or the whole grid
    n_jobs: int | None = None  # at the same time; null: as many as fit
    max_failure_rate: float | None = None  # share of n_trials; beyond it the sweep stops
    study_name: str = "${now:%Y-%m-%d}/${now:%H-%M-%S}"  # names the folder multirun/<study_name>
    storage: str | None = None  # address of an Optuna storage that gets a copy of every finished trial
    params: dict[str, Any] | None = field(
        default_factory=dict
    )  # what is swept, beside the command line: {lr: "interval(0.1,1)"}
    resume: str = "auto"  # auto, must (refuse a new study), never (refuse an old one), extend (allow for another space)
    hours: float | None = None  # after which no job begins
    patience: int | None = None  # finished trials in a row without a better one, after which no job begins

    pruner: str = "none"  # asha, median, hyperband or optuna_sha, for functions that call search.report
    steps: int | None = None  # how many reports a job makes at most; asha and hyperband need it, e.g. ${epochs}
    metric: str | None = None  # the objective's name in reports and what is returned; null: the first, or only one

    address: str | None = None  # of a running Ray, HOST:PORT or auto; null: one of its own, on this machine
    cpus_per_trial: float = 1.0
    gpus_per_trial: float | None = None  # fractions share a GPU; null: 1 where there are any
    memory_per_trial: float | None = None  # GiB
    recycle_trials: int | None = None  # jobs after which a worker is replaced by a fresh process; 1: each has its own
    timeout_seconds: float | None = None  # of one job
    hang_seconds: float | None = None  # without a report, for functions that call search.report
    grace: float = 10.0  # seconds between the first Ctrl-C or SIGTERM and the exit

    tracking_uri: str | None = None  # MLflow: sqlite (in the sweep's folder) or an address; null: no tracking
    experiment: str = "${hydra.job.name}"


def _register() -> None:
    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name="ray_optuna", node=RayOptunaConf, provider="search")
    # Otherwise Hydra names a sweep's folder by the time, and a second start would not find the first.
    named = {"dir": "multirun/${hydra.sweeper.study_name}"}
    store.store(group="hydra/sweeper/folder", name="named", node=named, provider="search")
    for kind in ("random", "tpe", "qmc", "grid"):
        node = {"kind": kind, "seed": None}  # no dataclass, whose place a configuration's `sampler: tpe` could not take
        store.store(group="hydra/sweeper/sampler", name=kind, node=node, provider="search")


class RayOptunaSweeper(Sweeper):
    """Runs a Hydra application's jobs on Ray, drawn as Optuna samples, without waiting for the slowest."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._given: tuple[HydraContext, TaskFunction, DictConfig] | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the application."""
        self._given = (hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep; return one list with the jobs' results where every job was named (a grid), else None."""
        _require_package()
        from search.apps.sweeper import sweep

        assert self._given is not None
        return sweep(self._settings, *self._given, arguments)


def _require_package() -> None:
    import search

    if not hasattr(search, "__path__"):  # the program's own folder stands first
        raise CompactHydraException(
            f"{search.__file__}: hides the package search, of which the sweeper is a part; rename it"
        )


class ExplainedNull(SearchPathPlugin):
    """Says what to write for a choice that Hydra's parser refuses, which it does before it asks a sweeper."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave the path as it is; end the program where its command asks for our sweep and cannot be parsed."""
        if "hydra/sweeper=ray_optuna" not in sys.argv or not {"-m", "--multirun"} & set(sys.argv):
            return
        for word in sys.argv[1:]:
            if (match := _NULL_IN_CHOICE.fullmatch(word)) and _is_refused(word):
                wanted = ",".join(part.strip() for part in match["values"].split(","))
                raise SystemExit(f"{word}: Hydra takes no null in choice(); write {match['key']}={wanted}")


def _is_refused(word: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return True
    return False


_register()
