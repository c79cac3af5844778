"""How the next parameters are found. All but TPE are functions of (seed, trial number) alone."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

import optuna

from search.keyed import keyed_int, keyed_uniform
from search.records import Params
from search.space import Dimension, Space
from search.sweep.history import History

NEED_HISTORY = ("tpe",)
"""The kinds that look at a `History`."""


class Sampler(ABC):
    """Finds the parameters of trial after trial."""

    size: int | None = None
    """How many trials there can be, those that are not sampled counted in; None: no end."""
    ahead = True
    """Whether trials may be drawn long before they begin: what it draws does not depend on results."""

    @abstractmethod
    def sample(self, number: int, history: History | None) -> Params:
        """Return parameters (by Optuna's names) for trial `number`, below `size`."""


class RandomSampler(Sampler):
    """Independent draws, keyed by (seed, trial number, parameter name): Bergstra and Bengio 2012."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed

    def sample(self, number: int, history: History | None) -> Params:
        """Draw each dimension by its own key."""
        return self._space.draw(lambda d: d.at(keyed_uniform(self._seed, number, d.name)))


class QmcSampler(Sampler):
    """The scrambled Sobol sequence over all dimensions, conditional ones included; trial i takes point i."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._column = {dimension.name: i for i, dimension in enumerate(space.dimensions)}
        self._engine: Any = None
        self._next = 0

    def sample(self, number: int, history: History | None) -> Params:
        """Take the sequence's point of that number."""
        point = self._point(number)
        return self._space.draw(lambda d: d.at(float(point[self._column[d.name]])))

    def _point(self, number: int) -> Any:
        if self._engine is None or number < self._next:
            from scipy.stats.qmc import Sobol

            self._engine, self._next = Sobol(max(1, len(self._column)), rng=self._seed), 0
        if number > self._next:
            self._engine.fast_forward(number - self._next)
        self._next = number + 1
        return self._engine.random(1)[0]


class GridSampler(Sampler):
    """Every combination in order, those left out that are in the study already or named as a starting point."""

    def __init__(self, space: Space, taken: Sequence[Params], limit: int) -> None:
        """`limit` is the number of trials beyond which nobody will ask. Raises UsageError for a continuous range."""
        known = {frozenset(params.items()) for params in taken}
        points = (point for point in space.grid() if frozenset(point.items()) not in known)
        self._points = deque(islice(points, max(0, limit - len(taken))))
        self.size = len(taken) + len(self._points)

    def sample(self, number: int, history: History | None) -> Params:
        """Return the next combination."""
        return self._points.popleft()


class TpeSampler(Sampler):
    """Optuna's multivariate TPE with a constant liar for running trials, seeded anew by each trial's number."""

    ahead = False

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed

    def sample(self, number: int, history: History | None) -> Params:
        """Let Optuna suggest from what finished and what runs."""
        assert history is not None
        seed = keyed_int(self._seed, number, "tpe") % 2**32
        with warnings.catch_warnings():  # `group`, which conditional spaces need, is called experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            history.study.sampler = optuna.samplers.TPESampler(
                seed=seed, group=True, multivariate=True, constant_liar=True
            )
        trial = history.study.ask()  # a scratch trial, withdrawn again: the study numbers its own

        def suggest(dimension: Dimension) -> Any:
            return trial._suggest(dimension.name, dimension.distribution())

        params = self._space.draw(suggest)
        history.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return params


def make(kind: str, space: Space, seed: int, taken: Sequence[Params], limit: int) -> Sampler:
    """Return the sampler of that name; `taken` are the parameters of the trials that are not sampled."""
    if kind == "grid":
        return GridSampler(space, taken, limit)
    kinds: dict[str, type[RandomSampler] | type[QmcSampler] | type[TpeSampler]] = {
        "random": RandomSampler,
        "qmc": QmcSampler,
        "tpe": TpeSampler,
    }
    return kinds[kind](space, seed)
