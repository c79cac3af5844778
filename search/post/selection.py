"""Choosing ensembles from predictions alone: no model is loaded for it.

An ensemble is a weight per member, summing to 1, and predicts the weighted mean. Each method chooses among some rows of
a pool of predictions, for `greedy` see there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from search.post.costs import Budget
from search.post.pool import Method, Pool, combine
from search.train.metrics import TINY, Array, Metric

Objective = Callable[[Array], tuple[float, Array]]
"""(weights (K,)) -> its value and its gradient (K,)."""
_NEGLIGIBLE = 1e-3
"""A weight that is smaller is not worth a member."""


def single_best(metric: Metric, rows: Array) -> Method:
    """Return the method that takes the best member alone; the first of equals."""
    return lambda pool: _unit(pool.ranked(metric, rows)[:1], len(pool))


def uniform(metric: Metric, k: int, rows: Array, budget: Budget) -> Method:
    """Return the method that averages the k best members that can be paid for together."""
    return lambda pool: _unit(budget.filled(pool.ranked(metric, rows), k), len(pool))


def snapshots_of_best(metric: Metric, owners: Mapping[int, int], budget: Budget) -> Method:
    """Return the method that averages the snapshots of the best trial that has at least two (Huang et al. 2017).

    `owners` has the index of its trial for each snapshot's.
    """
    several = np.array([trial for trial, count in Counter(owners.values()).items() if count > 1])

    def select(pool: Pool) -> Array:
        best = pool.ranked(metric, several)[0]
        its = np.array([i for i, trial in owners.items() if trial == best])
        return _unit(np.sort(budget.filled(pool.ranked(metric, its), len(its))), len(pool))

    return select


def weighted(metric: Metric, k: int, rows: Array, budget: Budget) -> Method:
    """Return the method that weighs the k best members that can be paid for together.

    The weights minimise the log loss, of values the squared error, of the weighted mean: convex problems on the
    simplex, solved by sequential quadratic programming (Kraft 1988).
    """

    def select(pool: Pool) -> Array:
        chosen = budget.filled(pool.ranked(metric, rows), k)
        weights = np.zeros(len(pool))
        weights[chosen] = _optimum(pool.predictions[chosen], pool.targets)
        return weights

    return select


def cross_fitted(
    methods: Mapping[str, Method], pool: Pool, folds: Sequence[Array], temperatures: Array | None = None
) -> dict[str, Array]:
    """Return each method's predictions (N, ...), where an example's ensemble was chosen without its fold, a mask (N,).

    One fold of all examples leaves nothing to choose by: then they choose for themselves.

    `temperatures` (F, M) are the members' own, fitted without each fold.
    """
    combined = {name: np.zeros(pool.predictions.shape[1:]) for name in methods}
    for fold, held_out in enumerate(folds):
        rest, asked = pool if held_out.all() else pool.part(~held_out), pool.part(held_out)
        if temperatures is not None:
            rest, asked = rest.tempered(temperatures[fold]), asked.tempered(temperatures[fold])
        for name, method in methods.items():
            combined[name][held_out] = combine(method(rest), asked.predictions)
    return combined


def _unit(chosen: Array, num_members: int) -> Array:
    weights = np.zeros(num_members)
    weights[chosen] = 1.0 / len(chosen)
    return weights


def _optimum(predictions: Array, targets: Array) -> Array:
    """Return the weights (K,) with the least loss of the weighted mean; negligible ones are 0."""
    from scipy.optimize import minimize

    if predictions.ndim == 3:
        true = predictions[:, np.arange(len(targets)), targets].astype(np.float64)
        loss = _log_loss_of(true)
    else:
        loss = _squared_error_of(predictions.astype(np.float64) - targets)
    start = np.full(len(predictions), 1 / len(predictions))
    found = minimize(
        loss,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(start),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-9, "maxiter": 200},
    )
    # It may end on a failed line search, which says little about where it stands.
    if not np.isfinite(found.x).all() or loss(found.x)[0] > loss(start)[0]:
        return start
    weights = np.where(found.x < _NEGLIGIBLE, 0.0, found.x)
    return np.asarray(weights / weights.sum())


def _log_loss_of(true: Array) -> Objective:
    def loss(weights: Array) -> tuple[float, Array]:
        mean = np.maximum(weights @ true, TINY)
        return float(-np.log(mean).mean()), -(true / mean).mean(axis=1)

    return loss


def _squared_error_of(errors: Array) -> Objective:
    scale = max(float((errors**2).mean()), TINY)  # the solver's tolerance is absolute

    def loss(weights: Array) -> tuple[float, Array]:
        mean = weights @ errors
        return float((mean**2).mean() / scale), 2 * (errors @ mean) / len(mean) / scale

    return loss
