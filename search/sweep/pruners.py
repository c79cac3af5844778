"""When a trial is stopped early: decided in the driver at every report."""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from search.records import Verdict
from search.sweep.history import History

Ruling = tuple[Verdict, str]
"""(what the trial does, why)."""

GO_ON: Ruling = (Verdict.GO_ON, "")


@dataclass(frozen=True)
class Arrival:
    """A trial's report as a pruner sees it; `planned` steps are the trial's budget."""

    number: int
    step: int
    value: float
    planned: int


class Pruner(ABC):
    """Sees every report once, in the order of arrival."""

    remembers = True
    """Whether what it was told before matters; otherwise it looks at the search anew each time."""

    @abstractmethod
    def decide(self, number: int, step: int, value: float, planned: int) -> Ruling:
        """Take in a trial's report and rule on it. `planned` steps are its budget."""

    def decide_together(self, arrivals: Sequence[Arrival]) -> list[Ruling]:
        """Rule on reports that came at once: one after the other, where it makes no difference to know the others."""
        return [self.decide(arrival.number, arrival.step, arrival.value, arrival.planned) for arrival in arrivals]

    def promote(self) -> int | None:
        """Return a paused trial that is to go on now, if there is one; it counts as going on from then."""
        return None

    def can_promote(self) -> bool:
        """Tell whether `promote` would return one."""
        return False

    def promoted(self, number: int) -> None:  # noqa: B027 - most pause nobody
        """Take in that a paused trial went on: the search is replayed."""

    def waits(self, number: int) -> bool:
        """Tell whether a trial is paused until `promote` returns it."""
        return False

    def ended(self, number: int, *, failed: bool) -> None:  # noqa: B027 - most need not know
        """Take in that a trial is over."""


class NoPruner(Pruner):
    """Lets every trial run to its end."""

    remembers = False

    def decide(self, number: int, step: int, value: float, planned: int) -> Ruling:
        """Let it go on."""
        return GO_ON


class _Rungs:
    """Where trials are compared: fractions of their planned steps. Smaller values are better here."""

    def __init__(self, rungs: Sequence[float], *, maximize: bool) -> None:
        self._rungs = sorted(rungs)
        self._sign = -1.0 if maximize else 1.0
        self._best: dict[int, float] = {}

    def arrive(self, number: int, step: int, value: float, planned: int) -> tuple[list[int], float]:
        """Return the rungs (by index) that the trial reaches with this step, and its best value so far."""
        best = min(self._sign * value, self._best.get(number, math.inf))
        self._best[number] = best
        return [i for i, rung in enumerate(self._rungs) if _step_of(rung, planned) == step < planned], best

    def forget(self, number: int) -> None:
        self._best.pop(number, None)


class Asha(Pruner):
    """Asynchronous successive halving, stop rule (Li et al. 2020), over a table of sorted values per rung.

    At a rung a trial goes on if its best value so far is among the best 1/eta of all that came there before it or with
    it; equal values never push each other out. So those that come together are halved as in the synchronous rule
    (Jamieson and Talwalkar 2016), and the first of them does not go on for want of others.
    """

    def __init__(self, *, rungs: Sequence[float], eta: int, maximize: bool) -> None:
        self._rungs = _Rungs(rungs, maximize=maximize)
        self._eta = eta
        self._tables: list[list[float]] = [[] for _ in rungs]

    def decide(self, number: int, step: int, value: float, planned: int) -> Ruling:
        """Compare at a rung; between rungs only remember the best value."""
        return self.decide_together([Arrival(number, step, value, planned)])[0]

    def decide_together(self, arrivals: Sequence[Arrival]) -> list[Ruling]:
        """Compare each with all that came, too."""
        came = [self._rungs.arrive(each.number, each.step, each.value, each.planned) for each in arrivals]
        for reached, best in came:
            for rung in reached:
                insort(self._tables[rung], best)
        return [self._rule(each.step, *rungs) for each, rungs in zip(arrivals, came, strict=True)]

    def _rule(self, step: int, reached: Sequence[int], best: float) -> Ruling:
        reasons = (self._compare(self._tables[rung], best) for rung in reached)
        reason = next(filter(None, reasons), None)
        return GO_ON if reason is None else (Verdict.STOP, f"rung at step {step}: {reason}")

    def ended(self, number: int, *, failed: bool) -> None:
        """Forget its best value."""
        self._rungs.forget(number)

    def _compare(self, arrived: list[float], best: float) -> str | None:
        better = bisect_left(arrived, best)
        if better < math.ceil(len(arrived) / self._eta):
            return None
        return f"{better} of {len(arrived) - 1} were better, the best 1/{self._eta} go on"


class _Rung:
    """Who came to a rung, and which of them are among the best 1/eta, earlier ones before later ones of equal value."""

    def __init__(self, eta: int) -> None:
        self._eta = eta
        self._arrived = 0
        self._chosen: list[tuple[float, int]] = []  # a heap of (-value, -number): the worst is on top
        self._rest: list[tuple[float, int]] = []  # a heap of (value, number): the best is on top
        self._gone_on: set[int] = set()
        self.ready: dict[int, float] = {}
        """The chosen that did not go on yet, with their values."""

    def arrive(self, number: int, value: float) -> None:
        self._arrived += 1
        negative_value, negative_number = heapq.heappushpop(self._chosen, (-value, -number))
        if -negative_number != number:
            self._choose(number, value)
        self.ready.pop(-negative_number, None)
        heapq.heappush(self._rest, (-negative_value, -negative_number))
        if len(self._chosen) < self._arrived // self._eta:
            value, number = heapq.heappop(self._rest)
            heapq.heappush(self._chosen, (-value, -number))
            self._choose(number, value)

    def go_on(self, number: int) -> None:
        self._gone_on.add(number)
        self.ready.pop(number, None)

    def _choose(self, number: int, value: float) -> None:
        if number not in self._gone_on:
            self.ready[number] = value


