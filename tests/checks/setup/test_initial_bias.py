"""R12: the final bias, and the signal from layer to layer."""

import pytest

from search.records import CheckVerdict
from tests.checks.setup.legitimate import own
from tests.checks.setup.parts import part
from tests.checks.setup.setups import HEALTHY_NETS, bench_of, found_by

NETS = (*HEALTHY_NETS, *(part(name) for name in ("net", "batch_norm", "zero_head", "Recurrent", "Attention")))


@pytest.mark.parametrize("model", NETS)
def test_healthy_networks_pass(model) -> None:
    found = found_by("R12", bench_of(model))
    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert {e.name for e in found.evidence} == {"activations", "layers"}


@pytest.mark.parametrize("data", ["breast_cancer", "diabetes"])
@pytest.mark.parametrize("name", ["net", "batch_norm"])
def test_healthy_networks_pass_on_tables(name: str, data: str) -> None:
    assert found_by("R12", bench_of(part(name), data)).verdict is CheckVerdict.PASS


@pytest.mark.parametrize(
    ("model", "data", "verdict", "word"),
    [
        (part("biased", value=8.0), "digits", CheckVerdict.FAIL, "class frequencies"),
        (part("biased", value=5.0), "diabetes", CheckVerdict.FAIL, "target's mean"),
        (part("biased", value=0.5), "diabetes", CheckVerdict.WARN, "target's mean"),
        (part("shifted"), "digits", CheckVerdict.WARN, "around 5"),
        (part("vanishing", std=1e-2), "digits", CheckVerdict.FAIL, "signal"),
        (part("vanishing", std=1.5), "digits", CheckVerdict.FAIL, "signal"),
        (part("vanishing", std=0.12), "digits", CheckVerdict.WARN, "signal"),
        (part("dead"), "digits", CheckVerdict.FAIL, "0 for every input"),
    ],
)
def test_faults_are_found(model, data: str, verdict: CheckVerdict, word: str) -> None:
    found = found_by("R12", bench_of(model, data))
    assert found.verdict is verdict, found.sentence
    assert word in found.sentence
    assert found.advice


def test_a_prior_that_a_network_adds_itself_does_not_fit_a_loss_of_log_probabilities_worse() -> None:
    loss = {"_target_": "torch.nn.NLLLoss"}
    assert found_by("R12", bench_of(part("log_softmax"), loss=loss)).verdict is CheckVerdict.PASS


@pytest.mark.parametrize("name", ["Steps", "Perceiver", "Experts", "spectral"])
def test_a_first_hidden_state_of_zeros_and_learned_queries_are_no_lost_signal(name: str) -> None:
    found = found_by("R12", bench_of(own(name)))
    assert found.verdict is CheckVerdict.PASS, found.sentence
