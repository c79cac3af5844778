"""R19: parameters that are forgotten, stuck or hidden, and gradients that are wrong."""

import pytest

from search.checks.evidence import Sheet
from search.records import CheckVerdict
from tests.checks.setup.parts import part
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
        (part("frozen"), {}, CheckVerdict.WARN, "frozen: 3.weight, 3.bias"),
        (part("Listed"), {}, CheckVerdict.FAIL, "not registered as parameters: hidden"),
        (part("Unused", detach=False), {}, CheckVerdict.FAIL, "no gradient at all: second.weight"),
        (part("Unused", detach=True), {}, CheckVerdict.FAIL, "no gradient at all: first.weight"),
        (part("dead"), {}, CheckVerdict.FAIL, "exactly 0 in every batch: 1.weight"),
        (part("Custom", straight=False), {}, CheckVerdict.FAIL, "differences of the loss"),
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
    assert "cannot be held against differences" in found.sentence
    assert "gradient_error" in found.expected
