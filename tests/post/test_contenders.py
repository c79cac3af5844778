"""Who competes: single trials, ensembles of trials and of what was made of them, calibrated and judged."""

import dataclasses

import numpy as np
import pytest

from search.post.calibration import fitted_temperature, tempered
from search.post.contenders import (
    GREEDY,
    SNAPSHOTS,
    Candidate,
    Selection,
    calibrated,
    champion_of,
    judged,
    rematched,
    select,
)
from search.post.costs import Cost, Limits
from search.train.data.split import folds_of
from search.train.metrics import Array, Metric, metrics_of
from tests.kits.pools import noisy

ACCURACY, LOSS = metrics_of("classification")["accuracy"], metrics_of("classification")["loss"]
RMSE = metrics_of("regression")["rmse"]
SELECTION = Selection(objective=ACCURACY, by=LOSS, top_k=3, picks=10, folds=5, seed=0)


def named(candidates: list[Candidate]) -> dict[str, Candidate]:
    return {candidate.name: candidate for candidate in candidates}


def test_without_snapshots_there_are_four() -> None:
    candidates = select(["a", "b"], *noisy([1.0, 2.0]), SELECTION)
    assert [c.name for c in candidates] == ["single best", "uniform top 2", "weighted top 2", GREEDY]
    assert candidates[0].weights == {"b": 1.0}


def test_only_a_trial_itself_is_a_single_best() -> None:
    owners: dict[str, str | None] = {"b/snapshots/0": "b", "averages/soup": None}
    members = ["a", "b", *owners]
    found = named(select(members, *noisy([1.0, 2.0, 3.0, 3.0]), SELECTION, owners))
    assert found["single best"].weights == {"b": 1.0}
    assert found["uniform top 3"].weights == pytest.approx(dict.fromkeys(members[1:], 1 / 3))
    assert found[GREEDY].weights.keys() >= owners.keys()
    assert SNAPSHOTS not in found, "one alone is no ensemble"


def test_the_snapshots_of_the_best_trial_that_has_two_are_an_ensemble() -> None:
    owners = {f"{t}/snapshots/{i}": t for t, i in ("a0", "a1", "b0", "b1", "c0")}
    members = ["a", "b", "c", *owners, "rematch/c/0", "rematch/c/1"]
    predictions, targets = noisy([1.0, 2.0, 3.0, 1.5, 1.5, 1.5, 2.5, 1.5, 3.0, 3.0])
    candidates = select(members, predictions, targets, SELECTION, {**owners, "rematch/c/0": "c", "rematch/c/1": "c"})
    assert candidates[-1].name == GREEDY, "the teacher of students"
    found = named(candidates)[SNAPSHOTS]
    assert found.weights == {"b/snapshots/0": 0.5, "b/snapshots/1": 0.5}
    assert found.validation is not None
    assert ACCURACY(found.validation, targets) > 0.7


@pytest.mark.parametrize("members", [["a", "b", "a/snapshots/0"], ["a/snapshots/0", "b", "a"]])
def test_a_snapshot_that_equals_its_trial_counts_once(members: list[str]) -> None:
    predictions, targets = noisy([2.0, 1.0, 2.0])
    predictions[2] = predictions[0]
    found = named(select(members, predictions, targets, SELECTION, {"a/snapshots/0": "a"}))
    assert found["uniform top 2"].weights == {"a": 0.5, "b": 0.5}
    assert "a/snapshots/0" not in found[GREEDY].weights


def test_two_trials_that_are_equal_count_once_too() -> None:
    predictions, targets = noisy([2.0, 1.0, 2.0])
    predictions[2] = predictions[0]
    found = named(select(["a", "b", "c"], predictions, targets, SELECTION))
    assert found["uniform top 2"].weights == {"a": 0.5, "b": 0.5}


def test_ensembles_keep_to_the_limits() -> None:
    members = list("abcdef")
    costs = {member: Cost(parameters=100, milliseconds=1.0) for member in members}
    limited = dataclasses.replace(SELECTION, limits=Limits(parameters=250))
    for candidate in select(members, *noisy([1.0] * 6, 60), limited, costs=costs):
        assert len(candidate.weights) <= 2, candidate.name


