"""What a sweep leaves: the file of its best jobs, and the results of a grid's jobs by number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict

from search.files import write_atomically
from search.jobs.application import JOB
from search.layout import CONFIG
from search.records import TrialState
from search.sweep.study import Study

RESULTS = "optimization_results.yaml"


class JobFailedError(Exception):
    """A job failed; the message is what it raised, with the user's line."""


def write_results(path: Path, study: Study, maximize: Sequence[bool]) -> dict[str, Any]:
    """Write the best parameters and value, or all that no other job is better than, and return what was written."""
    states = study.progress.states
    results: dict[str, Any] = {"name": "ray_optuna"}
    if len(maximize) > 1:
        front = unbeaten(_values(study), maximize)
        results["solutions"] = [
            {
                "trial": number,
                "params": dict(study.params[number]),
                "values": list(study.outcomes[number].values),
                "overrides": _overrides_of(study, number),
            }
            for number in front
        ]
    elif (best := study.progress.best) is not None:
        results |= {
            "best_params": dict(study.params[best.number]),
            "best_value": best.value,
            "best_trial": best.number,
            "best_overrides": _overrides_of(study, best.number),
        }
    results["trials"] = {str(state): states[state] for state in TrialState if states[state]}
    write_atomically(path, OmegaConf.to_yaml(OmegaConf.create(results)).encode())
    return results


def best_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was written, in words."""
    if "best_value" in results:
        overrides = " ".join(results["best_overrides"])
        yield f"best: {results['best_value']:.6g} by job {results['best_trial']}: {overrides}"
    for solution in results.get("solutions", []):
        values = ", ".join(f"{value:.6g}" for value in solution["values"])
        yield f"not beaten: {values} by job {solution['trial']}: {' '.join(solution['overrides'])}"


def _overrides_of(study: Study, number: int) -> list[str]:
    """Return the overrides that a job ran with: the sweep may have gone on with others since."""
    try:
        overrides = json.loads((study.directory(number) / CONFIG).read_text())["overrides"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [str(override) for override in overrides]


def unbeaten(values: Mapping[int, Sequence[float]], maximize: Sequence[bool]) -> list[int]:
    """Return the jobs that no other one is as good as in every objective and better in one (the Pareto front)."""
    costs = {
        number: tuple(-v if more else v for v, more in zip(each, maximize, strict=True))
        for number, each in values.items()
    }
    front: list[int] = []
    for number in sorted(costs, key=lambda number: (costs[number], number)):  # none is beaten by a later one
        if not any(_beats(costs[other], costs[number]) for other in front):
            front.append(number)
    return sorted(front)


def _beats(costs: Sequence[float], others: Sequence[float]) -> bool:
    return costs != others and all(a <= b for a, b in zip(costs, others, strict=True))


def _values(study: Study) -> dict[int, Sequence[float]]:
    """Return the values of the jobs that have some, by number; of a grid's, not every one needs to."""
    return {
        number: outcome.values
        for number, outcome in study.outcomes.items()
        if outcome.values and outcome.state is TrialState.COMPLETE and number >= study.comparable_from
    }


class JobReturns(Sequence[JobReturn]):
    """The results of jobs 0, 1, ..., each put together when it is looked at: a configuration takes room."""

    def __init__(self, study: Study, job_config: Callable[[int, Mapping[str, Any]], DictConfig]) -> None:
        self._study, self._job_config = study, job_config

    def __len__(self) -> int:
        return len(self._study.params)

    @overload
    def __getitem__(self, index: int) -> JobReturn: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[JobReturn]: ...

    def __getitem__(self, index: int | slice) -> JobReturn | Sequence[JobReturn]:
        """Return the result of a job, or a list of them."""
        numbers = range(len(self))[index]
        return self._result(numbers) if isinstance(numbers, int) else [self._result(number) for number in numbers]

    def _result(self, number: int) -> JobReturn:
        about = self._about(number)
        config = self._job_config(number, self._study.params[number])
        hydra = OmegaConf.masked_copy(config, "hydra")
        with open_dict(config):
            del config["hydra"]
        outcome = self._study.outcomes.get(number)
        failure = None if outcome is None else outcome.failure
        done = outcome is not None and failure is None
        result = JobReturn(
            overrides=list(hydra.hydra.overrides.task),
            cfg=config,
            hydra_cfg=hydra,
            working_dir=about.get("working_dir"),
            task_name=about.get("task_name"),
            status=JobStatus.COMPLETED if done else JobStatus.FAILED if failure else JobStatus.UNKNOWN,
        )
        result.return_value = JobFailedError(failure.message) if failure else about.get("returned")
        return result

    def _about(self, number: int) -> dict[str, Any]:
        try:
            about: dict[str, Any] = json.loads((self._study.directory(number) / JOB).read_text())
        except (OSError, ValueError):
            return {}
        return about
