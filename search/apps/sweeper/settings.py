"""The settings under `hydra.sweeper`, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from search.config.messages import suggestion
from search.errors import UsageError

_TRIALS = 20
"""As Hydra's Optuna sweeper has it."""
_SAMPLERS = ("random", "tpe", "qmc", "grid")
_PRUNERS = ("none", "asha", "median", "hyperband", "optuna_sha")
_PRUNER_SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "asha": {"rungs": [1 / 9, 1 / 3], "eta": 3},
    "median": {"startup_trials": 5, "warmup_steps": 0},
    "hyperband": {"min_resource": 1, "reduction_factor": 3},
    "optuna_sha": {"min_resource": 1, "reduction_factor": 3},
}
_NEED_STEPS = ("asha", "hyperband")
_CHOICES: dict[str, tuple[str, ...]] = {
    "pruner": _PRUNERS,
    "resume": ("auto", "must", "never", "extend"),
}
_AT_LEAST = {
    "n_trials": 1,
    "n_jobs": 1,
    "patience": 1,
    "steps": 1,
    "seed": 0,
    "recycle_trials": 1,
    "gpus_per_trial": 0,
    "grace": 1,
}
_ABOVE_ZERO = ("hours", "cpus_per_trial", "memory_per_trial", "timeout_seconds", "hang_seconds")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """As the configuration has them; what they mean stands there (`RayOptunaConf`)."""

    sampler: str
    seed: int
    direction: tuple[str, ...]
    n_trials: int | None
    n_jobs: int | None
    max_failure_rate: float | None
    study_name: str
    storage: str | None
    params: Mapping[str, Any]
    resume: str
    hours: float | None
    patience: int | None
    pruner: str
    steps: int | None
    metric: str | None
    address: str | None
    cpus_per_trial: float
    gpus_per_trial: float | None
    memory_per_trial: float | None
    recycle_trials: int | None
    timeout_seconds: float | None
    hang_seconds: float | None
    grace: float
    tracking_uri: str | None
    experiment: str

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Raises UsageError for the first setting that cannot work."""
        plain = {key: _plain(value) for key, value in given.items()}
        known = [field.name for field in fields(cls)]
        for key in plain:
            if key not in known:
                raise UsageError(f"hydra.sweeper.{key}: no such setting; {suggestion(key, known)}")
        plain |= _sampler(plain["sampler"], plain["seed"])
        plain["direction"] = _directions(plain["direction"])
        plain["params"] = _params(plain["params"])
        settings = cls(**plain)
        settings._check()
        return settings

    @property
    def maximize(self) -> tuple[bool, ...]:
        """Whether more is better, for each objective."""
        return tuple(each == "maximize" for each in self.direction)

    @property
    def enumerates(self) -> bool:
        """Whether every job is named by the command: then each counts, and a function may return what it likes."""
        return self.sampler == "grid"

    @property
    def trials(self) -> int:
        """Return how many trials there are to be at most."""
        if self.n_trials is None:
            return 10**9 if self.enumerates else _TRIALS
        return self.n_trials

    def pruner_settings(self) -> dict[str, Any]:
        """Return the pruner as the engine knows it."""
        return {"kind": self.pruner, **_PRUNER_SETTINGS[self.pruner]}

    def _check(self) -> None:
        for key, allowed in _CHOICES.items():
            if (value := getattr(self, key)) not in allowed:
                raise UsageError(f"hydra.sweeper.{key}={value}: must be one of {', '.join(allowed)}")
        for key, bound in _AT_LEAST.items():
            value = getattr(self, key)
            if value is not None and not (_is_number(value) and value >= bound):
                raise UsageError(f"hydra.sweeper.{key}={value}: must be a number, at least {bound}")
        for key in _ABOVE_ZERO:
            value = getattr(self, key)
            if value is not None and not (_is_number(value) and value > 0):
                raise UsageError(f"hydra.sweeper.{key}={value}: must be a number above 0")
        rate = self.max_failure_rate
        if rate is not None and not (_is_number(rate) and 0 <= rate <= 1):
            raise UsageError(f"hydra.sweeper.max_failure_rate={rate}: must lie in 0 to 1")
        uri = self.tracking_uri
        if uri not in (None, "sqlite") and "://" not in str(uri):
            raise UsageError(f"hydra.sweeper.tracking_uri={uri}: must be sqlite, or an address, e.g. https://HOST")
        self._check_together()

    def _check_together(self) -> None:
        if self.pruner in _NEED_STEPS and self.steps is None:
            raise UsageError(
                f"hydra.sweeper.pruner={self.pruner}: needs hydra.sweeper.steps, the reports of a whole job"
            )
        for key, unused in {"pruner": "none", "patience": None}.items():  # both ask which of two jobs is better
            if (value := getattr(self, key)) != unused and len(self.direction) > 1:
                raise UsageError(f"hydra.sweeper.{key}={value}: cannot be combined with several objectives")


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sampler(given: Any, seed: int) -> dict[str, Any]:
    """Read the sampler: a name, or the node that hydra/sweeper/sampler=... puts there, with a seed of its own."""
    node = given if isinstance(given, dict) else {"kind": given}
    unknown = sorted(set(node) - {"kind", "seed"})
    if unknown:
        raise UsageError(f"hydra.sweeper.sampler.{unknown[0]}: no such setting; allowed: kind, seed")
    if node.get("kind") not in _SAMPLERS:
        raise UsageError(f"hydra.sweeper.sampler={node.get('kind')}: must be one of {', '.join(_SAMPLERS)}")
    own = node.get("seed")
    if own is not None and (isinstance(own, bool) or not isinstance(own, int) or own < 0):
        raise UsageError(f"hydra.sweeper.sampler.seed={own}: must be a whole number, at least 0")
    return {"sampler": node["kind"], "seed": seed if own is None else own}


def _directions(given: Any) -> tuple[str, ...]:
    directions = tuple(str(getattr(each, "name", each)) for each in (given if isinstance(given, list) else [given]))
    for direction in directions:
        if direction not in ("minimize", "maximize"):
            raise UsageError(f"hydra.sweeper.direction={direction}: must be minimize or maximize, or a list of them")
    if not directions:
        raise UsageError("hydra.sweeper.direction=[]: must name at least one of minimize, maximize")
    return directions


def _params(given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, dict):
        raise UsageError(f"hydra.sweeper.params={given}: must be a mapping, e.g. {{lr: 'interval(0.1,1)'}}")
    return {str(key): value for key, value in (given or {}).items()}
