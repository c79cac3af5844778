"""R22: prime sizes pass, or it is said why they cannot."""

import numpy as np
import pytest
import torch
from torch import nn

from search.checks.setup import odd_sizes
from search.records import CheckVerdict
from search.train.data.arrays import Examples
from tests.kits.zoo import CNN, LINEAR, MLP, Case, config, digits, divided, findings, table


class Net(nn.Module):
    """Takes the data's shape and the number of outputs, with one thing broken."""

    def __init__(self, in_shape, num_outputs, fault="none"):
        super().__init__()
        if fault == "patches" and in_shape[-1] % 2:
            raise ValueError("the width has to be even")
        self.size, self.fault = int(np.prod(in_shape)), fault
        self.first = nn.Linear(64 if fault == "pixels" else self.size, 16)
        self.head = nn.Linear(16, 10 if fault == "classes" else num_outputs)

    def forward(self, x):
        if self.fault == "nan" and len(x) == 13:
            x = x / 0
        x = self.first(x.reshape(-1, self.first.in_features)).relu()
        if self.fault == "batch in training" and self.training:
            x = x.reshape(32, -1)
        if self.fault == "batch in evaluation" and not self.training:
            x = x.reshape(32, -1)
        x = self.head(x)
        return x.squeeze() if self.fault == "squeeze" else x


class Fixed(nn.Module):
    """Made for one size; or for any, by pooling."""

    def __init__(self, num_outputs, pooled):
        super().__init__()
        self.body, self.pooled = nn.Conv2d(1, 8, 3, padding=1), pooled
        self.head = nn.Linear(8 if pooled else 8 * 64, num_outputs)

    def forward(self, x):
        x = self.body(x).relu()
        return self.head(x.mean((2, 3)) if self.pooled else x.flatten(1))


def look(model, dataset=lambda seed: divided(digits(seed, 200), seed)):
    (finding,) = findings(Case(name="case", dataset=dataset, config=config(model)), 0, rows=("R22",))
    return finding


def net(fault):
    return {"_target_": f"{__name__}.Net", "fault": fault}


@pytest.mark.parametrize("model", [LINEAR, MLP, {**CNN, "kernel": 5}, net("none")])
def test_networks_that_take_their_shape_pass(model):
    finding = look(model)
    assert finding.verdict is CheckVerdict.PASS, finding.sentence
    assert "inputs (1, 11, 13) pass" in finding.sentence
    assert "batches of 7 and 13 examples pass" in finding.sentence
    assert "11 outputs come out" in finding.sentence


def test_tables_and_series_pass():
    assert "inputs (11,) pass" in look(MLP, lambda seed: divided(table("diabetes", seed), seed)).sentence
    examples = Examples(
        name="series",
        inputs=np.random.default_rng(0).normal(size=(60, 2, 16)).astype(np.float32),
        targets=np.arange(60, dtype=np.float32),
        task="regression",
    )
    assert "inputs (2, 17) pass" in look(LINEAR, lambda seed: divided(examples, seed)).sentence


FAULTS = {
    "nan": ("fail", "outputs are not finite"),
    "squeeze": ("warn", "a single example cannot be evaluated"),
    "pixels": ("warn", "a model made for inputs (1, 11, 13) does not take them"),
    "classes": ("warn", "a model made for 11 outputs does not give them"),
    "patches": ("pass", "the width has to be even"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_sizes_that_break_are_found(fault):
    verdict, words = FAULTS[fault]
    finding = look(net(fault))
    assert (finding.verdict, words in finding.sentence) == (verdict, True), finding.sentence


@pytest.mark.parametrize("fault", ["batch in training", "batch in evaluation"])
def test_a_batch_size_in_a_reshape_fails(fault):
    finding = look(net(fault))
    assert finding.verdict is CheckVerdict.FAIL
    assert "a batch of 7 does not pass" in finding.sentence
    assert finding.advice


def test_a_network_made_for_one_size_says_so():
    finding = look({"_target_": f"{__name__}.Fixed", "pooled": False})
    assert finding.verdict is CheckVerdict.PASS
    assert "not looked at: the model takes inputs (1, 8, 8) alone" in finding.sentence


def test_a_network_that_pools_is_given_another_size():
    assert "inputs (1, 11, 13) pass" in look({"_target_": f"{__name__}.Fixed", "pooled": True}).sentence


def test_sizes_are_the_next_primes():
    assert odd_sizes._odd((4,)) == (5,)
    assert odd_sizes._odd((3, 28, 28)) == (3, 29, 31)
    assert all(torch.tensor(odd_sizes._odd((1, 8, 8))) == torch.tensor([1, 11, 13]))
