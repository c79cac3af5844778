"""Planted faults are named, healthy trainings are left alone: through the loop itself."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from search.train.diagnostics.course import Course
from search.train.diagnostics.diagnosis import EXPLODING, TAGS, UNDERFITS, Diagnosis, diagnose
from search.train.diagnostics.table import FIGURES, LayerTable
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


@pytest.mark.parametrize("name", ["digits mlp", "diabetes linear", "iris", "digits, stopped"])
def test_nothing_ails_a_healthy_training(name: str) -> None:
    assert blamed(name, FEW) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_ails_a_healthy_training_whatever_was_drawn(name: str) -> None:
    assert len(blamed(name, MANY)) <= MOST


def test_every_tag_has_a_planted_fault() -> None:
    assert {tag for tag, _ in FAULTS.values()} >= set(TAGS) - {"not finite"}


def table_of(**figures: list[float]) -> LayerTable:
    """Return three layers with these figures in each row; no others are known."""
    values = np.full((len(next(iter(figures.values()))), 3, len(FIGURES)), np.nan, np.float32)
    for name, rows in figures.items():
        values[:, :, FIGURES.index(name)] = np.array(rows)[:, None]
    steps = np.arange(len(values))
    return LayerTable(steps=steps, rates=steps * 0.0, layers=("a", "b", "c"), kinds=("Linear",) * 3, values=values)


def said(
    table: LayerTable, train: list[float], validation: list[float], *, nothing: float | None = 1.0
) -> dict[str, Diagnosis]:
    course = Course(
        train=np.array(train),
        validation=np.array(validation),
        nothing_train=nothing,
        nothing_validation=1.0,
        num_validation=1000,
        classes=True,
        steps_per_epoch=10,
        ended=True,
    )
    return {diagnosis.tag: diagnosis for diagnosis in diagnose(table, course)}


@pytest.mark.parametrize(("gradient", "explodes"), [([np.nan, 1.0, 1.0], False), ([np.nan, 1e6, 1.0], True)])
def test_steps_that_float16_left_out_say_nothing_of_gradients(gradient: list[float], explodes: bool) -> None:
    table = table_of(gradient_norm=gradient, weight_norm=[1.0, 1.0, 1.0], update_ratio=[np.nan, 1e-3, 1e-3])
    assert (EXPLODING in said(table, [0.5, 0.2, 0.1], [0.5, 0.2, 0.1])) == explodes


def test_gradients_that_are_infinite_at_once_explode() -> None:
    table = table_of(gradient_norm=[np.inf], weight_norm=[1.0], update_ratio=[np.nan])
    assert EXPLODING in said(table, [], [])


def test_a_loss_without_a_measure_is_told_over_the_first_epochs() -> None:
    table = table_of(gradient_norm=[1.0, 1.0], weight_norm=[1.0, 1.0], update_ratio=[1e-2, 1e-2])
    found = said(table, [8.0, 7.2], [0.9, 0.9], nothing=None)
    assert "the training loss at 90% of the first epoch's" in found[UNDERFITS].sentence
    assert said(table, [8.0, 7.2], [0.9, 0.3], nothing=None) == {}
