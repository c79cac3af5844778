"""Which trials share a worker: those of one shape, as many as are worth it, and no more than leave work for the others.

The first that waits is served first, with others of its shape. Trials that are taken up again stand before new ones.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from search.records import CohortSpec, Measured, MeasureSpec, TrialSpec

WORTH = 4
"""So many trials of a shape must wait for a measurement to be worth its time."""
MEASURED = 8
"""So many trials of a shape are measured with at most; for larger cohorts they are taken several times."""
ATTEMPTS = 2
"""How often a shape is measured where nothing is found out."""
TURN = 4
"""A cohort takes in so many times what it has room for, then it ends: others, and a fresh process, get their turn."""

OFF = 1
ShapeOf = Callable[[TrialSpec], str | None]
Handed = TrialSpec | CohortSpec | MeasureSpec


@dataclass(frozen=True, kw_only=True)
class Load:
    """What there is to do beside what waits, in whole trials: one that has a third of its epochs before it is a third.

    `here` is what the worker that asks is left with, `elsewhere` what the others are, `undrawn` will wait behind all.
    """

    num_slots: int
    undrawn: int = 0
    elsewhere: float = 0.0
    here: float = 0.0


@dataclass
class Occupancy:
    """Of a cohort in a slot: its shape, how many it began with, are present, and were taken in so far."""

    shape: str
    size: int
    present: int
    taken: int


@dataclass
class _Queue:
    """The trials of one shape that wait. Those taken up again have their places, which come before all new ones."""

    again: deque[tuple[int, TrialSpec]] = field(default_factory=deque)
    new: deque[TrialSpec] = field(default_factory=deque)

    def num_waiting(self, *, new: bool) -> int:
        return len(self.again) + (len(self.new) if new else 0)

    def place(self, *, new: bool) -> tuple[int, int] | None:
        """Return the place of the first; None where there is none."""
        if self.again:
            return 0, self.again[0][0]
        return (1, self.new[0].number) if new and self.new else None

    def trials(self) -> Iterator[TrialSpec]:
        return itertools.chain((trial for _, trial in self.again), self.new)

    def pop(self) -> TrialSpec:
        return self.again.popleft()[1] if self.again else self.new.popleft()


class Packer:
    """The trials that wait for a worker."""

    def __init__(self, shape_of: ShapeOf, fused: int | None) -> None:
        """`shape_of` is None for what must be alone; `fused` is how many may be together, None: as was measured."""
        self._shape_of, self._fused = shape_of, fused
        self._queues: dict[str | None, _Queue] = {}
        self._again = itertools.count()
        self._measured: dict[str, int] = {}
        self._enough: dict[str, float] = {}
        """How many trials of a measured shape must wait for it to be measured again: larger cohorts were not tried."""
        self._attempts: Counter[str] = Counter()
        self._measuring: set[str | None] = set()
        self._fits: dict[str, int] = {}
        """How many trials of a shape may have room, where more had none."""
        self.num_again = 0
        """How many wait that are taken up again."""
        self.num_new = 0
        """How many wait that are new."""

    @property
    def fuses(self) -> bool:
        """Whether trials may be together."""
        return self._fused != OFF

    def again(self, trial: TrialSpec, *, alone: bool) -> None:
        """Let a trial wait that was begun before."""
        shape = None if alone else self._shape(trial)
        self._queue(shape).again.append((next(self._again), trial))
        self.num_again += 1

    def new(self, trial: TrialSpec) -> None:
        """Let a new trial wait; they must come in the order of their numbers."""
        self._queue(self._shape(trial)).new.append(trial)
        self.num_new += 1

    def hand_out(self, load: Load, *, new: bool = True) -> Handed | None:
        """Return what a free worker is to do; None where nothing waits.

        Without `new` those that are taken up again alone.
        """
        first = self._first(new=new, passing=self._measuring) or self._first(new=new)
        if first is None:
            return None
        shape, queue = first
        share = self._share(load, new=new)
        if shape is not None and share > 1 and self._wants_measuring(shape, queue, new=new):
            trials = tuple(itertools.islice(queue.trials(), min(MEASURED, queue.num_waiting(new=new))))
            self._measuring.add(shape)
            waiting = queue.num_waiting(new=new)
            return MeasureSpec(number=trials[0].number, shape=shape, trials=trials, waiting=waiting)
        trials = self._take(shape, queue, min(self._limit(shape), share), new=new)
        return trials[0] if len(trials) == 1 else CohortSpec(trials=trials)

    def occupancy(self, work: Handed) -> Occupancy | None:
        """Return that of a cohort that was handed out; None for what nobody joins."""
        if not isinstance(work, CohortSpec):
            return None
        shape = self._shape(work.trials[0])
        assert shape is not None
        size = len(work.trials)
        return Occupancy(shape, size=size, present=size, taken=size)

    def join(self, cohort: Occupancy, load: Load, *, new: bool = True) -> tuple[TrialSpec, ...]:
        """Return the trials that a cohort takes in while no worker is free: as many as left it.

        It began with its share of what there was: the rest is for workers that become free soon.
        """
        queue = self._queues.get(cohort.shape)
        limit = min(cohort.size, self._limit(cohort.shape))
        room = limit - cohort.present
        if queue is None or room < 1:
            return ()
        room = min(room, TURN * limit - cohort.taken)
        trials = self._take(cohort.shape, queue, min(room, self._share(load, new=new)), new=new)
        cohort.present += len(trials)
        cohort.taken += len(trials)
        return trials

    def measured(self, measured: Measured) -> None:
        """Take in how many trials of a shape are to be together."""
        shape = measured.shape
        self._measuring.discard(shape)
        if not measured.size:
            self._attempts[shape] += 1
            if self._attempts[shape] >= ATTEMPTS:
                self._measured.setdefault(shape, 1)
            return
        self._measured[shape] = measured.size
        limited = 1 < measured.size == measured.waiting
        self._enough[shape] = 2 * measured.waiting if limited else math.inf

    def forget_measuring(self) -> None:
        """Take in that measurements were ended before they said anything."""
        self._measuring.clear()

    def no_room(self, trial: TrialSpec, size: int) -> None:
        """Take in that memory was short for so many like this one: the next cohorts of its shape are half as large."""
        if (shape := self._shape(trial)) is not None:
            self._fits[shape] = min(max(1, size // 2), self._fits.get(shape, size))

    def _shape(self, trial: TrialSpec) -> str | None:
        # One that needs less memory than others of its shape is not helped by company.
        return self._shape_of(trial) if self.fuses and trial.micro_batches == 1 else None

    def _queue(self, shape: str | None) -> _Queue:
        return self._queues.setdefault(shape, _Queue())

    def _first(self, *, new: bool, passing: Collection[str | None] = ()) -> tuple[str | None, _Queue] | None:
        """Return the shape, with its queue, of the first trial that waits, passing over some shapes."""
        places = (
            (place, shape)
            for shape, queue in self._queues.items()
            if shape not in passing and (place := queue.place(new=new)) is not None
        )
        first = min(places, default=None, key=lambda found: found[0])
        return None if first is None else (first[1], self._queues[first[1]])

    def _wants_measuring(self, shape: str, queue: _Queue, *, new: bool) -> bool:
        if self._fused is not None or shape in self._measuring:
            return False
        enough = self._enough.get(shape, math.inf) if shape in self._measured else WORTH
        return queue.num_waiting(new=new) >= enough

    def _limit(self, shape: str | None) -> int:
        """Return how many trials of a shape may be together."""
        if shape is None:
            return 1
        limit = self._measured.get(shape, 1) if self._fused is None else self._fused
        return min(limit, self._fits.get(shape, limit))

    def _share(self, load: Load, *, new: bool) -> int:
        """Return how many of those that wait are the worker's that asks, so that all have as much to do."""
        waiting = self.num_again + (self.num_new + load.undrawn if new else 0)
        total = waiting + load.elsewhere + load.here
        return max(1, math.ceil(total / load.num_slots - load.here))

    def _take(self, shape: str | None, queue: _Queue, most: int, *, new: bool) -> tuple[TrialSpec, ...]:
        count = max(0, min(most, queue.num_waiting(new=new)))
        again = min(count, len(queue.again))
        self.num_again -= again
        self.num_new -= count - again
        trials = tuple(queue.pop() for _ in range(count))
        if not queue.again and not queue.new:
            del self._queues[shape]
        return trials
