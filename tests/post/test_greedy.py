"""Greedy selection: the plain loop's picks, ties and all, and what Caruana added to it."""

import numpy as np
import pytest

from search.post.costs import Budget, Limits, budget_of
from search.post.greedy import Greedy, greedy
from search.post.pool import Pool, combine
from search.post.scores import Scores, scores_of
from search.train.metrics import Array, Metric, metrics_of
from tests.kits.pools import coarse, noisy

ACCURACY, LOSS = metrics_of("classification")["accuracy"], metrics_of("classification")["loss"]
RMSE, MAE, R2 = (metrics_of("regression")[name] for name in ("rmse", "mae", "r2"))
SKILLS = np.linspace(1.5, 0.5, 8)


def chosen(metric: Metric, predictions: Array, targets: Array, picks: int = 12, **settings: int) -> Array:
    method = greedy(metric, Greedy(picks=picks, **settings), np.arange(len(predictions)), Budget.free(len(predictions)))
    return method(Pool(predictions, targets))


def plain(predictions: Array, targets: Array, metric: Metric, picks: int, start: int = 0) -> Array:
    """Caruana's loop as one would write it on a blackboard; figures of a billionth of each other are equal."""

    def losses_of(ensembles: list[list[int]]) -> Array:
        values = np.array([metric(predictions[e].mean(axis=0, dtype=np.float64), targets) for e in ensembles])
        return -values if metric.maximize else values

    alone = losses_of([[m] for m in range(len(predictions))])
    members = list(np.argsort(alone, kind="stable")[:start])
    best = (losses_of([members])[0], list(members)) if members else None
    while len(members) < picks:
        losses = losses_of([[*members, m] for m in range(len(predictions))])
        members.append(next(m for m, loss in enumerate(losses) if loss <= losses.min() + 1e-9))
        if best is None or losses[members[-1]] < best[0] - 1e-9:
            best = (losses[members[-1]], list(members))
    assert best is not None
    return np.bincount(best[1], minlength=len(predictions)) / len(best[1])


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("metric", [LOSS, ACCURACY], ids=["loss", "accuracy"])
def test_picks_are_the_plain_loops(metric: Metric, seed: int, ties: bool, start: int) -> None:
    predictions, targets = noisy(SKILLS, 60, seed=seed)
    if ties:
        predictions = coarse(predictions)
    expected = plain(predictions, targets, metric, 12, start)
    assert chosen(metric, predictions, targets, start=start) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [RMSE, MAE, R2], ids=lambda metric: metric.name)
def test_picks_of_values_are_the_plain_loops(metric: Metric) -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(size=80)
    predictions = targets + generator.normal(size=(6, 80)) * np.linspace(0.5, 1, 6)[:, None]
    assert chosen(metric, predictions, targets) == pytest.approx(plain(predictions, targets, metric, 12))


@pytest.mark.parametrize("kind", ["float32", "float64", "ties", "sure of the wrong class"])
@pytest.mark.parametrize("metric", [LOSS, ACCURACY], ids=["loss", "accuracy"])
def test_the_fast_ways_give_the_plain_ones_figures_pick_after_pick(metric: Metric, kind: str) -> None:
    predictions, targets = noisy(np.linspace(0, 2, 10), 500, classes=5)
    if kind == "float32":
        predictions = predictions.astype(np.float32)
    if kind == "ties":
        predictions = coarse(predictions)
    if kind == "sure of the wrong class":
        predictions[::2, :50] = np.eye(5)[(targets[:50] + 1) % 5]
    pool = Pool(predictions, targets)
    fast, slow = scores_of(pool, metric), Scores(pool, metric)
    assert type(fast) is not type(slow)
    for rows in (np.arange(10), np.array([7, 2, 3])):
        for _ in range(15):
            expected = slow.losses(rows)
            found = fast.losses(rows)
            if metric is ACCURACY:
                assert found.tolist() == expected.tolist()
            assert found == pytest.approx(expected, rel=1e-12)
            for scores in (fast, slow):
                scores.add(int(rows[expected.argmin()]))
        fast.clear()
        slow.clear()


