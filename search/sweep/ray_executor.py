"""Slots on Ray: one warm actor each, data shared through the object store. The only module that imports Ray.

Ray reads its authentication settings when it is imported, so that happens after they are made (`_start_ray`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.records import Decision, FailureKind, Outcome, Report, TrialSpec, Work, failed
from search.sweep.executor import Conversation, Executor, Happening, Run

_START_SECONDS = 120.0
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the executor may use.

    None means all of this machine (cpus, gpus), as many workers as fit (workers), one GPU a trial where there are
    any (gpus_per_trial).
    """

    address: str | None
    cpus: int | None
    gpus: int | None
    workers: int | None
    cpus_per_trial: float
    gpus_per_trial: float | None


class _Worker:
    """Lives in a process of its own and does one piece of work at a time."""

    def __init__(self, make_run: Callable[[Any], Run], equipment: Any, path: list[str]) -> None:
        sys.path[:0] = [entry for entry in path if entry not in sys.path]
        self._run = make_run(equipment)
        self._said: queue.SimpleQueue[Report | Outcome] = queue.SimpleQueue()
        self._conversation: Conversation | None = None

    def ready(self) -> None:
        """Answer once the worker is equipped."""

    def start(self, work: Work) -> Report | Outcome:
        """Begin the work; return the first thing that it says."""
        self._conversation = Conversation(self._with_log, work, self._said.put)
        return self._said.get()

    def resume(self, decision: Decision) -> Report | Outcome:
        """Answer a report; return the next thing that the work says."""
        assert self._conversation is not None
        self._conversation.answer(decision)
        return self._said.get()

    def _with_log(self, work: Work, report: Callable[[Report], Decision]) -> Outcome:
        if not isinstance(work, TrialSpec):
            return self._run(work, report)
        with _output_to(Path(work.directory) / "log.txt"):
            outcome = self._run(work, report)
            if outcome.failure is not None:
                print(outcome.failure.traceback, file=sys.stderr)
        return outcome


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send what the process prints, C libraries included, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = [os.dup(1), os.dup(2)]
    with path.open("ab", buffering=0) as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
        finally:
            for stream, original in zip((sys.stdout, sys.stderr), saved, strict=True):
                stream.flush()
                os.dup2(original, 1 if stream is sys.stdout else 2)
                os.close(original)


