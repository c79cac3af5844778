"""The planted faults can be made and trained, and their healthy twins learn."""

import itertools
import math

import numpy as np
import pytest
import torch

from search.train import loop, steps
from search.train.metrics import metrics_of
from search.train.setup import Setup, setup_of
from tests.kits.zoo import MOST_EXAMPLES, Case
from tests.zoo.blind import FAULTS, HEALTHY

ROWS = {f"R{number:02}" for number in range(1, 24)}


def _setup(case: Case) -> Setup:
    dataset = case.dataset(0)
    assert len(dataset.examples) <= MOST_EXAMPLES
    return setup_of(case.config, dataset, torch.device("cpu"), seed=0)


def _losses(setup: Setup, number: int) -> list[float]:
    """Take so many steps as training does; return the mean loss of each."""
    found: list[float] = []
    setup.model.train()
    for epoch in itertools.count(1):
        order = steps.epoch_order(setup.dataset.split.train, setup.seed, epoch, setup.plan.batch_size)
        for batch in setup.batches(order, setup.plan.batch_size):
            if len(found) == number:
                return found
            total = steps.train_step(setup.model, setup.optimizer, setup.loss, batch)
            found.append(float(total) / len(batch[1]))
    raise AssertionError


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_fault_can_be_trained(case: Case) -> None:
    with case.planted():
        (loss,) = _losses(_setup(case), 1)
    # An infinite input is the one fault that ends a training at its first step.
    assert math.isfinite(loss) or case.name == "the logarithm of 0"


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_twin_learns(case: Case) -> None:
    setup = _setup(case)
    examples, validation = setup.dataset.examples, setup.dataset.split.validation
    targets = examples.targets[validation]
    metric = metrics_of(examples.task)["accuracy" if examples.classes else "r2"]
    # Of what majority class or mean leave undone, at least a quarter: more than luck with 36 examples or more.
    dumb = float(np.bincount(targets).max() / len(targets)) if examples.classes else 0.0
    for _ in range(5):
        _losses(setup, 20)
        predictions = loop.predict(setup.model, setup.batches, validation, examples.task)
        if metric(predictions, targets) > dumb + 0.25 * (1 - dumb):
            return
    pytest.fail(f"{metric(predictions, targets):.3f} after 100 steps, where {dumb:.3f} is for nothing")


def test_cases_belong_together() -> None:
    names = [case.name for case in (*FAULTS, *HEALTHY)]
    assert len(set(names)) == len(names)
    assert {case.twin for case in FAULTS} == {case.name for case in HEALTHY}
    assert not any(case.rows for case in HEALTHY)
    assert {row for case in FAULTS for row in case.rows} - {"R36"} == ROWS - {"R15"}
