"""A study in a folder that drivers search with workers that do what their configuration says."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from search.records import (
    CohortSpec,
    Event,
    FailureKind,
    Measured,
    MeasureSpec,
    Outcome,
    Params,
    TrialSpec,
    Work,
)
from search.space import Space
from search.sweep import pruners, samplers
from search.sweep.driver import Budget, Driver, Watcher
from search.sweep.executor import Answer, Executor, InProcessExecutor, LastWord, Talk
from search.sweep.failures import FailurePolicy, Failures
from search.sweep.history import History
from search.sweep.journal import Journal
from search.sweep.simulated import Playing, SimulatedExecutor, VirtualClock, WorkerLostError
from search.sweep.study import Progress, Study
from tests.kits import doubles

CONFIG = {"optimizer": {"lr": 0.1, "space": {"lr": {"low": 0.0, "high": 1.0}}}, "choose": {}}
SPACE = Space.of(OmegaConf.create(CONFIG))
MAX_LOST_WORKERS = 3
POLICY = FailurePolicy(retries={FailureKind.LOST_WORKER: MAX_LOST_WORKERS})
ASHA = {"kind": "asha", "rungs": [1 / 9, 1 / 3], "eta": 3}
PROMOTION = {**ASHA, "kind": "promotion"}


def rate_of(params: Params) -> float:
    """Return what `SPACE` draws."""
    return float(params["optimizer.lr"] or 0.0)


class Watched(SimulatedExecutor):
    """Tells the bench what is handed out."""

    def __init__(self, bench: "Bench", slots: int, clock: VirtualClock) -> None:
        super().__init__(lambda work: bench.script(work), slots, clock)
        self._bench = bench
        self._at: dict[int, Work] = {}

    def start(self, work: Work) -> int:
        self._bench.handed.append(work)
        slot = super().start(work)
        self._at[slot] = work
        return slot

    def resume(self, slot: int, answer: Answer) -> None:
        self._bench.joined += [(trial.number, self._at[slot].number) for trial in answer.joining]
        super().resume(slot, answer)


class KilledError(Exception):
    """Stands for the end of the driver's process."""


