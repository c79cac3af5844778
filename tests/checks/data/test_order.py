import dataclasses

import numpy as np
import pytest
import torch

from search.checks.bench import Bench
from search.checks.data.order import look
from search.checks.evidence import Curves
from search.records import CheckVerdict
from search.train import steps
from search.train.batches import ResidentBatches
from search.train.data.arrays import Dataset, Split
from tests.kits import zoo

SHUFFLED = steps.epoch_order
DELIVERED = ResidentBatches.__call__


def bench_of(examples, split=None, seed=0, **trainer):
    dataset = Dataset(examples=examples, split=split) if split else zoo.divided(examples, seed)
    return Bench(
        dataset=dataset,
        config=zoo.config(trainer={**zoo.config()["trainer"], **trainer}),
        settings=zoo.INSPECT_SETTINGS,
        device=torch.device("cpu"),
        seed=seed,
    )


def sorted_by_target(examples):
    order = np.argsort(examples.targets, kind="stable")
    return dataclasses.replace(examples, inputs=examples.inputs[order], targets=examples.targets[order])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["digits", "iris", "diabetes"])
def test_healthy_data_passes(name, seed):
    found = look(bench_of(zoo.digits(seed) if name == "digits" else zoo.table(name, seed), seed=seed))

    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert abs(found.measured["deviations"]) < 5


@pytest.mark.parametrize("size", [1, 2, 299, 512])
def test_batches_of_any_size_pass(size):
    assert look(bench_of(zoo.digits(0), batch_size=size)).verdict is CheckVerdict.PASS


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_draws_with_replacement_are_no_fault_where_they_are_asked_for(name):
    examples = zoo.digits(0) if name == "digits" else zoo.table(name, 0)

    assert look(bench_of(examples, sampling="balanced")).verdict is CheckVerdict.PASS


def test_a_sorted_file_passes_where_training_shuffles_and_is_told():
    found = look(bench_of(sorted_by_target(zoo.digits(0))))

    assert found.verdict is CheckVerdict.PASS
    assert "the data is sorted by target" in found.sentence
    assert found.measured["data_sortedness"] > 0.9


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_batches_of_a_single_class_fail(name, monkeypatch):
    monkeypatch.setattr(steps, "epoch_order", lambda train, *_: torch.as_tensor(train))
    examples = sorted_by_target(zoo.digits(0) if name == "digits" else zoo.table(name, 0))

    found = look(bench_of(examples))

    assert found.verdict is CheckVerdict.FAIL
    assert "targets within a batch are more alike than chance" in found.sentence
    (curve,) = found.evidence
    assert isinstance(curve, Curves)
    assert curve.lines["first epoch"][1].mean() > 0.4


@pytest.mark.parametrize(
    ("order", "verdict", "words"),
    [
        (lambda train, seed, epoch, size: SHUFFLED(train, seed, 1, size), "warn", "have the same order"),
        (lambda train, *_: torch.as_tensor(np.random.default_rng().permutation(train)), "fail", "asked for again"),
        (lambda *given: SHUFFLED(*given)[:-40], "fail", "leaves 40 of 300 training examples out and repeats 0"),
        (lambda *given: SHUFFLED(*given).repeat(2), "fail", "repeats 300"),
        (lambda train, *given: SHUFFLED(np.arange(500), *given), "fail", "200 examples of an epoch are not of"),
    ],
)
def test_orders_that_are_no_shuffling_are_found(order, verdict, words, monkeypatch):
    monkeypatch.setattr(steps, "epoch_order", order)

    found = look(bench_of(zoo.digits(0)))

    assert found.verdict == verdict
    assert words in found.sentence
    assert found.advice


def test_targets_shuffled_apart_from_inputs_fail(monkeypatch):
    def apart(self, order, size):
        for inputs, targets, indices in DELIVERED(self, order, size):
            yield inputs, targets.flip(0), indices

    monkeypatch.setattr(ResidentBatches, "__call__", apart)

    found = look(bench_of(zoo.digits(0)))

    assert found.verdict is CheckVerdict.FAIL
    assert "0 with other inputs and" in found.sentence


def test_missing_inputs_are_delivered_as_they_are():
    wine = zoo.table("wine", 0)
    inputs = np.where(np.random.default_rng(0).random(wine.inputs.shape) < 0.05, np.nan, wine.inputs)

    assert look(bench_of(dataclasses.replace(wine, inputs=inputs))).verdict is CheckVerdict.PASS


@pytest.mark.parametrize("places", [1, -2])
@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_targets_out_of_step_with_inputs_fail(name, places):
    examples = zoo.digits(0) if name == "digits" else zoo.table(name, 0)

    found = look(bench_of(dataclasses.replace(examples, targets=np.roll(examples.targets, places))))

    assert found.verdict is CheckVerdict.FAIL
    assert f"only {places:+d} places on in the data" in found.sentence


def test_sorted_data_cut_by_its_order_fails():
    split = Split(train=np.arange(300), validation=np.arange(300, 400), test=np.arange(400, 500))

    found = look(bench_of(sorted_by_target(zoo.digits(0)), split))

    assert found.verdict is CheckVerdict.FAIL
    assert "was divided by its order" in found.sentence


def test_the_order_is_asked_for_as_training_does(monkeypatch):
    asked = []

    def order(train, seed, epoch, size):
        asked.append(epoch)
        return SHUFFLED(train, seed, epoch, size)

    monkeypatch.setattr(steps, "epoch_order", order)
    look(bench_of(zoo.digits(0)))

    assert asked == [1, 2, 3, 1]
