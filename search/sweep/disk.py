"""What a study keeps on disk: what can be resumed, and weights and predictions of the best trials; nothing else."""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Iterable
from pathlib import Path

from search.files import unfinished
from search.layout import CHECKPOINT, COST, SNAPSHOTS, SPLITS, WEIGHTS, predictions_of
from search.records import Decision, Event, Outcome, Paused, Started, TrialState, Verdict
from search.sweep.journal import trial_folder
from search.sweep.study import Progress, Study

_OF_THE_BEST = (COST, SNAPSHOTS, WEIGHTS, *map(predictions_of, SPLITS))
_OF_THE_RESTING = (CHECKPOINT, *_OF_THE_BEST)


class Disk:
    """Watches a search and clears away what its trials left and nobody needs."""

    def __init__(self, folder: Path, *, keep: int, checkpoint_bytes: float, maximize: bool) -> None:
        """Keep the `keep` best trials' weights, and at most so many bytes of what resting trials left.

        Those that the pruner paused rest until it promotes them. Who loses what it left, the worst first, trains again
        from its seed when it goes on.
        """
        self._folder, self._keep, self._checkpoint_bytes = folder, keep, checkpoint_bytes
        self._sign = 1.0 if maximize else -1.0
        self._best: list[tuple[float, int]] = []  # a heap of (goodness, -number): the worst is on top
        self._told_to_rest: set[int] = set()
        self._resting: dict[int, tuple[float, int]] = {}
        self._size = 0
        self._comparable_from = 0

    def restore(self, study: Study) -> None:
        """Take in the trials of a study that is taken up; clear away what a driver that was killed could not."""
        self._comparable_from = study.comparable_from
        for outcome in study.outcomes.values():
            self._end(outcome)
        for decision in study.decided.values():
            self._decide(decision)
        for paused in study.paused.values():
            self._pause(paused)

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        """Take in an event."""
        if isinstance(event, Outcome):
            self._end(event)
        elif isinstance(event, Decision):
            self._decide(event)
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
        if not self._file(outcome.number, WEIGHTS).exists():  # it was taken while the trial rested
            return
        heapq.heappush(self._best, (self._sign * outcome.value, -outcome.number))
        if len(self._best) > self._keep:
            self._remove(-heapq.heappop(self._best)[1], _OF_THE_BEST)

    def _decide(self, decision: Decision) -> None:
        if decision.verdict is Verdict.PAUSE:
            self._told_to_rest.add(decision.number)
        else:
            self._told_to_rest.discard(decision.number)

    def _pause(self, paused: Paused) -> None:
        """Count what a trial left to rest; one that was interrupted goes on first, and keeps everything."""
        if paused.number not in self._told_to_rest:
            return
        self._forget(paused.number)
        value = paused.so_far.value
        goodness = float("-inf") if value is None else self._sign * value
        size = sum(self._size_of(paused.number, name) for name in _OF_THE_RESTING)
        self._resting[paused.number] = (goodness, size)
        self._size += size
        while self._size > self._checkpoint_bytes:
            worst = min(self._resting, key=lambda number: self._resting[number])
            self._forget(worst)
            self._remove(worst, _OF_THE_RESTING)

    def _forget(self, number: int) -> None:
        _, size = self._resting.pop(number, (0.0, 0))
        self._size -= size

    def _size_of(self, number: int, name: str) -> int:
        path = self._file(number, name)
        try:
            files = path.rglob("*") if path.is_dir() else [path]
            return sum(file.stat().st_size for file in files if not file.is_dir())
        except OSError:
            return 0

    def _file(self, number: int, name: str) -> Path:
        return trial_folder(self._folder, number) / name

    def _remove(self, number: int, names: Iterable[str]) -> None:
        """Remove files and folders, with what a worker that died in writing them left."""
        for name in names:
            path = self._file(number, name)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
                continue
            path.unlink(missing_ok=True)
            unfinished(path).unlink(missing_ok=True)
