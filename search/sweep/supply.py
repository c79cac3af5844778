"""Trials to come: how their parameters are found, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from search.records import Params, TrialSpec
from search.sweep.history import History
from search.sweep.limits import Limits
from search.sweep.packing import Packer
from search.sweep.samplers import Sampler
from search.sweep.study import Study

AHEAD = 512
"""Trials are drawn so far beyond the last that began, so that those of one shape can be found among them."""


class Draws:
    """The parameters of new trials: first those that are named and not known yet, then what a sampler draws."""

    def __init__(
        self, named: Sequence[Params], make_sampler: Callable[[Sequence[Params]], Sampler], known: Sequence[Params]
    ) -> None:
        """`make_sampler` is given all that are not to be sampled."""
        self._named = deque(params for params in named if params not in known)
        self._sampler = make_sampler([*known, *self._named])

    @property
    def size(self) -> int | None:
        """How many trials there can be, those that are known counted in; None: no end."""
        return self._sampler.size

    @property
    def ahead(self) -> bool:
        """Whether trials may be drawn long before they begin."""
        return self._sampler.ahead

    def next(self, number: int, history: History | None) -> Params:
        """Return the parameters of the next trial, which has that number."""
        return self._named.popleft() if self._named else self._sampler.sample(number, history)

    def again(self, number: int) -> Params | None:
        """Return what was drawn for a trial that never began, if it comes next; None where results were looked at."""
        return self.next(number, None) if self._named or self.ahead else None


class Supply:
    """New trials on their way to a worker: drawn, waiting in the packer, then numbered by the study."""

    def __init__(
        self,
        study: Study,
        draws: Draws,
        packer: Packer,
        limits: Limits,
        make_spec: Callable[[int, Params], TrialSpec],
    ) -> None:
        self._study, self._draws, self._packer = study, draws, packer
        self._limits, self._make_spec = limits, make_spec
        self._found = deque(study.waiting)
        """Trials that an earlier driver drew, and that do not wait in the packer yet."""
        self._uncreated: deque[Params] = deque()
        """The parameters of drawn trials that the study has no number for yet, in order."""

    def prepare(self) -> bool:
        """Let one more new trial wait; return False where there are enough, or where no more are asked for."""
        if not self._wants_more() or self._limits.reached() is not None:
            return False
        if self._found:
            number = self._found.popleft()
            params = self._study.params[number]
        else:
            number = len(self._study.params) + len(self._uncreated)
            params = self._draws.next(number, self._study.history)
            self._uncreated.append(params)
        self._packer.new(self._make_spec(number, params))
        return True

    def undrawn(self) -> int:
        """Return how many trials of the budget do not wait yet."""
        return max(0, self._limits.total - self._study.num_begun - self._packer.num_new)

    def begin(self, number: int) -> None:
        """Let the study know that a trial begins, or goes on; those before it get their numbers first."""
        study = self._study
        while (expected := len(study.params)) <= number:
            created = study.create(self._uncreated.popleft(), begun=expected == number)
            if created != expected:
                raise RuntimeError(f"the study in {study.journal.folder} numbers trial {expected} as {created}")
        if number in study.waiting:
            study.begin(number)

    def _wants_more(self) -> bool:
        """Tell whether another may wait: they are drawn ahead where they may share workers."""
        if not self._packer.num_new:
            return True
        if not self._packer.fuses or not self._draws.ahead or not self.undrawn():
            return False
        return len(self._uncreated) < AHEAD
