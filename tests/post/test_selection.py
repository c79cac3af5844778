import numpy as np
import pytest

from search.post.selection import among, combine, cross_fitted, greedy, single_best, snapshots_of_best, uniform
from search.train.metrics import Array, Metric, metrics_of

ACCURACY, LOSS = metrics_of("classification")["accuracy"], metrics_of("classification")["loss"]
RMSE = metrics_of("regression")["rmse"]


def members(num_members: int, num_examples: int, seed: int = 0, classes: int = 3) -> tuple[Array, Array]:
    """Noisy probabilities that lean to the truth, member 0 the most."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, num_examples)
    logits = generator.normal(size=(num_members, num_examples, classes))
    logits[:, np.arange(num_examples), targets] += np.linspace(1.5, 0.5, num_members)[:, None]
    odds = np.exp(logits)
    return odds / odds.sum(axis=2, keepdims=True), targets


def plain_greedy(predictions: Array, targets: Array, metric: Metric, picks: int) -> Array:
    """Caruana's loop as one would write it on a blackboard."""
    chosen: list[int] = []
    best: tuple[float, list[int]] | None = None
    for _ in range(picks):
        values = [metric(predictions[[*chosen, m]].mean(axis=0), targets) for m in range(len(predictions))]
        losses = [-v if metric.maximize else v for v in values]
        chosen.append(int(np.argmin(losses)))
        if best is None or min(losses) < best[0] - 1e-12:
            best = (min(losses), list(chosen))
    assert best is not None
    return np.bincount(best[1], minlength=len(predictions)) / len(best[1])


def test_the_single_best_is_one_member_the_first_of_equals() -> None:
    predictions, targets = members(5, 200)
    assert single_best(LOSS)(predictions, targets).tolist() == [1, 0, 0, 0, 0]
    assert single_best(ACCURACY)(predictions[[0, 0]], targets).tolist() == [1, 0]


def test_uniform_takes_the_k_best_or_all_there_are() -> None:
    predictions, targets = members(5, 400)
    assert uniform(LOSS, 2)(predictions, targets).tolist() == [0.5, 0.5, 0, 0, 0]
    assert uniform(LOSS, 10)(predictions, targets).tolist() == [0.2] * 5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("metric", [LOSS, ACCURACY], ids=["loss", "accuracy"])
def test_greedy_picks_what_the_plain_loop_picks(metric: Metric, seed: int) -> None:
    predictions, targets = members(8, 60, seed)
    assert greedy(metric, 12)(predictions, targets) == pytest.approx(plain_greedy(predictions, targets, metric, 12))


def test_greedy_is_at_least_as_good_as_the_best_member_where_it_chose() -> None:
    predictions, targets = members(8, 100)
    weights = greedy(LOSS, 20)(predictions, targets)
    assert weights.sum() == pytest.approx(1)
    assert LOSS(combine(weights, predictions), targets) <= min(LOSS(p, targets) for p in predictions)


def test_greedy_stops_when_it_no_longer_pays() -> None:
    perfect = np.eye(3)[np.array([0, 1, 2])]
    predictions = np.stack([np.full((3, 3), 1 / 3), perfect])
    assert greedy(LOSS, 10)(predictions, np.array([0, 1, 2])).tolist() == [0, 1]


def test_greedy_averages_values() -> None:
    targets = np.array([1.0, 2.0, 3.0])
    predictions = np.stack([targets - 1, targets + 1, targets + 5])
    assert greedy(RMSE, 10)(predictions, targets).tolist() == [0.5, 0.5, 0]


def test_members_that_are_left_out_get_no_weight() -> None:
    predictions, targets = members(5, 200)
    assert among(single_best(LOSS), [4, 2])(predictions, targets).tolist() == [0, 0, 1, 0, 0]
    assert among(uniform(LOSS, 2), [1, 4, 3])(predictions, targets).tolist() == [0, 0.5, 0, 0.5, 0]


def test_snapshots_are_those_of_the_best_trial_with_two_of_them() -> None:
    predictions, targets = members(8, 400)
    owners = {2: 6, 3: 1, 4: 1, 5: 0, 7: 6}  # trial 0 is the best, and has one
    assert snapshots_of_best(ACCURACY, owners)(predictions, targets).tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0]


def test_cross_fitting_never_lets_an_example_choose_its_own_ensemble() -> None:
    """Each member is right on one example alone: chosen with it, the figure is perfect; without it, chance."""
    size = 12
    targets = np.zeros(size, dtype=np.int64)
    predictions = np.full((size, size, 2), (0.4, 0.6))
    predictions[np.arange(size), np.arange(size)] = (1.0, 0.0)
    held_out = cross_fitted(single_best(ACCURACY), predictions, targets, folds=size, seed=0)
    assert ACCURACY(held_out, targets) == 0.0


def test_cross_fitting_predicts_every_example_once() -> None:
    predictions, targets = members(4, 50)
    held_out = cross_fitted(greedy(LOSS, 5), predictions, targets, folds=5, seed=3)
    assert held_out.sum(axis=1) == pytest.approx(np.ones(50))