class Promotion(Pruner):
    """Asynchronous successive halving as the paper has it (Li et al. 2020, algorithm 2): pause and promote.

    Every trial pauses at a rung. A free worker goes on with a paused trial that is among the best 1/eta of those that
    came to its rung, the highest rung first; where there is none, it begins a new trial. A trial that fails comes to
    the rung ahead of it as the worst: otherwise the more trials diverge, the fewer of the others would be promoted.
    """

    def __init__(self, *, rungs: Sequence[float], eta: int, maximize: bool) -> None:
        self._rungs = _Rungs(rungs, maximize=maximize)
        self._eta = eta
        self._tables = [_Rung(eta) for _ in rungs]
        self._paused: dict[int, int] = {}
        self._ahead: dict[int, int] = {}
        """The rung that a trial has not come to yet; 0 where it stands nowhere here."""

    def decide(self, number: int, step: int, value: float, planned: int) -> Ruling:
        """Pause at a rung, unless the trial is the one that would be promoted next."""
        reached, best = self._rungs.arrive(number, step, value, planned)
        for rung in reached:
            self._tables[rung].arrive(number, best)
        if not reached:
            return GO_ON
        for rung in reached[:-1]:  # rungs of a short trial may coincide: only the highest counts
            self._tables[rung].go_on(number)
        self.promoted(number)  # one that died as it left a rung may come to the next without being asked to
        self._paused[number] = reached[-1]
        self._ahead[number] = reached[-1] + 1
        if self._next() == number:
            self.promoted(number)
            return GO_ON
        return Verdict.PAUSE, f"rung at step {step}: not among the best 1/{self._eta} so far"

    def promote(self) -> int | None:
        """Return the best trial of the highest rung where one may go on."""
        number = self._next()
        if number is not None:
            self.promoted(number)
        return number

    def can_promote(self) -> bool:
        """Tell whether a trial may go on."""
        return self._next() is not None

    def promoted(self, number: int) -> None:
        """Mark the trial as gone on from the rung where it stands."""
        rung = self._paused.pop(number, None)
        if rung is not None:
            self._tables[rung].go_on(number)

    def waits(self, number: int) -> bool:
        """Tell whether it stands at a rung."""
        return number in self._paused

    def ended(self, number: int, *, failed: bool) -> None:
        """Take the trial out of those that can be promoted; its place in the ranking stays."""
        self._rungs.forget(number)
        self.promoted(number)
        ahead = self._ahead.pop(number, 0)
        if failed and ahead < len(self._tables):
            self._tables[ahead].arrive(number, math.inf)
            self._tables[ahead].go_on(number)

    def _next(self) -> int | None:
        for table in reversed(self._tables):
            if table.ready:
                return min(table.ready, key=lambda number: (table.ready[number], number))
        return None


def rung_steps(rungs: Sequence[float], planned: int) -> list[int]:
    """Return the steps at which a trial of so many is compared."""
    return sorted({step for rung in rungs if (step := _step_of(rung, planned)) < planned})


def _step_of(rung: float, planned: int) -> int:
    return max(1, math.ceil(rung * planned - 1e-9))


class OptunaPruner(Pruner):
    """One of Optuna's pruners, asked through the copy of the search in memory."""

    remembers = False

    def __init__(self, history: History, pruner: optuna.pruners.BasePruner) -> None:
        history.study.pruner = pruner
        self._history, self._name = history, type(pruner).__name__

    def decide(self, number: int, step: int, value: float, planned: int) -> Ruling:
        """Ask Optuna whether to prune."""
        return (Verdict.STOP, f"{self._name} at step {step}") if self._history.should_prune(number) else GO_ON


NEED_HISTORY = ("median", "hyperband", "optuna_sha")
"""The kinds that look at a `History`."""


def make(config: Mapping[str, Any], *, most_steps: int, history: History | None, maximize: bool) -> Pruner:
    """Return the pruner that `config` (the pruner node) describes; no trial plans more than `most_steps`."""
    kind = config["kind"]
    if kind == "none":
        return NoPruner()
    if kind in ("asha", "promotion"):
        return (Asha if kind == "asha" else Promotion)(rungs=config["rungs"], eta=config["eta"], maximize=maximize)
    assert history is not None
    return OptunaPruner(history, _of_optuna(kind, config, most_steps))


def _of_optuna(kind: str, config: Mapping[str, Any], most_steps: int) -> optuna.pruners.BasePruner:
    if kind == "median":
        return optuna.pruners.MedianPruner(
            n_startup_trials=config["startup_trials"], n_warmup_steps=config["warmup_steps"]
        )
    if kind == "optuna_sha":
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=config["min_resource"], reduction_factor=config["reduction_factor"]
        )
    return optuna.pruners.HyperbandPruner(
        min_resource=config["min_resource"], max_resource=most_steps, reduction_factor=config["reduction_factor"]
    )
