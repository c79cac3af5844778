"""R19: parameters that are forgotten, stuck or hidden, and gradients that are wrong."""

from pathlib import Path

import pytest
import torch

from search.checks.evidence import Sheet
from search.records import CheckVerdict
from tests.checks.setup.legitimate import own
from tests.checks.setup.parts import net, part
from tests.checks.setup.setups import HEALTHY_NETS, SGD, bench_of, found_by
from tests.kits.zoo import MLP

NETS = (*HEALTHY_NETS, *(part(name) for name in ("net", "batch_norm", "zero_head", "Recurrent", "Attention")))


@pytest.mark.parametrize("model", NETS)
def test_healthy_networks_pass(model) -> None:
    found = found_by("R19", bench_of(model))
    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert found.measured["gradient_error"] < 1e-4
    (sheet,) = found.evidence
    assert isinstance(sheet, Sheet)
    assert len(sheet.rows) == found.measured["parameters"]


@pytest.mark.parametrize("name", ["net", "batch_norm"])
def test_healthy_regressions_pass(name: str) -> None:
    found = found_by("R19", bench_of(part(name), "diabetes"))
    assert found.verdict is CheckVerdict.PASS
    assert found.measured["gradient_error"] < 1e-4


@pytest.mark.parametrize(
    ("model", "nodes", "verdict", "words"),
    [
        (part("frozen"), {}, CheckVerdict.WARN, "drawn at random: 3.weight, 3.bias"),
        (part("Listed"), {}, CheckVerdict.FAIL, "not registered as parameters: hidden"),
        (part("Unused", detach=False), {}, CheckVerdict.WARN, "never used, so they get no gradient: second.weight"),
        (part("Unused", detach=True), {}, CheckVerdict.FAIL, "no gradient at all: first.weight"),
        (part("dead"), {}, CheckVerdict.FAIL, "exactly 0 in every batch: 1.weight"),
        (part("Custom", straight=False), {}, CheckVerdict.FAIL, "finite differences of the loss"),
        (part("Custom", straight=True), {}, CheckVerdict.WARN, "does not follow"),
        (MLP, {"loss": part("clipped")}, CheckVerdict.FAIL, "exactly 0"),
        (MLP, {"loss": part("Tempered")}, CheckVerdict.WARN, "of the loss are not trained"),
        (MLP, {"optimizer": part("HeadOnly", lr=0.1)}, CheckVerdict.FAIL, "does not hold 4 of 6"),
        (MLP, {"optimizer": part("Copies", lr=0.1)}, CheckVerdict.FAIL, "holds 6 tensors that are not"),
        (MLP, {"optimizer": part("Stuck", lr=0.1)}, CheckVerdict.FAIL, "do not move"),
        (MLP, {"optimizer": {**SGD, "lr": 1e-12}}, CheckVerdict.WARN, "do not move"),
    ],
)
def test_faults_are_found(model, nodes, verdict: CheckVerdict, words: str) -> None:
    found = found_by("R19", bench_of(model, **nodes))
    assert found.verdict is verdict, found.sentence
    assert words in found.sentence
    assert found.advice


def test_what_is_no_function_in_float64_is_said_and_not_held_against_it() -> None:
    found = found_by("R19", bench_of(part("Single")))
    assert found.verdict is CheckVerdict.PASS
    assert "cannot be held against finite differences" in found.sentence
    assert "gradient_error" in found.expected


@pytest.mark.parametrize(
    "model",
    [own("Steps"), own("Perceiver"), own("spectral"), own("weight_normed"), own("lazy"), own("Experts", number=3)],
)
def test_unusual_networks_pass(model) -> None:
    found = found_by("R19", bench_of(model))
    assert found.verdict is CheckVerdict.PASS, found.sentence


@pytest.mark.parametrize(
    ("model", "nodes", "words"),
    [
        (own("Pooler"), {}, "never used, so they get no gradient: pooler.weight"),
        (own("Experts", number=16), {}, "no gradient: experts."),
        (own("Masked"), {}, "exactly 0 in every batch: experts."),
        (own("Backbone"), {}, "frozen, with weights drawn at random: body."),
        (MLP, {"optimizer": own("Eighth", lr=0.1)}, "moves nothing before step 8"),
    ],
)
def test_what_may_be_meant_is_a_warning(model, nodes, words: str) -> None:
    found = found_by("R19", bench_of(model, **nodes))
    assert found.verdict is CheckVerdict.WARN, found.sentence
    assert words in found.sentence


def test_a_backbone_that_was_trained_may_stay(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(net((1, 8, 8), 32, width=64).state_dict(), file)
    found = found_by("R19", bench_of(own("Backbone", file=str(file))))
    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert "same weights whatever the seed: body.1.weight" in found.sentence


def test_a_rate_of_another_name_and_a_bias_before_batch_norm_are_no_fault() -> None:
    assert found_by("R19", bench_of(optimizer=own("Rated", rate=0.1))).verdict is CheckVerdict.PASS
    assert found_by("R19", bench_of(part("batch_norm"), optimizer={**SGD, "lr": 1e-3})).verdict is CheckVerdict.PASS
