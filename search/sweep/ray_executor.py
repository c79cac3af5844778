"""Slots on Ray: one warm actor each, data shared through the object store."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from search.errors import UsageError
from search.memory import GIB
from search.records import FailureKind, Work
from search.sweep.executor import Answer, Executor, Happening, Open, Words, is_over
from search.sweep.line import Exchange
from search.sweep.ray_cluster import RayCluster
from search.sweep.wire import answer_to_bytes
from search.sweep.worker import Worker, unpacked

_START_SECONDS = 120.0
_STARTS = 3
"""How often a slot's worker may die before it is equipped."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the executor may use.

    None means all of this machine (cpus, gpus), as many workers as fit (workers), one GPU a trial where there are
    any (gpus_per_trial). `memory_per_trial` is in GiB, and what Ray places workers by. A worker is replaced after
    `recycle_trials` trials, or when its memory grew by `recycle_growth` GiB since the first of them.
    """

    address: str | None
    cpus: int | None
    gpus: int | None
    workers: int | None
    cpus_per_trial: float
    gpus_per_trial: float | None
    memory_per_trial: float | None = None
    recycle_trials: int | None = None
    recycle_growth: float | None = None


class RayExecutor(Executor):
    """A warm pool: worker processes start once and do piece after piece of work."""

    def __init__(
        self, make_run: str, resources: Resources, *, cluster: RayCluster | None = None, lines: bool = True
    ) -> None:
        """Raise UsageError where there is no room for one worker.

        Without a `cluster`, which stays when the executor is closed, there is one of its own. `make_run` names what
        makes a `Run` of the equipment, as `module:name`: only workers import it. Without `lines` every worker is
        treated as one on another machine.
        """
        self._make_run, self._resources = make_run, resources
        self._actors: dict[int, Any] = {}
        self._free: deque[int] = deque()
        self._pending: dict[Future[Any], int] = {}
        """Slot by what is awaited of its worker."""
        self._work: dict[int, Open] = {}
        """What each slot works at; one without is idle, or its worker is being equipped."""
        self._answered: deque[Future[Any]] = deque()
        self._callers: dict[int, str] = {}
        self._slots: dict[str, int] = {}
        self._hired = itertools.count()
        self._lines = lines
        self._on_lines: set[str] = set()
        self._failed_starts: Counter[int] = Counter()
        self._alone_since: float | None = None
        self._came = False
        self._equipment: Any = None
        self._own = RayCluster(resources.address, resources.cpus, resources.gpus) if cluster is None else None
        self._ray = (cluster or self._own).ray  # type: ignore[union-attr] # there is one
        self._exchange = Exchange()
        available = self._ray.cluster_resources()
        gpus = resources.gpus_per_trial
        gpus = gpus if gpus is not None else float(available.get("GPU", 0) >= 1)
        self._num_slots = _num_workers(available, resources, gpus)
        # Ray leaves every GPU visible to an actor that asked for none. Without need there is no environment: an actor
        # that has one gets a new process, the others take over those that Ray started beforehand.
        hidden = {} if gpus or not available.get("GPU") else {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
        memory = resources.memory_per_trial
        self._actor_class = self._ray.remote(max_restarts=0, max_task_retries=0, enable_task_events=False)(
            Worker
        ).options(
            num_cpus=resources.cpus_per_trial,
            num_gpus=gpus,
            memory=None if memory is None else int(memory * GIB),
            runtime_env=hidden,
        )

    def equip(self, equipment: Any) -> None:
        """Share the equipment, once for all workers, and start them; return when the first is there.

        Raises UsageError where none can be placed or equipped.
        """
        self._equipment = self._ray.put(equipment)
        for slot in range(self._num_slots):
            self._hire(slot)
        while not self._free:
            self.wait(1.0)

    @property
    def num_slots(self) -> int:
        """The number of workers, those included that are being replaced."""
        return self._num_slots

    @property
    def num_free(self) -> int:
        """Workers that are equipped and idle."""
        return len(self._free)

    def start(self, work: Work) -> int:
        """Send the work to an idle worker."""
        slot = self._free.popleft()
        self._work[slot] = Open(work)
        self._await(self._actors[slot].start.remote(work), slot)
        return slot

    def resume(self, slot: int, answer: Answer) -> None:
        """Send the answer to the slot's worker."""
        self._work[slot].joined(answer.joining)
        if self._callers[slot] in self._on_lines:
            self._exchange.answer(self._callers[slot], answer)
        else:
            self._await(self._actors[slot].resume.remote(answer_to_bytes(answer)), slot)

    def cancel(self, slot: int) -> None:
        """Kill the worker and hire another."""
        self._pending = {answer: where for answer, where in self._pending.items() if where != slot}
        self._replace(slot)

    def wait(self, timeout: float) -> list[Happening]:
        """Return what workers said; a worker that died is replaced, and its work ends as lost.

        Raises UsageError where no worker is left, and none can be placed.
        """
        self._require_workers()
        if not self._pending:
            time.sleep(min(timeout, 0.05))
            return []
        called = self._exchange.wait(timeout)
        through_ray: list[Happening] = []
        while self._answered:
            answer = self._answered.popleft()
            slot = self._pending.pop(answer, None)  # None: it was cancelled
            if slot is not None and (words := self._hear(answer, slot)) is not None:
                through_ray.append((slot, words))
        # Who was replaced just now has nobody left to take the answer to a report.
        reports = [(self._slots[caller], words) for caller, words in called if caller in self._slots]
        for slot, words in reports:
            self._work[slot].heard(words)
        return reports + through_ray

    def close(self) -> None:
        """End the workers, and Ray with them where it is the executor's own."""
        self._exchange.close()
        for actor in self._actors.values():
            self._ray.kill(actor)
        if self._own is not None:
            self._own.close()

    def _await(self, answer: Any, slot: int) -> None:
        """Hear of an answer through the exchange, which wakes the driver."""

        def answered(future: Future[Any]) -> None:
            self._answered.append(future)
            self._exchange.wake()

        future: Future[Any] = answer.future()
        self._pending[future] = slot
        future.add_done_callback(answered)

    def _hear(self, answer: Future[Any], slot: int) -> Words | None:
        work = self._work.get(slot)
        try:
            heard = answer.result()
        except self._ray.exceptions.RayError as error:
            if work is None:
                self._start_failed(slot, error)
                return None
            self._replace(slot)
            return self._lost(work, error)
        if work is None:
            self._failed_starts[slot] = 0
            self._came = True
            if self._exchange.has(self._callers[slot]):
                self._on_lines.add(self._callers[slot])
            self._free.append(slot)
            return None
        words, worn = unpacked(heard)
        if worn:
            self._replace(slot)
        elif is_over(words):
            del self._work[slot]
            self._free.append(slot)
        else:
            work.heard(words)
        return words

    def _hire(self, slot: int) -> None:
        limits = (self._resources.recycle_trials, self._resources.recycle_growth)
        actor = self._actor_class.remote(self._make_run, self._equipment, list(sys.path), *limits)
        caller = f"{slot}-{next(self._hired)}"
        self._actors[slot], self._callers[slot], self._slots[caller] = actor, caller, slot
        self._await(actor.ready.remote(self._exchange.address if self._lines else None, caller), slot)

    def _replace(self, slot: int) -> None:
        self._work.pop(slot, None)
        self._ray.kill(self._actors[slot])  # it may live and go on writing
        caller = self._callers[slot]
        self._exchange.hang_up(caller)
        self._on_lines.discard(caller)
        del self._slots[caller]
        self._hire(slot)

    def _start_failed(self, slot: int, error: Exception) -> None:
        """Try again with the slot, which may land on another node, but not for ever."""
        self._failed_starts[slot] += 1
        cannot_be_equipped = isinstance(error, self._ray.exceptions.ActorDiedError) and "UsageError" in str(error)
        if self._failed_starts[slot] < _STARTS and not cannot_be_equipped:
            self._replace(slot)
            return
        del self._actors[slot]
        self._num_slots -= 1
        if not self._actors:
            raise UsageError(f"cluster: a worker cannot start ({_last_line(error)})") from error

    def _require_workers(self) -> None:
        """Raise UsageError where no worker ever came; later on they may be long in coming back, as nodes are."""
        if self._came or self._free or self._work:
            self._alone_since = None
            return
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since > _START_SECONDS:
            raise UsageError(
                f"cluster: no worker was ready within {_START_SECONDS:.0f} s; is the cluster full, or the data slow?"
            )

    def _lost(self, work: Open, error: Exception) -> Words:
        kind, message = FailureKind.LOST_WORKER, "the worker process died"
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            kind, message = FailureKind.OUT_OF_MEMORY, "the worker was ended because the machine ran out of memory"
        elif getattr(error, "preempted", False):
            kind, message = FailureKind.PREEMPTED, "the worker's node was taken away"
        return work.failed(kind, message, time=time.time(), traceback=str(error))


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
    if resources.memory_per_trial is not None:
        there = total.get("memory", 0) / GIB
        if there < resources.memory_per_trial:
            wanted = f"memory_per_trial={resources.memory_per_trial:g}"
            raise UsageError(f"cluster: no room for one trial with {wanted}; there are {there:.0f} GiB")
        fits = min(fits, math.floor(there / resources.memory_per_trial))
    return min(fits, resources.workers or fits)


def _last_line(error: Exception) -> str:
    """Return the innermost message of an error that Ray passed on with a remote traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
