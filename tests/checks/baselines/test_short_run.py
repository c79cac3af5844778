"""The statistics that tell learning from chance."""

import numpy as np
import pytest
import torch

from search.checks.baselines.short_run import association, short_run, standard_errors, trained
from search.checks.bench import Bench
from search.keyed import keyed_int
from tests.kits.zoo import PREFLIGHT_SETTINGS, config, digits, divided


def bench() -> Bench:
    return Bench(
        dataset=divided(digits(0), 0),
        config=config(),
        settings={**PREFLIGHT_SETTINGS, "steps": 20},
        device=torch.device("cpu"),
        seed=keyed_int(0, "zoo"),
    )


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_association_by_chance_is_a_standard_normal(task: str) -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(400):
        if task == "classification":
            predictions = generator.dirichlet(np.ones(3), 60)
            found.append(association(predictions, generator.choice(3, 60, p=[0.8, 0.1, 0.1]), task))
        else:
            found.append(association(generator.normal(size=60), generator.exponential(size=60), task))
    assert abs(np.mean(found)) < 4 / np.sqrt(400)
    assert abs(np.std(found) - 1) < 4 / np.sqrt(2 * 400)


def test_association_counts_what_fits_and_not_the_shares_of_classes() -> None:
    targets = np.array([0] * 50 + [1] * 10)
    assert association(np.tile([0.83, 0.17], (60, 1)), targets, "classification") == 0
    assert association(np.eye(2)[targets], targets, "classification") == pytest.approx(np.sqrt(59))
    assert association(-targets.astype(float), targets.astype(float), "regression") == pytest.approx(-np.sqrt(59))


def test_standard_errors_of_too_few_or_equal_values() -> None:
    assert standard_errors(np.array([1.0, 2.0])) == 0
    assert standard_errors(np.zeros(5)) == 0
    assert standard_errors(np.ones(5)) == np.inf


def test_the_short_run_is_made_once_and_is_the_same_each_time() -> None:
    subject = bench()
    run = short_run(subject)
    assert short_run(subject) is run
    again = trained(bench())
    np.testing.assert_array_equal(run.losses, again.losses)
    np.testing.assert_array_equal(run.predictions, again.predictions)
    assert len(run.losses) == 20
    assert run.moves


def test_a_run_without_a_learning_rate_stands_still() -> None:
    run = trained(bench(), rate=0.0)
    np.testing.assert_array_equal(run.before, run.after)
    assert not run.moves
