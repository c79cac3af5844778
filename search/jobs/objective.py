"""An objective function of the user's own in a worker: `objective(cfg, trial) -> number or mapping`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from search.config.build import named
from search.config.inside import require_shared
from search.jobs.calls import RunningTrial, Wanted, called
from search.records import Decision, Outcome, Paused, Report, TrialSpec, Work

OBJECTIVE_NODE = "objective"
"""Key of a trial's configuration: what the function is called with, and `_target_`, the function."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveEquipment:
    """What a worker is given once; `token` is a file that it must see, and what stands in it."""

    wanted: Wanted
    token: tuple[str, str] | None = None


class ObjectiveRunner:
    """Calls the function for trial after trial."""

    def __init__(self, equipment: ObjectiveEquipment) -> None:
        if equipment.token is not None:
            require_shared(equipment.token)
        self._wanted = equipment.wanted

    def __call__(self, work: Work, report: Callable[[Report], Decision]) -> Paused | Outcome:
        """Call what `work.config["objective"]["_target_"]` names, with the node's other keys."""
        assert isinstance(work, TrialSpec)
        return called(work, report, self._call, self._wanted)

    def _call(self, trial: RunningTrial) -> Any:
        node = dict(trial.config[OBJECTIVE_NODE])
        function = named(node.pop("_target_"), OBJECTIVE_NODE)
        return function(OmegaConf.create(node), trial)
