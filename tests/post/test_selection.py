"""Single best, uniform, weighted and snapshot ensembles, and the figures that nothing was tuned on."""

import numpy as np
import pytest
from scipy.optimize import nnls

from search.post.costs import Budget
from search.post.greedy import Greedy, greedy
from search.post.pool import Pool, combine, distinct
from search.post.selection import cross_fitted, single_best, snapshots_of_best, uniform, weighted
from search.train.data.split import folds_of
from search.train.metrics import metrics_of
from tests.kits.pools import noisy

ACCURACY, LOSS = metrics_of("classification")["accuracy"], metrics_of("classification")["loss"]
RMSE = metrics_of("regression")["rmse"]
FIVE, FREE = np.arange(5), Budget.free(5)
SKILLS = np.linspace(1.5, 0.5, 5)


def pool(num_examples: int = 400, seed: int = 0) -> Pool:
    return Pool(*noisy(SKILLS, num_examples, seed=seed))


def two_at_most(num_members: int) -> Budget:
    return Budget(np.ones((1, num_members)), np.array([2.0]))


def test_the_single_best_is_one_member_the_first_of_equals() -> None:
    assert single_best(LOSS, FIVE)(pool()).tolist() == [1, 0, 0, 0, 0]
    assert single_best(LOSS, np.array([4, 2]))(pool()).tolist() == [0, 0, 1, 0, 0]
    twice = Pool(pool().predictions[[0, 0]], pool().targets)
    assert single_best(ACCURACY, np.arange(2))(twice).tolist() == [1, 0]


def test_uniform_takes_the_k_best_or_all_there_are() -> None:
    assert uniform(LOSS, 2, FIVE, FREE)(pool()).tolist() == [0.5, 0.5, 0, 0, 0]
    assert uniform(LOSS, 10, FIVE, FREE)(pool()).tolist() == [0.2] * 5
    assert uniform(LOSS, 2, np.array([1, 4, 3]), FREE)(pool()).tolist() == [0, 0.5, 0, 0.5, 0]
    assert uniform(LOSS, 10, FIVE, two_at_most(5))(pool()).tolist() == [0.5, 0.5, 0, 0, 0]


def test_one_that_cannot_be_paid_for_is_passed_over() -> None:
    prices = Budget(np.array([[1.0, 9.0, 1.0, 1.0, 1.0]]), np.array([3.0]))
    assert uniform(LOSS, 3, FIVE, prices)(pool()) == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3, 0])


def test_snapshots_are_those_of_the_best_trial_with_two_of_them() -> None:
    eight = Pool(*noisy(np.linspace(1.5, 0.5, 8), 400))
    owners = {2: 6, 3: 1, 4: 1, 5: 0, 7: 6}  # trial 0 is the best, and has one
    weights = snapshots_of_best(ACCURACY, owners, Budget.free(8))(eight)
    assert weights.tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0]


def test_weights_of_probabilities_have_the_least_log_loss_there_is() -> None:
    """At the optimum no direction on the simplex is downhill (the conditions of Karush, Kuhn and Tucker)."""
    members = pool()
    weights = weighted(LOSS, 5, FIVE, FREE)(members)
    assert weights.sum() == pytest.approx(1)
    true = members.predictions[:, np.arange(400), members.targets]
    slopes = (true / (weights @ true)).mean(axis=1)  # 1 where a member has weight, at most 1 elsewhere
    assert slopes[weights > 0] == pytest.approx(1, abs=2e-3)
    assert (slopes <= 1 + 2e-3).all()
    for other in (np.full(5, 0.2), np.eye(5)[0]):
        assert LOSS(combine(weights, members.predictions), members.targets) <= LOSS(
            combine(other, members.predictions), members.targets
        )


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-4])
def test_weights_of_values_are_those_of_least_squares(scale: float) -> None:
    generator = np.random.default_rng(1)
    targets = scale * generator.normal(size=200)
    predictions = targets + scale * generator.normal(size=(5, 200)) * np.array([0.3, 0.5, 0.7, 5, 5])[:, None]
    weights = weighted(RMSE, 5, FIVE, FREE)(Pool(predictions, targets))
    errors = (predictions - targets) / scale
    expected, _ = nnls(np.vstack([errors.T, np.full((1, 5), 1e4)]), np.append(np.zeros(200), 1e4))
    assert weights == pytest.approx(expected, abs=2e-3)


def test_the_best_of_the_k_are_weighed_and_keep_to_limits() -> None:
    assert np.flatnonzero(weighted(LOSS, 2, FIVE, FREE)(pool())).tolist() == [0, 1]
    assert np.flatnonzero(weighted(LOSS, 5, FIVE, two_at_most(5))(pool())).tolist() == [0, 1]
    assert weighted(LOSS, 1, FIVE, FREE)(pool()).tolist() == [1, 0, 0, 0, 0]


def test_members_that_are_equal_bit_for_bit_are_one() -> None:
    predictions = pool().predictions[[0, 1, 0, 2, 1]].astype(np.float32)
    assert distinct(predictions, range(5)) == [0, 1, 3]
    assert distinct(predictions, [4, 2, 0, 1, 3]) == [2, 3, 4]
    predictions[2, 0, 0] = np.nextafter(predictions[2, 0, 0], 1)
    assert distinct(predictions, range(5)) == [0, 1, 2, 3]


def test_cross_fitting_never_lets_an_example_choose_its_own_ensemble() -> None:
    """Each member is right on one example alone: chosen with it, the figure is perfect; without it, chance."""
    size = 12
    targets = np.zeros(size, dtype=np.int64)
    predictions = np.full((size, size, 2), (0.4, 0.6))
    predictions[np.arange(size), np.arange(size)] = (1.0, 0.0)
    methods = {"best": single_best(ACCURACY, np.arange(size))}
    held_out = cross_fitted(methods, Pool(predictions, targets), folds_of(size, size, 0))["best"]
    assert ACCURACY(held_out, targets) == 0.0


def test_cross_fitting_predicts_every_example_once_with_each_method() -> None:
    methods = {"greedy": greedy(LOSS, Greedy(picks=5), FIVE, FREE), "weighted": weighted(LOSS, 3, FIVE, FREE)}
    held_out = cross_fitted(methods, pool(50), folds_of(50, 5, 3))
    assert held_out.keys() == methods.keys()
    for predictions in held_out.values():
        assert predictions.sum(axis=1) == pytest.approx(np.ones(50))


def test_free_weights_look_better_on_what_they_were_chosen_on() -> None:
    """What cross-fitting is for: the gain in sight is one of hindsight where members are many and examples few."""

    def looks(seed: int) -> tuple[float, float]:
        members = Pool(*noisy(np.full(40, 0.5), 40, seed=seed))
        method = weighted(LOSS, 40, np.arange(40), Budget.free(40))
        honest = cross_fitted({"": method}, members, folds_of(40, 5, 0))[""]
        return LOSS(combine(method(members), members.predictions), members.targets), LOSS(honest, members.targets)

    for seed in range(3):
        seen, honest = looks(seed)
        assert seen < honest
