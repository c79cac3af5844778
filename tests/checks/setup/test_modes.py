"""R21: dropout and batch norm switch with the mode, and evaluation is of each example."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from search.checks.bench import Bench
from search.checks.evidence import Bars
from search.checks.rows import check_of
from search.records import CheckVerdict
from search.train import loop
from tests.kits.zoo import ADAMW, CNN, LINEAR, MLP, Case, config, digits, divided, findings, table

DROPOUT = {**MLP, "dropout": 0.3}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}


class Net(nn.Module):
    """Dropout and batch norm, with one thing broken."""

    def __init__(self, in_shape, num_outputs, fault="none", momentum=0.1, shift=0.0):
        super().__init__()
        self.first, self.head, self.fault = nn.Linear(int(np.prod(in_shape)), 32), nn.Linear(32, num_outputs), fault
        self.shift = shift
        self.norm = nn.BatchNorm1d(32, momentum=momentum, track_running_stats=fault != "untracked")
        self.drop, self.unused = nn.Dropout(0.3), nn.BatchNorm1d(32) if fault == "unused" else nn.Identity()
        if fault == "frozen":
            self.first.requires_grad_(False)
            self.norm.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        if self.fault in ("norm in evaluation", "frozen"):
            self.norm.eval()
        if self.fault == "norm in training":
            self.norm.train()
        if self.fault == "dropout in training":
            self.drop.train()
        if self.fault == "ignores eval":
            super().train(True)
        return self

    def forward(self, x):
        x = self.norm(self.first(x.flatten(1)) - self.shift).relu()
        if self.fault == "functional":
            x = functional.dropout(x, 0.3)
        if self.fault == "evaluates itself":
            self.eval()
        if self.fault == "switches gradients off" and not self.training:
            torch.set_grad_enabled(False)
        return self.head(x if self.fault in ("no dropout", "functional") else self.drop(x))


class Frozen(nn.Module):
    """A frozen body that stays in evaluation, its dropout too."""

    def __init__(self, in_shape, num_outputs):
        super().__init__()
        self.body, self.head = Net(in_shape, 8).requires_grad_(False), nn.Linear(8, num_outputs)

    def train(self, mode=True):
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x):
        return self.head(self.body(x))


@contextlib.contextmanager
def planted(predict):
    kept = loop.predict
    loop.predict = predict
    try:
        yield
    finally:
        loop.predict = kept


def look(model, *, dataset=lambda seed: divided(digits(seed, 300), seed), fault=contextlib.nullcontext, **nodes):
    case = Case(name="case", dataset=dataset, config=config(model, **nodes), planted=fault)
    (finding,) = findings(case, 0, rows=("R21",))
    return finding


def net(fault="none", **arguments):
    return {"_target_": f"{__name__}.Net", "fault": fault, **arguments}


@pytest.mark.parametrize("model", [LINEAR, DROPOUT, CNN, net(), {"_target_": f"{__name__}.Frozen"}])
def test_healthy_networks_pass(model):
    finding = look(model, optimizer=SGD)
    assert finding.verdict is CheckVerdict.PASS, finding.sentence
    assert finding.measured["difference_in_evaluation"] == 0
    assert (finding.measured["difference_in_training"] > 0) == (
        "Linear" not in model["_target_"] and "Frozen" not in model["_target_"]
    )


def test_a_regression_passes():
    finding = look(DROPOUT, dataset=lambda seed: divided(table("diabetes", seed), seed))
    assert finding.verdict is CheckVerdict.PASS, finding.sentence


FAULTS = {
    "norm in training": ("fail", "leaves norm in training"),
    "dropout in training": ("fail", "leaves drop in training"),
    "ignores eval": ("fail", "leaves"),
    "functional": ("fail", "two passes in evaluation mode differ"),
    "untracked": ("fail", "with the rest of their batch"),
    "switches gradients off": ("fail", "leaves gradients off"),
    "norm in evaluation": ("warn", "leaves norm in evaluation"),
    "no dropout": ("warn", "dropout changes nothing"),
    "evaluates itself": ("warn", "changes the mode"),
    "unused": ("warn", "the running statistics of unused do not move"),
    "frozen": ("pass", "two passes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_modes_are_found(fault):
    verdict, words = FAULTS[fault]
    finding = look(net(fault))
    assert (finding.verdict, words in finding.sentence) == (verdict, True), finding.sentence
    assert bool(finding.advice) == (verdict != "pass")
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("momentum", "verdict"), [(0.0, "warn"), (0.001, "warn"), (0.1, "pass"), (1.0, "pass")])
def test_running_statistics_that_lag_are_found(momentum, verdict):
    finding = look(net(momentum=momentum, shift=2.0), optimizer={**ADAMW, "lr": 5e-3})
    assert finding.verdict == verdict, finding.sentence


def without_last(model, batches, indices, task, batch_size=loop.EVALUATION_BATCH):
    whole = len(indices) // batch_size * batch_size or len(indices)
    return predict(model, batches, indices[:whole], task, batch_size)


def in_training(model, batches, indices, task, batch_size=loop.EVALUATION_BATCH):
    model.train()
    with torch.no_grad():
        parts = [model(inputs).softmax(1).numpy() for inputs, _, _ in batches(torch.as_tensor(indices), batch_size)]
    return np.concatenate(parts)


def smoothed(model, batches, indices, task, batch_size=loop.EVALUATION_BATCH):
    found = predict(model, batches, indices, task, batch_size)
    return 0.5 * found + 0.5 * found.mean(0)


predict = loop.predict
EVALUATIONS = {
    without_last: "of 60 validation examples",
    in_training: "differ from those of single examples",
    smoothed: "differ from those of single examples",
}


@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_an_evaluation_of_something_else_than_each_example_fails(evaluation):
    finding = look(net(), fault=lambda: planted(evaluation))
    assert finding.verdict is CheckVerdict.FAIL
    assert EVALUATIONS[evaluation] in finding.sentence


def test_a_figure_of_batches_fails(monkeypatch):
    whole = loop.Training.close_epoch

    def smooth(self, *found):
        return {name: 0.9 * value if name.startswith("val/") else value for name, value in whole(self, *found).items()}

    monkeypatch.setattr(loop.Training, "close_epoch", smooth)
    finding = look(MLP)
    assert finding.verdict is CheckVerdict.FAIL
    assert "accuracy is reported as" in finding.sentence


def test_a_run_that_diverges_is_looked_at_without_its_evaluation():
    finding = look(MLP, optimizer={**SGD, "lr": 1e20})
    assert finding.verdict is CheckVerdict.PASS
    assert "not looked at" in finding.sentence


def test_both_passes_are_shown():
    bench = Bench(
        dataset=divided(digits(0, 100), 0),
        config=config(DROPOUT),
        settings={},
        device=torch.device("cpu"),
        seed=0,
    )
    found = check_of("R21").look(bench)
    (bars,) = (piece for piece in found.evidence if isinstance(piece, Bars))
    assert bars.labels == ("training", "evaluation")
