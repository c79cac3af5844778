"""R11: the loss before the first step, of bundled and of badly initialised networks."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from search.checks.bench import Bench, minibatches, train
from search.checks.evidence import Bars
from search.records import CheckVerdict
from search.train.data.arrays import Dataset, Examples
from search.train.data.split import divide
from tests.checks.setup.legitimate import own
from tests.checks.setup.parts import part
from tests.checks.setup.setups import HEALTHY_NETS, bench_of, found_by
from tests.kits.zoo import MLP, SPLIT, config


@pytest.mark.parametrize("model", HEALTHY_NETS)
def test_bundled_networks_start_at_the_prior(model) -> None:
    found = found_by("R11", bench_of(model))
    assert found.verdict is CheckVerdict.PASS
    assert found.expected["loss"] == pytest.approx(math.log(10))
    assert found.measured["loss"] == pytest.approx(math.log(10), rel=0.03)


@pytest.mark.parametrize("data", ["iris", "breast_cancer", "diabetes"])
@pytest.mark.parametrize("model", [HEALTHY_NETS[0], MLP, part("net"), part("batch_norm"), part("zero_head")])
def test_tables_start_there_too(model, data: str) -> None:
    assert found_by("R11", bench_of(model, data)).verdict is CheckVerdict.PASS


def test_dropout_is_shown_where_there_is_any_and_weight_decay_is_none_of_the_loss() -> None:
    decayed = {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 1e-2}
    found = found_by("R11", bench_of({**MLP, "dropout": 0.3}, optimizer=decayed))
    assert found.measured["loss_with_dropout"] == pytest.approx(found.measured["loss"], rel=0.02)
    (bars,) = found.evidence
    assert isinstance(bars, Bars)
    assert bars.labels == ("measured", "with dropout")
    assert "loss_with_dropout" not in found_by("R11", bench_of(optimizer=decayed)).measured


def test_trained_weights_are_named(tmp_path: Path) -> None:
    bench = bench_of(part("net"))
    setup = bench.bare_setup()
    train(setup, minibatches(setup, 150))
    file = tmp_path / "weights.pt"
    torch.save(setup.model.network.state_dict(), file)
    warm = bench_of(own("warm", file=str(file)))
    found = found_by("R11", warm)
    assert found.verdict is CheckVerdict.PASS
    assert "starts from trained weights" in found.sentence
    assert found_by("R12", warm).verdict is CheckVerdict.PASS


def test_a_slow_network_is_asked_for_less_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.checks.bench.INITIAL_SECONDS", 1e-9)
    found = found_by("R11", bench_of())
    assert found.verdict is CheckVerdict.PASS
    assert "mean of 2 initialisations on 64 examples" in found.sentence


@pytest.mark.parametrize("model", [part("large_head"), part("biased", value=8.0)])
def test_a_last_layer_that_claims_to_know_is_found(model) -> None:
    found = found_by("R11", bench_of(model))
    assert found.verdict is CheckVerdict.FAIL
    assert found.measured["loss"] > 1.5 * found.expected["loss"]
    assert "last layer" in found.advice


def test_a_rare_class_does_not_count_for_more_than_its_share() -> None:
    random = np.random.default_rng(0)
    examples = Examples(
        name="rare",
        inputs=random.normal(size=(400, 5)).astype(np.float32),
        targets=(np.arange(400) % 20 == 0).astype(np.int64),
        task="classification",
        classes=("often", "rare"),
    )
    bench = bench_of()
    dataset = Dataset(examples=examples, split=divide(examples, {**SPLIT, "seed": 0}))
    rare = Bench(dataset=dataset, config=config(MLP), settings={}, device=bench.device, seed=0)
    assert found_by("R11", rare).verdict is CheckVerdict.PASS
    assert found_by("R12", rare).verdict is CheckVerdict.PASS


def test_a_loss_without_scale_is_skipped() -> None:
    found = found_by("R11", bench_of(loss={"_target_": "torch.nn.NLLLoss"}))
    assert found.verdict is CheckVerdict.SKIP
    assert "no scale" in found.sentence
