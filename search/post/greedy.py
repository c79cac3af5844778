"""Greedy ensemble selection with replacement (Caruana et al., "Ensemble Selection from Libraries of Models", 2004)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.post.costs import Budget
from search.post.pool import Method, Pool, slack
from search.post.scores import Scores, scores_of
from search.train.metrics import Array, Metric


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """How greedy selection goes: at most `picks` members, counted with repetition.

    It begins with the `start` best members, and ends after `patience` picks in a row that made nothing better (None:
    never). Of more than one of `bags`, each sees a random half of the members, drawn by `seed`, and the weights are
    their mean.
    """

    picks: int
    start: int = 0
    patience: int | None = None
    bags: int = 1
    seed: int = 0


def greedy(metric: Metric, settings: Greedy, rows: Array, budget: Budget) -> Method:
    """Return greedy selection from these rows of a pool.

    Each pick adds the member that makes the mean best, of equals the first; of all ensembles on the way, from the
    start on, the best one is kept, the shortest of equals.
    """

    def select(pool: Pool) -> Array:
        scores = scores_of(pool, metric)
        if settings.bags == 1:
            return _shares(scores, pool, metric, settings, rows, budget)
        generator = np.random.default_rng(settings.seed)
        weights = np.zeros(len(pool))
        possible = rows[budget.affordable(np.zeros(len(pool), dtype=bool))[rows]]
        for _ in range(settings.bags):
            half = np.sort(generator.permutation(possible)[: (len(possible) + 1) // 2])
            weights += _shares(scores, pool, metric, settings, half, budget)
        heaviest = np.argsort(-weights, kind="stable")[: np.count_nonzero(weights)]
        kept = np.zeros(len(pool), dtype=bool)  # of bags that can be paid for one by one, all together may not be
        kept[budget.filled(heaviest, len(heaviest))] = True
        return np.asarray(np.where(kept, weights, 0.0) / weights[kept].sum())

    return select


def _shares(scores: Scores, pool: Pool, metric: Metric, settings: Greedy, rows: Array, budget: Budget) -> Array:
    """Return the weights (M,) that one run over these rows chooses."""
    scores.clear()
    counts = np.zeros(len(pool))
    begun = budget.filled(pool.ranked(metric, rows), min(settings.start, settings.picks))
    kept, least, idle = counts, np.inf, 0
    for step in range(settings.picks):
        open_ = begun[step : step + 1] if step < len(begun) else rows[budget.affordable(counts > 0)[rows]]
        losses = scores.losses(open_)
        pick = int(np.argmax(losses <= losses.min() + slack(losses.min())))
        scores.add(int(open_[pick]))
        counts[open_[pick]] += 1
        if step + 1 < len(begun):
            continue
        idle += 1
        if losses[pick] < least - slack(least) or kept is counts:
            kept, least, idle = counts.copy(), float(losses[pick]), 0
        if idle == settings.patience:
            break
    return np.asarray(kept / kept.sum())