def test_probabilities_are_calibrated_without_a_change_of_classes() -> None:
    predictions, targets = noisy([1.0, 2.0, 1.5])
    plain = named(select(["a", "b", "c"], predictions, targets, dataclasses.replace(SELECTION, calibrate=False)))
    for name, candidate in named(select(["a", "b", "c"], predictions, targets, SELECTION)).items():
        before, after = plain[name].validation, candidate.validation
        assert before is not None
        assert after is not None
        assert (plain[name].temperature, plain[name].calibration) == (1.0, None)
        assert plain[name].temperatures == {}
        assert candidate.calibration is not None
        assert candidate.calibration.loss == LOSS(after, targets) < LOSS(before, targets), "the noise makes them sure"
        assert candidate.calibration.loss <= candidate.calibration.loss_before
        each = dict(zip("abc", predictions, strict=True))
        powers = candidate.mean(each) ** (1 / candidate.temperature)
        assert candidate.predict(each) == pytest.approx(powers / powers.sum(axis=1, keepdims=True))


def test_what_was_trained_on_the_validation_split_or_has_values_has_no_temperature() -> None:
    refit = Candidate(name="refit", weights={"a": 1.0}, validation=None)
    assert calibrated(refit, np.zeros(5, dtype=int), SELECTION) is refit
    values = Candidate(name="x", weights={"a": 1.0}, validation=np.arange(5.0))
    assert calibrated(values, np.arange(5.0), SELECTION) is values


def test_the_judgement_has_gains_over_the_single_best_and_calibration() -> None:
    predictions, targets = noisy([1.0, 2.0, 1.5], 600)
    validation, test = slice(0, 300), slice(300, 600)
    candidates = select(["a", "b", "c"], predictions[:, validation], targets[validation], SELECTION)
    candidates.append(Candidate(name="refit", weights={"a": 1.0}, validation=None))
    opened = dict(zip("abc", predictions[:, test], strict=True))
    found = judged(candidates, ACCURACY, targets[validation], opened, targets[test])
    assert [c.name for c in found] == [c.name for c in candidates]
    best, *others = found
    assert best.gain is None
    for other, candidate in zip(others, candidates[1:], strict=True):
        assert other.gain is not None
        assert other.gain.value == pytest.approx(other.test.value - best.test.value)
        assert other.gain.low <= other.gain.value <= other.gain.high
        assert other.temperature == candidate.temperature
        assert other.calibration["test"].loss == LOSS(candidate.predict(opened), targets[test])
    assert found[0].calibration.keys() == {"validation", "test"}
    assert found[-1].calibration.keys() == {"test"}
    assert found[-1].validation is None


def test_values_are_judged_without_calibration() -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(size=60)
    predictions = targets + generator.normal(size=(3, 60))
    selection = dataclasses.replace(SELECTION, objective=RMSE, by=RMSE)
    candidates = select(["a", "b", "c"], predictions, targets, selection)
    found = judged(candidates, RMSE, targets, dict(zip("abc", predictions, strict=True)), targets)
    assert [contender.calibration for contender in found] == [{}] * 4
    assert champion_of(candidates, targets, RMSE).name != "single best"


def test_a_member_that_is_unsure_of_everything_is_heard() -> None:
    """As one that was trained with smoothed labels: it weighs what it would if it were as sure as it is right."""
    predictions, targets = noisy([1.0, 1.0, 1.0], 400)
    unsure = predictions.copy()
    unsure[0] = tempered(predictions[0], 5.0)
    sure, found = (named(select(["a", "b", "c"], given, targets, SELECTION)) for given in (predictions, unsure))
    for name in ("uniform top 3", "weighted top 3", GREEDY):
        assert found[name].weights == pytest.approx(sure[name].weights, abs=0.1)
        assert found[name].temperatures["a"] == pytest.approx(sure[name].temperatures["a"] / 5, rel=0.05)


