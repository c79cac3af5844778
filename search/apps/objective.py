"""A search whose trials call an objective function of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from omegaconf import OmegaConf

from search.apps.composed import Composed
from search.apps.session import Place, Session
from search.config.build import named
from search.errors import UsageError
from search.jobs.calls import Wanted
from search.jobs.objective import OBJECTIVE_NODE, ObjectiveEquipment, ObjectiveRunner
from search.records import Params
from search.sweep.executor import Run
from search.sweep.identity import Identity, flatten

_MODES = {"max": True, "min": False}
_IMPLIED = {"accuracy": True, "r2": True, "loss": False, "rmse": False, "mae": False}
_EPOCHS = f"{OBJECTIVE_NODE}.epochs"


@dataclass(frozen=True, kw_only=True)
class OwnMetric:
    """The figure that the function is compared by."""

    name: str
    maximize: bool


class ObjectiveSession(Session):
    """The function's node is all of its world: what is in it is passed, and its space is the search's."""

    keys = (OBJECTIVE_NODE,)
    make_run = "search.jobs.objective:ObjectiveRunner"

    def __init__(self, composed: Composed, place: Place) -> None:
        """Raises UsageError where it is not said which way is better."""
        super().__init__(composed, place)
        name, mode = self.cfg.metric.name, self.cfg.metric.mode
        if mode is None and name not in _IMPLIED:
            raise UsageError("metric.mode: must be max or min, because only an objective of your own knows which")
        maximize = _IMPLIED[str(name)] if mode is None else _MODES[mode]
        self.metric = OwnMetric(name=name or "objective", maximize=maximize)
        self.space = composed.space
        self._wanted = Wanted(metric=name)

    def require_importable(self) -> None:
        """Import the function."""
        target = str(self.node[OBJECTIVE_NODE]._target_)
        if target.startswith("__main__."):
            raise UsageError(f"{OBJECTIVE_NODE}._target_={target}: must stand in a module that workers can import")
        named(target, OBJECTIVE_NODE)

    @cached_property
    def identity(self) -> Identity:
        """The function, what it is given and the space."""
        tree = OmegaConf.to_container(self.space.base, resolve=False)
        assert isinstance(tree, dict)
        return flatten(
            {
                OBJECTIVE_NODE: tree[OBJECTIVE_NODE],
                "seed": self.cfg.seed,
                "metric": self.metric.name,
                "metric.mode": "max" if self.metric.maximize else "min",
            }
        )

    def equipment(self, device: str, token: tuple[str, str] | None) -> ObjectiveEquipment:
        """Return what the function is to return."""
        return ObjectiveEquipment(wanted=self._wanted, token=token)

    def run_here(self) -> Run:
        """Return what calls the function in this process."""
        return ObjectiveRunner(self.equipment(self.cfg.device, None))

    def planned_steps(self, params: Params) -> int:
        """Return the reports that a trial makes, if its node has `epochs`; else there is no rung to compare at."""
        epochs = params.get(_EPOCHS, OmegaConf.select(self.node, _EPOCHS))
        return epochs if isinstance(epochs, int) else sys.maxsize

    def most_steps(self) -> int:
        """Return the reports of the longest trial there can be; raise UsageError where a pruner must know it."""
        epochs = OmegaConf.select(self.node, _EPOCHS)
        if not isinstance(epochs, int):
            if self.cfg.pruner.kind == "hyperband":
                raise UsageError(f"pruner=hyperband: needs {_EPOCHS}, the number of reports of a whole trial")
            return sys.maxsize
        return self.space.most(_EPOCHS, epochs)

    @property
    def about(self) -> Mapping[str, object]:
        """The function's name."""
        return {OBJECTIVE_NODE: self.node[OBJECTIVE_NODE]._target_}