class Bench:
    """A study in a folder, opened and closed as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trained: list[int] = []
        self.specs: list[TrialSpec] = []
        self.events: list[Event] = []
        self.clock: Callable[[], float] = self.tick
        self.now = 0.0
        self.last: Driver
        """The driver of the last search."""
        self.curve: Callable[[int, Params], dict[str, Any]] = lambda _, params: {"values": [params["optimizer.lr"]] * 3}
        self.attempt: Callable[[int, int], Mapping[str, Any]] = lambda number, attempt: {}
        """What is different in the attempt, from 1, at the trial of that number."""
        self.on_event: Callable[[Event], None] = lambda event: None
        """Is called after an event was stored."""
        self.shape_of: Callable[[TrialSpec], str | None] = lambda _: "one"
        self.sizes: dict[str, int] = {}
        """What is measured by shape; otherwise 8."""
        self.measure_ends = ""
        """How measurements end, as `config["end"]` says of trials."""
        self.handed: list[Work] = []
        """What simulated workers were given, in order."""
        self.joined: list[tuple[int, int]] = []
        """(trial, first trial of the cohort that it joined)."""
        self.measured: list[MeasureSpec] = []

    def search(self, trials: int, *, slots: int = 1, executor: Executor | None = None, **settings: Any) -> Progress:
        journal = Journal(self.folder, maximize=True)
        try:
            self.last = self.driver(journal, trials, **settings)
            with executor or InProcessExecutor(self.run, slots) as used:
                return self.last.run(used)
        finally:
            journal.close()

    def simulate(self, trials: int, *, slots: int = 1, **settings: Any) -> Progress:
        """Search in virtual time, which goes on from search to search."""
        clock = self.clock if isinstance(self.clock, VirtualClock) else VirtualClock()
        self.clock = clock
        return self.search(trials, executor=Watched(self, slots, clock), **settings)

    def driver(
        self,
        journal: Journal,
        trials: int,
        *,
        sampler: str = "random",
        pruner: dict[str, Any] | None = None,
        seed: int = 0,
        first: Sequence[Params] | None = None,
        space: Space = SPACE,
        epochs: int = 3,
        identity: dict[str, Any] | None = None,
        extend: bool = False,
        policy: FailurePolicy = POLICY,
        watchers: Sequence[Watcher] = (),
        poll_seconds: float = 0.5,
        fused: int | None = 1,
        **limits: Any,
    ) -> Driver:
        kind = (pruner or {"kind": "none"})["kind"]
        needed = sampler in samplers.NEED_HISTORY or kind in pruners.NEED_HISTORY
        history = History(maximize=True) if needed else None
        study = Study(journal, space, identity or {"seed": seed}, maximize=True, history=history, extend=extend)
        first = [space.default()] if first is None else first
        return Driver(
            study=study,
            make_sampler=lambda taken: samplers.make(sampler, space, seed, taken, trials),
            pruner=pruners.make(pruner or {"kind": "none"}, most_steps=epochs, history=history, maximize=True),
            budget=Budget(trials=trials, **limits),
            failures=Failures(policy),
            first=first,
            make_spec=self.spec,
            planned_steps=lambda _: epochs,
            shown=space.shown,
            clock=self.clock,
            stopwatch=self.clock,
            watchers=[self.watch, *watchers],
            poll_seconds=poll_seconds,
            shape_of=lambda spec: self.shape_of(spec),
            fused=fused,
        )

    def watch(self, event: Event, position: int, progress: Progress) -> None:
        self.events.append(event)
        self.on_event(event)

    def directory(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:05d}"

    def spec(self, number: int, params: Params) -> TrialSpec:
        return TrialSpec(
            number=number,
            params=params,
            config=self.curve(number, params),
            seed=number,
            directory=str(self.directory(number)),
        )

    def run(self, work: Work, talk: Talk) -> LastWord | tuple[LastWord, ...]:
        if isinstance(work, MeasureSpec):
            return self._measured(work)
        return doubles.run(work, talk, self._begun)

    def script(self, work: Work) -> Playing:
        if isinstance(work, MeasureSpec):
            return self._measuring(work)
        assert isinstance(work, TrialSpec)
        return doubles.script(self.clock)(self._begun(work))

    def _measuring(self, work: MeasureSpec) -> Playing:
        yield from ()
        self.measured.append(work)
        if self.measure_ends == "die":
            raise WorkerLostError
        return (math.inf if self.measure_ends == "freeze" else 5.0), self._measured(work)

    def _measured(self, work: MeasureSpec) -> Measured:
        return doubles.measured(work, self.sizes.get(work.shape, 8), seconds=5.0, time=self.clock() + 5.0)

    def _begun(self, work: TrialSpec) -> TrialSpec:
        self.trained.append(work.number)
        self.specs.append(work)
        return dataclasses.replace(
            work, config={**work.config, **self.attempt(work.number, self.trained.count(work.number))}
        )

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def kill_after(self, number_of_events: int) -> None:
        """Let the driver die once it has stored so many more events."""
        left = [number_of_events]

        def count(event: Event) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KilledError

        self.on_event = count

    def cohorts(self) -> list[list[int]]:
        """Return the trials of each cohort that simulated workers were given, and alone the others."""
        return [
            [trial.number for trial in work.trials] if isinstance(work, CohortSpec) else [work.number]
            for work in self.handed
            if not isinstance(work, MeasureSpec)
        ]

    def outcomes(self) -> dict[int, Outcome]:
        return {e.number: e for e in self.events if isinstance(e, Outcome)}

    def gave_up(self) -> str | None:
        """Return why the last search gave up, if it did."""
        return self.last.broken

    def interrupted(self) -> bool:
        """Tell whether the last search was interrupted."""
        return self.last.interrupted

    def all_ended_once(self, trials: int) -> bool:
        """Tell whether every trial has exactly one outcome."""
        return Counter(e.number for e in self.events if isinstance(e, Outcome)) == Counter(range(trials))

    def stored_events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]
