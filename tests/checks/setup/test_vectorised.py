"""R23: a batch that is not its examples is found, in the network, the loss, the gradient or the batches."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from search.checks.bench import Bench
from search.checks.check import Found
from search.checks.evidence import Sheet
from search.checks.rows import check_of
from search.checks.setup import vectorised
from search.records import CheckVerdict
from search.train import losses, steps
from search.train.batches import ResidentBatches
from tests.checks.setup.legitimate import own
from tests.kits.zoo import CNN, LINEAR, MLP, Case, config, digits, divided, findings, table


class Net(nn.Module):
    """A linear model with something of the batch in it."""

    def __init__(self, in_shape, num_outputs, fault="none", weight=0.1):
        super().__init__()
        self.head, self.fault, self.weight = nn.Linear(int(np.prod(in_shape)), num_outputs), fault, weight

    def forward(self, x):
        x = self.head(x.flatten(1))
        if self.fault == "mean":
            x = x + self.weight * x.mean(0)
        if self.fault == "random":
            x = x + torch.randn_like(x)
        return x.detach() + 0 * x.detach() if self.fault == "detached" and not self.training else x


def look(model, *, data=lambda seed: divided(digits(seed, 200), seed), fault=contextlib.nullcontext, **nodes):
    case = Case(name="case", dataset=data, config=config(model, **nodes), planted=fault)
    (finding,) = findings(case, 0, rows=("R23",))
    return finding


def net(fault, **arguments):
    return {"_target_": f"{__name__}.Net", "fault": fault, **arguments}


@pytest.mark.parametrize("model", [LINEAR, {**MLP, "dropout": 0.3}, CNN])
def test_networks_of_the_house_pass(model):
    finding = look(model)
    assert finding.verdict is CheckVerdict.PASS, finding.sentence
    assert set(finding.measured) == {"outputs", "loss", "gradient", "micro_batches"}
    assert max(finding.measured.values()) < 0.1 * vectorised.TOLERANCE


def test_a_regression_and_the_loader_pass():
    trainer = {**config()["trainer"], "loading": "loader"}
    finding = look(MLP, data=lambda seed: divided(table("diabetes", seed), seed), trainer=trainer)
    assert finding.verdict is CheckVerdict.PASS, finding.sentence


@pytest.mark.parametrize(("weight", "verdict"), [(0.2, "fail"), (0.003, "warn"), (1e-7, "pass")])
def test_outputs_that_depend_on_the_batch_are_found(weight, verdict):
    finding = look(net("mean", weight=weight))
    assert finding.verdict == verdict, finding.sentence
    if verdict != "pass":
        assert "outputs of a batch: not those of single examples" in finding.sentence
        assert finding.advice


def test_a_model_that_is_random_in_evaluation_is_skipped():
    finding = look(net("random"))
    assert finding.verdict is CheckVerdict.SKIP
    assert "two passes in evaluation mode differ" in finding.sentence


def test_a_model_without_gradients_in_evaluation_is_compared_by_outputs():
    finding = look(net("detached"))
    assert finding.verdict is CheckVerdict.PASS
    assert "not looked at: in evaluation mode there are no gradients" in finding.sentence


def test_a_loss_of_ones_own_may_be_another_mean():
    summed = {"_target_": "torch.nn.CrossEntropyLoss", "reduction": "sum"}
    finding = look(MLP, loss=summed)
    assert finding.verdict is CheckVerdict.PASS
    assert "not the mean of its examples'" in finding.sentence
    assert "loss" in look(MLP, loss={**summed, "reduction": "mean"}).measured


def test_a_standard_loss_that_is_summed_fails(monkeypatch):
    hard = losses.HardLoss.__call__

    def summed(self, outputs, targets, indices):
        return hard(self, outputs, targets, indices) * len(targets)

    monkeypatch.setattr(losses.HardLoss, "__call__", summed)
    finding = look(MLP)
    assert finding.verdict is CheckVerdict.FAIL
    assert "loss of a batch: not the mean of single examples'" in finding.sentence


def test_micro_batches_that_are_not_weighed_fail(monkeypatch):
    def step(model, optimizer, loss, batch, *, micro_batches=1, **_):
        optimizer.zero_grad(set_to_none=True)
        for part in steps._parts(micro_batches, *batch):
            loss(model(part[0]), part[1], part[2]).backward()
        optimizer.step()
        return torch.zeros(())

    monkeypatch.setattr(steps, "train_step", step)
    finding = look(MLP)
    assert finding.verdict is CheckVerdict.FAIL
    assert "gradient in two micro-batches" in finding.sentence


def test_batches_of_other_examples_fail(monkeypatch):
    whole = ResidentBatches.__call__

    def shuffled(self, order, batch_size):
        for inputs, targets, indices in whole(self, order, batch_size):
            yield inputs.roll(1, 0), targets, indices

    monkeypatch.setattr(ResidentBatches, "__call__", shuffled)
    finding = look(MLP)
    assert finding.verdict is CheckVerdict.FAIL
    assert "inputs of batches from memory are not those of the examples asked for" in finding.sentence


def test_differences_are_in_a_table():
    bench = Bench(
        dataset=divided(digits(0, 100), 0), config=config(MLP), settings={}, device=torch.device("cpu"), seed=0
    )
    found: Found = check_of("R23").look(bench)
    (sheet, _) = (piece for piece in found.evidence if isinstance(piece, Sheet))
    assert [row[0] for row in sheet.rows] == ["outputs", "loss", "gradient", "micro batches"]


def test_a_gradient_of_single_examples_that_is_zero_is_named() -> None:
    found = look(own("Centred"))
    assert found.verdict is CheckVerdict.FAIL
    assert "the gradient of single examples is zero" in found.sentence
    assert "e+" not in found.sentence
