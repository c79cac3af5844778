"""What a study keeps on disk: what can be resumed, and weights and predictions of the best trials; nothing else."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from pathlib import Path

from search.layout import CHECKPOINT, SPLITS, WEIGHTS, predictions_of
from search.records import Event, Outcome, Paused, Started, TrialState
from search.sweep.journal import trial_folder
from search.sweep.study import Progress, Study

_OF_THE_BEST = (WEIGHTS, *map(predictions_of, SPLITS))


class Disk:
    """Watches a search and clears away what its trials left and nobody needs."""

    def __init__(self, folder: Path, *, keep: int, checkpoint_bytes: float, maximize: bool) -> None:
        """Keep the `keep` best trials' weights, and at most so many bytes of checkpoints of paused trials.

        Paused trials that lose theirs, the worst first, train again from their seed when they go on.
        """
        self._folder, self._keep, self._checkpoint_bytes = folder, keep, checkpoint_bytes
        self._sign = 1.0 if maximize else -1.0
        self._best: list[tuple[float, int]] = []  # a heap of (goodness, -number): the worst is on top
        self._paused: dict[int, tuple[float, int]] = {}
        self._size = 0
        self._comparable_from = 0

    def restore(self, study: Study) -> None:
        """Take in the trials of a study that is taken up; clear away what a driver that was killed could not."""
        self._comparable_from = study.comparable_from
        for outcome in study.outcomes.values():
            self._end(outcome)
        for paused in study.paused.values():
            self._pause(paused)

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        """Take in an event."""
        if isinstance(event, Outcome):
            self._end(event)
        elif isinstance(event, Paused):
            self._pause(event)
        elif isinstance(event, Started):
            self._forget(event.number)

    def _end(self, outcome: Outcome) -> None:
        self._forget(outcome.number)
        self._remove(outcome.number, [CHECKPOINT])
        comparable = outcome.number >= self._comparable_from
        if outcome.value is None or outcome.state is TrialState.FAILED or not comparable:
            self._remove(outcome.number, _OF_THE_BEST)
            return
        heapq.heappush(self._best, (self._sign * outcome.value, -outcome.number))
        if len(self._best) > self._keep:
            self._remove(-heapq.heappop(self._best)[1], _OF_THE_BEST)

    def _pause(self, paused: Paused) -> None:
        try:
            size = (trial_folder(self._folder, paused.number) / CHECKPOINT).stat().st_size
        except OSError:
            return
        self._forget(paused.number)
        value = paused.so_far.value
        self._paused[paused.number] = (float("-inf") if value is None else self._sign * value, size)
        self._size += size
        while self._size > self._checkpoint_bytes:
            worst = min(self._paused, key=lambda number: self._paused[number])
            self._forget(worst)
            self._remove(worst, [CHECKPOINT])

    def _forget(self, number: int) -> None:
        _, size = self._paused.pop(number, (0.0, 0))
        self._size -= size

    def _remove(self, number: int, names: Iterable[str]) -> None:
        for name in names:
            (trial_folder(self._folder, number) / name).unlink(missing_ok=True)