def test_it_is_at_least_as_good_as_the_best_member_where_it_chose() -> None:
    predictions, targets = noisy(SKILLS, 100)
    weights = chosen(LOSS, predictions, targets, picks=20)
    assert weights.sum() == pytest.approx(1)
    assert LOSS(combine(weights, predictions), targets) <= min(LOSS(p, targets) for p in predictions)


def test_a_perfect_member_is_enough() -> None:
    perfect = np.eye(3)[np.array([0, 1, 2])]
    predictions = np.stack([np.full((3, 3), 1 / 3), perfect])
    assert chosen(LOSS, predictions, np.array([0, 1, 2])).tolist() == [0, 1]


def test_values_are_averaged() -> None:
    targets = np.array([1.0, 2.0, 3.0])
    predictions = np.stack([targets - 1, targets + 1, targets + 5])
    assert chosen(RMSE, predictions, targets).tolist() == [0.5, 0.5, 0]


def test_a_member_that_predicts_no_numbers_is_not_chosen() -> None:
    predictions, targets = noisy(SKILLS, 60)
    predictions[0] = np.nan
    assert chosen(LOSS, predictions, targets)[0] == 0
    assert chosen(RMSE, predictions[..., 0], targets.astype(np.float64))[0] == 0


def test_it_ends_when_picks_make_nothing_better(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    losses = Scores.losses

    def counted(self: Scores, rows: Array) -> Array:
        asked.append(len(rows))
        return losses(self, rows)

    monkeypatch.setattr(Scores, "losses", counted)
    targets = np.array([1.0, 2.0, 3.0])
    predictions = np.stack([targets - 1, targets + 1])
    assert chosen(RMSE, predictions, targets, picks=50, patience=3).tolist() == [0.5, 0.5]
    assert len(asked) == 2 + 3


def test_a_start_holds_the_best_members() -> None:
    predictions, targets = noisy(SKILLS, 300)
    order = Pool(predictions, targets).ranked(LOSS, np.arange(8))
    weights = chosen(LOSS, predictions, targets, picks=4, start=4)
    assert set(np.flatnonzero(weights)) == set(order[:4])


def test_bags_spread_the_weights_over_more_members() -> None:
    predictions, targets = noisy(SKILLS, 60)
    alone, bagged = chosen(LOSS, predictions, targets), chosen(LOSS, predictions, targets, bags=20)
    assert bagged.sum() == pytest.approx(1)
    assert np.count_nonzero(bagged) > np.count_nonzero(alone)
    assert bagged.tolist() == chosen(LOSS, predictions, targets, bags=20).tolist(), "the same draw every time"


@pytest.mark.parametrize("bags", [1, 10])
def test_an_ensemble_keeps_to_its_limits(bags: int) -> None:
    predictions, targets = noisy(SKILLS, 60)
    prices = np.array([[5.0, 1, 1, 1, 1, 1, 1, 1]])
    assert np.count_nonzero(chosen(LOSS, predictions, targets)) > 2
    for limit in (1.0, 2.0, 6.0):
        method = greedy(LOSS, Greedy(picks=12, bags=bags), np.arange(8), Budget(prices, np.array([limit])))
        weights = method(Pool(predictions, targets))
        assert weights.sum() == pytest.approx(1)
        assert prices[0] @ (weights > 0) <= limit


def test_the_number_of_members_is_a_limit_too() -> None:
    predictions, targets = noisy(SKILLS, 60)
    budget = budget_of(Limits(members=2), [str(i) for i in range(8)], None)
    weights = greedy(LOSS, Greedy(picks=12), np.arange(8), budget)(Pool(predictions, targets))
    assert np.count_nonzero(weights) == 2