def test_the_single_best_is_the_best_as_it_is_and_tempered_once() -> None:
    """The trial that the report names: a temperature of its own would put another in front by its loss."""
    predictions, targets = noisy([2.0, 1.6], 400)
    predictions[0] = tempered(predictions[0], 0.05)
    by_loss = dataclasses.replace(SELECTION, objective=LOSS)
    best = named(select(["a", "b"], predictions, targets, by_loss))["single best"]
    assert (best.weights, best.temperatures) == ({"b": 1.0}, {})
    assert best.temperature == pytest.approx(fitted_temperature(predictions[1], targets))


def test_no_example_has_a_part_in_the_predictions_it_is_judged_by() -> None:
    """But for one number, the temperature, fitted on other folds whose ensembles its fold helped to choose."""
    predictions, targets = noisy([1.0, 2.0, 1.5], 200)
    held_out = folds_of(200, SELECTION.folds, SELECTION.seed)[2]
    other = targets.copy()
    other[np.flatnonzero(held_out)[:5]] = 0
    assert (other != targets).any()
    for one, two in zip(*(select(["a", "b", "c"], predictions, t, SELECTION) for t in (targets, other)), strict=True):
        sure = [np.log(c.validation[held_out]) for c in (one, two) if c.validation is not None]
        gaps = [logs[:, 0] - logs[:, 1] for logs in sure]
        np.testing.assert_allclose(gaps[0] / gaps[1], gaps[0][0] / gaps[1][0], rtol=1e-4)


def test_a_temperature_that_does_not_pay_on_other_examples_is_left_out() -> None:
    """A few examples, two of them wrong: how sure to be is nothing that they can say."""
    predictions = np.tile([0.9, 0.1], (20, 1))
    targets = np.zeros(20, dtype=int)
    targets[[3, 11]] = 1
    found = calibrated(Candidate(name="x", weights={"a": 1.0}, validation=predictions), targets, SELECTION)
    assert found.temperature == 1.0
    np.testing.assert_array_equal(found.validation, predictions)


def alone(member: str, predictions: Array, targets: Array, selection: Selection = SELECTION) -> Candidate:
    return calibrated(Candidate(name=member, weights={member: 1.0}, validation=predictions), targets, selection)


@pytest.mark.parametrize("metric", [ACCURACY, LOSS], ids=["accuracy", "loss"])
def test_rematches_count_each_for_itself_at_its_own_temperature(metric: Metric) -> None:
    predictions, targets = noisy([1.0, 0.5, 1.5, 1.0], 400)
    each = dict(zip("abcd", predictions, strict=True))
    single, *again = (alone(name, given, targets) for name, given in each.items())
    found = rematched(again, single, metric, targets, each, targets)
    values = [metric(c.predict(each), targets) for c in again]
    assert found.test.value == pytest.approx(np.mean(values))
    assert found.validation is not None
    assert found.validation.value == pytest.approx(np.mean([metric(c.validation, targets) for c in again]))  # type: ignore[arg-type]
    assert found.gain is not None
    sign = 1 if metric.maximize else -1
    worth = metric(single.predict(each), targets)
    assert found.gain.value == pytest.approx(sign * (np.mean(values) - worth))
    assert found.test.low < found.test.value < found.test.high
    assert found.gain.low < found.gain.value < found.gain.high


def test_trainings_that_differ_leave_their_mean_open_however_many_the_examples() -> None:
    predictions, targets = noisy([1.0, 0.2, 2.0], 20_000)
    each = dict(zip("abc", predictions, strict=True))
    single, *again = (alone(name, given, targets) for name, given in each.items())
    found = rematched(again, single, ACCURACY, targets, each, targets)
    apart = abs(ACCURACY(each["b"], targets) - ACCURACY(each["c"], targets))
    assert found.test.high - found.test.low > 0.9 * apart


@pytest.mark.parametrize("size", [1, 2, 3])
def test_as_few_examples_as_there_may_be_are_enough_to_choose_by(size: int) -> None:
    predictions, targets = noisy([1.0, 2.0], size)
    for candidate in select(["a", "b"], predictions, targets, SELECTION):
        assert candidate.validation is not None
        assert np.isfinite(candidate.validation).all()
