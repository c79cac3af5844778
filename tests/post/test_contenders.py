"""Who competes: single trials, ensembles of trials and their snapshots."""

import numpy as np
import pytest

from search.post.contenders import GREEDY, SNAPSHOTS, Candidate, Selection, select
from search.train.metrics import Array, metrics_of

ACCURACY, LOSS = metrics_of("classification")["accuracy"], metrics_of("classification")["loss"]
SELECTION = Selection(objective=ACCURACY, by=LOSS, top_k=3, picks=10, folds=5, seed=0)


def noisy(qualities: list[float], num_examples: int = 300, classes: int = 3) -> tuple[Array, Array]:
    """Return probabilities of members that lean to the truth as far as their quality says."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, classes, num_examples)
    logits = generator.normal(size=(len(qualities), num_examples, classes))
    logits[:, np.arange(num_examples), targets] += np.array(qualities)[:, None]
    odds = np.exp(logits)
    return odds / odds.sum(axis=2, keepdims=True), targets


def named(candidates: list[Candidate]) -> dict[str, Candidate]:
    return {candidate.name: candidate for candidate in candidates}


def test_without_snapshots_there_are_three() -> None:
    candidates = select(["a", "b"], *noisy([1.0, 2.0]), SELECTION)
    assert [c.name for c in candidates] == ["single best", "uniform top 2", GREEDY]
    assert candidates[0].weights == {"b": 1.0}


def test_a_snapshot_is_a_member_of_ensembles_and_no_single_best() -> None:
    members, owners = ["a", "b", "b/0"], {"b/0": "b"}
    found = named(select(members, *noisy([1.0, 2.0, 3.0]), SELECTION, owners))
    assert found["single best"].weights == {"b": 1.0}
    assert found["uniform top 3"].weights == pytest.approx(dict.fromkeys(members, 1 / 3))
    assert "b/0" in found[GREEDY].weights
    assert SNAPSHOTS not in found, "one alone is no ensemble"


def test_the_snapshots_of_the_best_trial_that_has_two_are_an_ensemble() -> None:
    members = ["a", "b", "c", "a/0", "a/1", "b/0", "b/1", "c/0"]
    predictions, targets = noisy([1.0, 2.0, 3.0, 1.5, 1.5, 1.5, 2.5, 1.5])
    owners = {member: member[0] for member in members[3:]}
    candidates = select(members, predictions, targets, SELECTION, owners)
    assert candidates[-1].name == GREEDY, "the teacher of students"
    found = named(candidates)[SNAPSHOTS]
    assert found.weights == {"b/0": 0.5, "b/1": 0.5}
    assert found.validation is not None
    assert ACCURACY(found.validation, targets) > 0.7


def test_a_snapshot_that_equals_its_trial_counts_once() -> None:
    predictions, targets = noisy([2.0, 1.0, 2.0])
    predictions[2] = predictions[0]
    found = named(select(["a", "b", "a/0"], predictions, targets, SELECTION, {"a/0": "a"}))
    assert found["uniform top 2"].weights == {"a": 0.5, "b": 0.5}
    assert "a/0" not in found[GREEDY].weights
