"""Planted faults are named, healthy trainings are left alone: through the loop itself."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from search.train.diagnostics.diagnosis import TAGS
from tests.kits.courses import FAULTS, HEALTHY, ran

FEW, MANY = range(2), range(20)
LEAST, MOST = 18, 1
"""Of 20: how often a fault has to be named, and how often a healthy training may be said to have one."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As a worker trains; networks as small as these are slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def named(name: str, seeds: range) -> Counter[bool]:
    tag, case = FAULTS[name]
    return Counter(tag in {diagnosis.tag for diagnosis in ran(case, seed)[0]} for seed in seeds)


def blamed(name: str, seeds: range) -> list[str]:
    """Return what is said of the trainings that went well."""
    least, draw = HEALTHY[name]
    found = []
    for seed in seeds:
        diagnoses, score = ran(draw(np.random.default_rng(seed)), seed)
        if score >= least:
            found += ["; ".join(diagnosis.tag for diagnosis in diagnoses)]
    assert len(found) >= 0.7 * len(seeds), "too few of them are healthy to say anything"
    return [tags for tags in found if tags]


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(name: str) -> None:
    assert named(name, FEW)[True] == len(FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_whatever_the_seed(name: str) -> None:
    assert named(name, MANY)[True] >= LEAST


@pytest.mark.parametrize("name", ["digits mlp", "diabetes", "iris", "digits, stopped"])
def test_nothing_ails_a_healthy_training(name: str) -> None:
    assert blamed(name, FEW) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_ails_a_healthy_training_whatever_was_drawn(name: str) -> None:
    assert len(blamed(name, MANY)) <= MOST


def test_every_tag_has_a_planted_fault() -> None:
    assert {tag for tag, _ in FAULTS.values()} >= set(TAGS) - {"not finite"}
