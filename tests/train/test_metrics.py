import math
from typing import Any

import numpy as np
import pytest

from search.errors import UsageError
from search.train.metrics import Metric, metrics_of, objective

CLASSES = metrics_of("classification")
NUMBERS = metrics_of("regression")

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8], [0.5, 0.25, 0.25]], dtype=np.float32)
LABELS = np.array([0, 1, 0, 0])
VALUES = np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32)
TARGETS = np.array([1.0, 2.5, 2.0, 6.0], dtype=np.float32)


@pytest.mark.parametrize(
    ("metric", "predictions", "targets", "expected"),
    [
        (CLASSES["accuracy"], PROBABILITIES, LABELS, 0.75),
        (CLASSES["loss"], PROBABILITIES, LABELS, -math.log(0.7 * 0.4 * 0.1 * 0.5) / 4),
        (NUMBERS["loss"], VALUES, TARGETS, (0.25 + 1 + 4) / 4),
        (NUMBERS["rmse"], VALUES, TARGETS, math.sqrt((0.25 + 1 + 4) / 4)),
        (NUMBERS["mae"], VALUES, TARGETS, (0.5 + 1 + 2) / 4),
        (NUMBERS["r2"], VALUES, TARGETS, 1 - (0.25 + 1 + 4) / 4 / float(np.var(TARGETS))),
    ],
    ids=["accuracy", "log loss", "squared error", "rmse", "mae", "r2"],
)
def test_a_figure_is_what_its_definition_says(metric: Metric, predictions: Any, targets: Any, expected: float) -> None:
    assert metric(predictions, targets) == pytest.approx(expected, rel=1e-6)
    assert metric.score(predictions, targets).shape == targets.shape
    assert metric.score(predictions, targets).dtype == np.float64


def test_an_impossible_class_costs_much_but_not_infinitely() -> None:
    assert CLASSES["loss"](np.array([[0.0, 1.0]]), np.array([0])) == pytest.approx(-math.log(1e-12))


def test_a_constant_target_has_a_finite_r2() -> None:
    assert math.isfinite(NUMBERS["r2"](VALUES, np.ones(4)))


@pytest.mark.parametrize("metric", [*CLASSES.values(), *NUMBERS.values()], ids=lambda m: f"{m.task} {m.name}")
def test_better_is_strict_and_follows_the_direction(metric: Metric) -> None:
    assert metric.better(2.0, 1.0) is metric.maximize
    assert metric.better(1.0, 2.0) is not metric.maximize
    assert not metric.better(1.0, 1.0)
    assert not metric.better(math.nan, 1.0)


@pytest.mark.parametrize(
    ("name", "mode", "task", "expected", "maximize"),
    [
        (None, None, "classification", "accuracy", True),
        (None, None, "regression", "rmse", False),
        ("loss", None, "classification", "loss", False),
        ("loss", "min", "regression", "loss", False),
        ("r2", "max", "regression", "r2", True),
    ],
)
def test_the_objective_follows_name_and_task(
    name: str | None, mode: str | None, task: str, expected: str, maximize: bool
) -> None:
    metric = objective(name, mode, task)
    assert (metric.name, metric.task, metric.maximize) == (expected, task, maximize)


@pytest.mark.parametrize(
    ("name", "mode", "task", "key", "allowed"),
    [
        ("rmse", None, "classification", "metric.name=rmse", "accuracy, loss"),
        ("accuracy", None, "regression", "metric.name=accuracy", "loss, rmse, mae, r2"),
        ("accuracy", "min", "classification", "metric.mode=min", "set max"),
        (None, "max", "regression", "metric.mode=max", "set min"),
    ],
)
def test_an_objective_that_does_not_fit_is_refused(
    name: str | None, mode: str | None, task: str, key: str, allowed: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        objective(name, mode, task)
    assert key in str(refusal.value)
    assert allowed in str(refusal.value)


@pytest.mark.parametrize(
    ("correct", "size", "low", "high"),
    [
        (81, 100, 0.7222, 0.8749),  # Wilson's score interval at z = 1.96, worked out by hand
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_the_interval_of_a_share_is_wilsons(correct: int, size: int, low: float, high: float) -> None:
    predictions = np.eye(2)[[0] * correct + [1] * (size - correct)]
    assert CLASSES["accuracy"].interval(predictions, np.zeros(size, dtype=int)) == pytest.approx((low, high), abs=1e-4)


EXACT = np.arange(20.0)
OFF_BY_ONE = EXACT + np.tile([1.0, -1.0], 10)
CERTAIN = np.eye(4)[np.arange(20) % 4]


@pytest.mark.parametrize("name", ["loss", "rmse", "mae"])
@pytest.mark.parametrize("predictions", [EXACT, OFF_BY_ONE], ids=["exact", "off by one"])
def test_errors_of_0_and_1_are_no_shares(name: str, predictions: Any) -> None:
    metric = NUMBERS[name]
    # every example has the same error, so every resample has the same figure
    assert metric.interval(predictions, EXACT) == pytest.approx((metric(predictions, EXACT),) * 2)


def test_the_variance_in_r2_is_resampled_with_the_errors() -> None:
    assert NUMBERS["r2"].interval(EXACT, EXACT) == (1.0, 1.0)
    low, high = NUMBERS["r2"].interval(OFF_BY_ONE, EXACT)
    assert low < NUMBERS["r2"](OFF_BY_ONE, EXACT) < high


def test_a_refusal_names_the_key_that_was_set() -> None:
    with pytest.raises(UsageError, match=r"^squeeze\.metric=r2: does not fit classification; allowed: accuracy, loss"):
        objective("r2", None, "classification", key="squeeze.metric")


def test_a_loss_of_0_is_no_share() -> None:
    assert CLASSES["loss"].interval(CERTAIN, np.arange(20) % 4) == (0.0, 0.0)


def noisy(size: int, seed: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    targets = generator.normal(0, 3, size)
    return targets + generator.normal(0, 1, size), targets


@pytest.mark.parametrize("name", ["loss", "rmse", "mae", "r2"])
def test_a_bootstrap_interval_holds_its_figure_and_shrinks_with_the_root_of_the_size(name: str) -> None:
    metric, widths = NUMBERS[name], []
    predictions, targets = noisy(100, seed=1)
    for copies in (1, 16):
        many = np.tile(predictions, copies), np.tile(targets, copies)
        low, high = metric.interval(*many, num_resamples=500)
        assert low < metric(*many) < high
        widths.append(high - low)
    # sixteen times the same examples: a quarter of the width. Among 500 resamples a quantile at 2.5 % has a standard
    # error of 0.12 standard deviations: 6 % of the ratio; four of them
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.24)


def test_a_bootstrap_interval_is_that_of_95_percent() -> None:
    predictions, targets = noisy(2000, seed=3)
    errors = np.abs(predictions - targets)
    low, high = NUMBERS["mae"].interval(predictions, targets)
    # two quantiles of 2,000 resamples have a standard error of 2 % of their distance together; five of them
    assert (high - low) / (2 * 1.96 * errors.std() / math.sqrt(2000)) == pytest.approx(1, rel=0.1)


def test_a_bootstrap_interval_is_the_same_for_the_same_seed() -> None:
    predictions, targets = noisy(50, seed=2)
    one, again, other = (NUMBERS["mae"].interval(predictions, targets, seed=s, num_resamples=200) for s in (0, 0, 1))
    assert one == again
    assert one != other