class RayExecutor(Executor):
    """A warm pool: worker processes start once and train trial after trial."""

    def __init__(self, make_run: Callable[[Any], Run], resources: Resources) -> None:
        """Start Ray, or attach to `resources.address`; raise UsageError where the address does not answer."""
        self._make_run, self._resources = make_run, resources
        self._actors: list[Any] = []
        self._pending: dict[Any, tuple[int, int]] = {}
        self._equipment: Any = None
        self._ray = _start_ray(resources)
        available = self._ray.cluster_resources()
        gpus = resources.gpus_per_trial
        gpus = gpus if gpus is not None else float(available.get("GPU", 0) >= 1)
        self._num_slots = _num_workers(available, resources, gpus)
        # Ray leaves every GPU visible to an actor that asked for none.
        hidden = {} if gpus else {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
        self._actor_class = self._ray.remote(max_restarts=0, max_task_retries=0)(_Worker).options(
            num_cpus=resources.cpus_per_trial, num_gpus=gpus, runtime_env=hidden
        )

    def equip(self, equipment: Any) -> None:
        """Share the equipment, once for all workers, and start them; work goes to those that are there in time.

        Raises UsageError where none is, or where one cannot be equipped.
        """
        self._equipment = self._ray.put(equipment)
        actors = [self._new_actor() for _ in range(self._num_slots)]
        answers = [actor.ready.remote() for actor in actors]
        there, late = self._ray.wait(answers, num_returns=len(answers), timeout=_START_SECONDS)
        try:
            self._ray.get(there)
        except self._ray.exceptions.RayError as error:
            raise UsageError(f"cluster: a worker cannot start ({_last_line(error)})") from error
        for actor, answer in zip(actors, answers, strict=True):
            if answer in late:
                self._ray.kill(actor)
            else:
                self._actors.append(actor)
        self._num_slots = len(self._actors)
        if not self._actors:
            raise UsageError(f"cluster: no worker could be placed within {_START_SECONDS:.0f} s; is the cluster full?")

    @property
    def num_slots(self) -> int:
        """The number of workers."""
        return self._num_slots

    def start(self, slot: int, work: Work) -> None:
        """Send the work to the slot's worker."""
        self._pending[self._actors[slot].start.remote(work)] = (slot, work.number)

    def resume(self, slot: int, decision: Decision) -> None:
        """Send the decision to the slot's worker."""
        self._pending[self._actors[slot].resume.remote(decision)] = (slot, decision.number)

    def wait(self, timeout: float) -> list[Happening]:
        """Return what workers said; a worker that died is replaced, and its work ends as lost."""
        if not self._pending:
            time.sleep(min(timeout, 0.05))
            return []
        ready, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=timeout)
        happened: list[Happening] = []
        for reference in ready:
            slot, number = self._pending.pop(reference)
            try:
                happened.append((slot, self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                self._ray.kill(self._actors[slot])  # it may live and go on writing
                self._actors[slot] = self._new_actor()
                happened.append((slot, self._lost(number, error)))
        return happened

    def close(self) -> None:
        """End the workers, and Ray with them where it is ours."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._ray.shutdown()

    def _lost(self, number: int, error: Exception) -> Outcome:
        kind, message = FailureKind.LOST_WORKER, "the worker process died"
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            kind, message = FailureKind.OUT_OF_MEMORY, "the worker was ended because the machine ran out of memory"
        return failed(number, kind, message, time=time.time(), traceback=str(error))

    def _new_actor(self) -> Any:
        return self._actor_class.remote(self._make_run, self._equipment, list(sys.path))


def _start_ray(resources: Resources) -> Any:
    """Start or attach; return the ray module."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if resources.address is None:
        # A token of our own for this Ray alone: nothing is written to the home folder, nobody else gets in.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))  # Ray reads it once a process
        os.environ.pop("RAY_ADDRESS", None)
        settings |= {"num_cpus": resources.cpus or len(os.sched_getaffinity(0)), "include_dashboard": False}
        settings |= {"num_gpus": resources.gpus} if resources.gpus is not None else {}
    else:
        _require_reachable(resources.address)
    import ray

    try:
        ray.init(address=resources.address or "local", **settings)
    except (ConnectionError, ray.exceptions.RayError, ValueError) as error:
        where = f"cluster.address={resources.address}" if resources.address else "cluster=local"
        raise UsageError(f"{where}: Ray does not start there ({' '.join(str(error).split())[:200]})") from error

    return ray


def _require_reachable(address: str) -> None:
    """Raise UsageError where nobody listens: Ray would go on knocking for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"cluster.address={address}: nobody answers there ({error}); HOST:PORT, or auto") from error


def _num_workers(total: Mapping[str, float], resources: Resources, gpus_per_trial: float) -> int:
    fits: int = math.floor(total.get("CPU", 0) / resources.cpus_per_trial + 1e-9)
    if gpus_per_trial:
        fits = min(fits, math.floor(total.get("GPU", 0) / gpus_per_trial + 1e-9))
    if fits < 1:
        raise UsageError(
            f"cluster: no room for one trial with cpus_per_trial={resources.cpus_per_trial:g} and "
            f"gpus_per_trial={gpus_per_trial:g}; there are {total.get('CPU', 0):g} CPUs and "
            f"{total.get('GPU', 0):g} GPUs"
        )
    return min(fits, resources.workers or fits)


def _last_line(error: Exception) -> str:
    """Return the innermost message of an error that Ray passed on with a remote traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
