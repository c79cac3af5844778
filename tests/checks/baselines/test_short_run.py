"""The statistics that tell learning from chance."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from search.checks.baselines.sampled import sample, spread, too_few
from search.checks.baselines.short_run import association, short_run, standard_errors, trained
from search.checks.bench import Bench
from search.keyed import keyed_int
from search.train.data.arrays import Examples
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


def rare(number: int = 20_000) -> Bench:
    """A bench with 24 training and 8 validation examples of class 1."""
    generator = np.random.default_rng(0)
    targets = (generator.permutation(number) < number // 500).astype(np.int64)
    inputs = generator.normal(size=(number, 4)).astype(np.float32)
    made = Examples(name="rare", inputs=inputs, targets=targets, task="classification", classes=("no", "yes"))
    return dataclasses.replace(bench(), dataset=divided(made, 0), _memory={})


def test_a_sample_has_the_rare_examples_and_each_chunk_some() -> None:
    subject = rare()
    targets = subject.examples.targets
    validation = sample(subject, "validation", 2000)
    assert targets[validation].sum() == 8
    assert len(np.unique(validation)) == len(validation) <= 2008
    train = sample(subject, "train", 512, 16)
    order = spread(subject, subject.generator("order").permutation(train), 16)
    np.testing.assert_array_equal(np.sort(order), train)
    size = -(-len(order) // 16)
    assert all(targets[order[start : start + size]].sum() >= 1 for start in range(0, len(order), size))
    assert too_few(subject.examples, validation)


def test_samples_of_even_classes_are_drawn_as_ever() -> None:
    subject = bench()
    np.testing.assert_array_equal(sample(subject, "train", 100, 16), subject.sample("train", 100))
    order = subject.generator("order").permutation(subject.split.train)
    np.testing.assert_array_equal(spread(subject, order, 16), order)
    assert not too_few(subject.examples, subject.split.validation)


class Normed(nn.Module):
    """Cannot be copied once it was called: its weight is computed."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.head = nn.utils.weight_norm(nn.Linear(math.prod(in_shape), num_outputs))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(inputs.flatten(1))
        return outputs


def test_a_network_that_cannot_be_copied_has_a_short_run() -> None:
    whole = config({"_target_": f"{Normed.__module__}.Normed"})
    assert short_run(dataclasses.replace(bench(), config=whole, _memory={})).moves
