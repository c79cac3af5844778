"""Temperatures: found where they are known, worth something where predictions are too sure, no harm elsewhere."""

import numpy as np
import pytest

from search.post.calibration import (
    calibration,
    cross_tempered,
    expected_calibration_error,
    fitted_temperature,
    own_temperatures,
    tempered,
)
from search.train.data.split import folds_of
from search.train.metrics import Array, metrics_of

ACCURACY, LOSS = metrics_of("classification")["accuracy"], metrics_of("classification")["loss"]


def drawn(temperature: float, size: int, seed: int = 0) -> tuple[Array, Array]:
    """Return probabilities that need this temperature to be those that the targets were drawn from."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(size, 4))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (generator.random(size)[:, None] > true.cumsum(axis=1)).sum(axis=1).clip(max=3)
    return tempered(true, 1 / temperature), targets


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    probabilities, targets = drawn(temperature, 20_000)
    assert fitted_temperature(probabilities, targets) == pytest.approx(temperature, rel=0.03)


def test_it_has_the_least_log_loss_of_a_grid() -> None:
    probabilities, targets = drawn(2.0, 2000)
    found = LOSS(tempered(probabilities, fitted_temperature(probabilities, targets)), targets)
    grid = [LOSS(tempered(probabilities, t), targets) for t in np.geomspace(0.1, 10, 200)]
    assert found == pytest.approx(min(grid), abs=1e-4)


def test_tempered_probabilities_are_powers_in_the_same_order() -> None:
    probabilities, _ = drawn(1.0, 500)
    for temperature in (0.1, 0.7, 5.0):
        found = tempered(probabilities, temperature)
        powers = probabilities ** (1 / temperature)
        np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-6, atol=1e-12)
        assert (found.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert tempered(probabilities, 1.0) is probabilities


def test_a_class_that_was_ruled_out_stays_finite() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    targets = np.array([0, 1, 1])
    temperature = fitted_temperature(certain, targets)
    assert np.isfinite(LOSS(tempered(certain, temperature), targets))
    assert tempered(certain, temperature).sum(axis=1) == pytest.approx(np.ones(3))


def test_a_few_examples_that_are_all_right_do_not_ask_for_certainty() -> None:
    few, many = (np.tile([[0.8, 0.2]], (size, 1)) for size in (5, 5000))
    temperatures = [fitted_temperature(some, np.zeros(len(some), dtype=int)) for some in (few, many)]
    assert temperatures[0] > 0.5
    assert temperatures[1] < 0.2


def test_cross_fitted_temperatures_help_where_predictions_are_too_sure() -> None:
    probabilities, targets = drawn(3.0, 1000)
    after = cross_tempered(probabilities, targets, folds_of(1000, 5, 0))
    told = calibration(probabilities, after, targets)
    assert told.error < 0.5 * told.error_before
    assert told.loss < told.loss_before
    assert ACCURACY(after, targets) == ACCURACY(probabilities, targets)


def test_no_example_has_a_part_in_its_own_temperature() -> None:
    probabilities, targets = drawn(2.0, 20)
    folds = folds_of(20, 5, 0)
    after = cross_tempered(probabilities, targets, folds)
    targets[folds[2]] = (targets[folds[2]] + 1) % 4
    np.testing.assert_array_equal(cross_tempered(probabilities, targets, folds)[folds[2]], after[folds[2]])


def test_the_error_is_the_gap_of_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    targets = np.array([0] * 7 + [1] * 3 + [1] * 5 + [0] * 5)
    assert expected_calibration_error(probabilities, targets) == pytest.approx((0.2 + 0.1) / 2)
    assert expected_calibration_error(np.eye(2)[targets], targets) == 0


def test_members_temperatures_are_those_of_each_alone_and_without_each_fold() -> None:
    members = [drawn(t, 200, seed=3) for t in (0.5, 2.0)]
    predictions, targets = np.stack([p for p, _ in members]), members[0][1]
    folds = folds_of(200, 4, 0)
    found = own_temperatures(predictions, targets, folds)
    for row, kept in zip(found, [np.ones(200, dtype=bool), *(~fold for fold in folds)], strict=True):
        alone = [fitted_temperature(p[kept], targets[kept]) for p in predictions]
        assert row == pytest.approx(alone, rel=1e-5)


def test_predictions_that_prefer_no_class_stay_as_they_are() -> None:
    assert fitted_temperature(np.full((6, 3), 1 / 3), np.array([0, 1, 2, 0, 1, 2])) == 1.0
