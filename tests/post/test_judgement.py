"""The judgement on test: paired gains against scipy's bootstrap, and where the champion is wrong."""

import numpy as np
import pytest
from scipy import stats

from search.post.judgement import mistakes_of, paired_gains
from search.train.metrics import Array, Metric, metrics_of
from tests.kits.pools import noisy

ACCURACY, LOSS = metrics_of("classification")["accuracy"], metrics_of("classification")["loss"]
RMSE, R2 = metrics_of("regression")["rmse"], metrics_of("regression")["r2"]


@pytest.mark.parametrize("metric", [ACCURACY, LOSS], ids=["accuracy", "loss"])
def test_the_interval_is_the_paired_bootstraps(metric: Metric) -> None:
    (one, other, _), targets = noisy([1.0, 1.3, 2.0], 300)
    (gain,) = paired_gains(metric, [other], one, targets)
    sign = 1 if metric.maximize else -1
    differences = sign * (metric.score(other, targets) - metric.score(one, targets))
    expected = stats.bootstrap(
        (differences,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = expected.high - expected.low
    assert gain.value == pytest.approx(differences.mean())
    assert gain.low == pytest.approx(expected.low, abs=0.1 * width)
    assert gain.high == pytest.approx(expected.high, abs=0.1 * width)


def test_pairs_tell_what_two_intervals_would_not() -> None:
    """One is right wherever the other is, and on a few more: each alone may be 5 points off, the gain is one."""
    targets = np.zeros(400, dtype=int)
    right = np.arange(400) < 300
    one = np.where(right[:, None], (0.9, 0.1), (0.1, 0.9))
    better = one.copy()
    better[300:312] = (0.9, 0.1)
    (gain,) = paired_gains(ACCURACY, [better], one, targets)
    assert gain.low > 0
    assert ACCURACY.interval(one, targets)[1] > ACCURACY.interval(better, targets)[0]


@pytest.mark.parametrize("metric", [RMSE, R2], ids=["rmse", "r2"])
def test_a_gain_is_positive_where_it_is_better(metric: Metric) -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(size=200)
    noise = generator.normal(size=200)
    better, worse = paired_gains(metric, [targets + 0.1 * noise, targets + 2 * noise], targets + noise, targets)
    assert 0 < better.low < better.value < better.high
    assert worse.low < worse.value < worse.high < 0
    assert paired_gains(metric, [], targets + noise, targets) == []


def one_hot(named: list[int], sure: list[float]) -> Array:
    predictions = np.repeat((1 - np.array(sure))[:, None] / 2, 3, axis=1)
    predictions[np.arange(len(named)), named] = sure
    return predictions


def test_the_surest_mistakes_come_first_by_their_place_in_the_data() -> None:
    predictions = one_hot([0, 1, 2, 1, 0], [0.9, 0.6, 0.99, 0.8, 0.7])
    found = mistakes_of(predictions, np.array([0, 0, 1, 1, 2]), np.array([10, 11, 12, 13, 14]), ("a", "b", "c"))
    assert [(m.index, m.true, m.predicted) for m in found.worst] == [(12, "b", "c"), (14, "c", "a"), (11, "a", "b")]
    assert found.worst[0].probability == pytest.approx(0.99)
    assert found.confusion == ((1, 1, 0), (0, 1, 1), (1, 0, 0))
    assert (found.wrong, found.classes) == (3, ("a", "b", "c"))


def test_at_most_ten_are_kept_and_of_many_classes_no_matrix() -> None:
    classes = tuple(map(str, range(200)))
    found = mistakes_of(np.eye(200)[:50], np.arange(50) + 100, np.arange(50), classes)
    assert (len(found.worst), found.wrong, found.confusion) == (10, 50, None)


def test_the_largest_errors_of_values_come_first() -> None:
    found = mistakes_of(np.array([1.0, 5.0, -9.0]), np.array([1.5, 1.0, 1.0]), np.array([7, 8, 9]), ())
    assert [(m.index, m.true, m.predicted, m.probability) for m in found.worst] == [
        (9, 1.0, -9.0, None),
        (8, 1.0, 5.0, None),
        (7, 1.5, 1.0, None),
    ]
    assert (found.wrong, found.confusion) == (None, None)
