"""R11: the loss before the first step, of bundled and of badly initialised networks."""

import math

import numpy as np
import pytest

from search.checks.bench import Bench
from search.checks.evidence import Bars
from search.records import CheckVerdict
from search.train.data.arrays import Dataset, Examples
from search.train.data.split import divide
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


def test_regularisation_is_shown_where_there_is_any() -> None:
    plain = {"_target_": "torch.optim.SGD", "lr": 0.1}
    found = found_by("R11", bench_of({**MLP, "dropout": 0.3}, optimizer={**plain, "weight_decay": 1e-2}))
    assert found.measured["loss_regularised"] > found.measured["loss"]
    (bars,) = found.evidence
    assert isinstance(bars, Bars)
    assert bars.labels == ("measured", "with regularisation")
    assert "loss_regularised" not in found_by("R11", bench_of(optimizer=plain)).measured


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
