"""How different members are, and what each is worth to the whole."""

import itertools

import numpy as np
import pytest

from search.post.anatomy import anatomy, correlation_of_errors, disagreement
from search.post.contenders import Candidate
from search.train.metrics import metrics_of
from tests.kits.pools import noisy

LOSS, ACCURACY = metrics_of("classification")["loss"], metrics_of("classification")["accuracy"]
RMSE = metrics_of("regression")["rmse"]


def test_disagreement_is_the_mean_over_pairs() -> None:
    predictions, _ = noisy([0.0, 1.0, 2.0, 0.5], 200)
    named = predictions.argmax(axis=2)
    expected = np.mean([(a != b).mean() for a, b in itertools.combinations(named, 2)])
    assert disagreement(predictions) == pytest.approx(expected)
    assert disagreement(predictions[[1, 1]]) == pytest.approx(0)


def test_errors_of_values_are_correlated_over_pairs() -> None:
    generator = np.random.default_rng(0)
    targets, common = generator.normal(size=(2, 5000))
    together = targets + common + generator.normal(size=(3, 5000))
    found = correlation_of_errors(together, targets)
    assert found == pytest.approx(0.5, abs=0.05)
    assert correlation_of_errors(np.stack([targets, together[0]]), targets) is None


def test_a_contribution_is_what_the_others_lose() -> None:
    predictions, targets = noisy([2.0, 2.0, -1.0], 400)
    each = dict(zip("abc", predictions, strict=True))
    ensemble = Candidate(name="mine", weights={"a": 0.4, "b": 0.4, "c": 0.2}, validation=None)
    told = anatomy(ensemble, each, targets, LOSS)
    with_all = LOSS(0.4 * each["a"] + 0.4 * each["b"] + 0.2 * each["c"], targets)
    assert told.contributions["c"] == pytest.approx(LOSS((each["a"] + each["b"]) / 2, targets) - with_all)
    assert told.contributions["c"] < 0 < told.contributions["a"], "positive is what it helps"
    accuracy = anatomy(ensemble, each, targets, ACCURACY).contributions
    assert accuracy["c"] < accuracy["a"], "in the metric's own direction"


def test_values_have_contributions_and_one_member_alone_none() -> None:
    targets = np.arange(5.0)
    ones = np.array([1, -1, 1, -1, 1])
    each = {"a": targets + ones, "b": targets - ones}
    told = anatomy(Candidate(name="mine", weights={"a": 0.5, "b": 0.5}, validation=None), each, targets, RMSE)
    assert told.contributions == pytest.approx({"a": 1.0, "b": 1.0})
    assert told.correlation == pytest.approx(-1)
    alone = anatomy(Candidate(name="mine", weights={"a": 1.0}, validation=None), each, targets, RMSE)
    assert (alone.correlation, alone.contributions) == (None, {})
