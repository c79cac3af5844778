"""R20: losses that fit what they are given, and losses that do not."""

import pytest

from search.checks.evidence import Curves, Matrix
from search.records import CheckVerdict
from tests.checks.setup.legitimate import own
from tests.checks.setup.parts import part
from tests.checks.setup.setups import HEALTHY_NETS, bench_of, found_by
from tests.kits.zoo import MLP

NLL = {"_target_": "torch.nn.NLLLoss"}


@pytest.mark.parametrize("model", [*HEALTHY_NETS, part("net"), part("shifted"), part("zero_head")])
def test_the_tasks_own_loss_passes(model) -> None:
    found = found_by("R20", bench_of(model))
    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert [type(e) for e in found.evidence] == [Curves, Matrix]


@pytest.mark.parametrize(
    ("model", "data", "loss"),
    [
        (MLP, "digits", part("smoothed")),
        (MLP, "digits", part("focal")),
        (MLP, "digits", part("composite", scale=1e-2)),
        (MLP, "breast_cancer", {"_target_": "torch.nn.MultiMarginLoss"}),
        (part("log_softmax"), "digits", NLL),
        (MLP, "diabetes", None),
        (MLP, "diabetes", part("huber")),
        (MLP, "diabetes", own("Biweight")),
        (MLP, "diabetes", {"_target_": "torch.nn.L1Loss"}),
    ],
)
def test_other_sound_losses_pass(model, data: str, loss) -> None:
    found = found_by("R20", bench_of(model, data, loss=loss))
    assert found.verdict is CheckVerdict.PASS, found.sentence


@pytest.mark.parametrize(
    ("model", "data", "loss", "verdict", "words"),
    [
        (part("softmax"), "digits", None, CheckVerdict.FAIL, "after a softmax"),
        (part("sigmoid"), "digits", None, CheckVerdict.FAIL, "after a sigmoid"),
        (part("rectified"), "digits", None, CheckVerdict.FAIL, "after a ReLU"),
        (part("log_softmax"), "digits", None, CheckVerdict.WARN, "log-probabilities"),
        (part("sigmoid"), "diabetes", None, CheckVerdict.FAIL, "after a sigmoid"),
        (MLP, "digits", NLL, CheckVerdict.FAIL, "no lower bound"),
        (MLP, "digits", part("summed"), CheckVerdict.FAIL, "2 times as large"),
        (MLP, "digits", part("twice_softmax"), CheckVerdict.FAIL, "squashed"),
        (MLP, "digits", part("off_by_one"), CheckVerdict.FAIL, "another costs less"),
        (MLP, "digits", part("clipped"), CheckVerdict.FAIL, "no gradient at all"),
        (MLP, "digits", own("capped", most=4.0), CheckVerdict.WARN, "badly wrong"),
        (MLP, "digits", part("unstable"), CheckVerdict.WARN, "not finite"),
        (MLP, "digits", part("unbalanced"), CheckVerdict.WARN, "gradients differ by a factor"),
        (MLP, "digits", part("per_class"), CheckVerdict.WARN, "adding 5"),
        (MLP, "diabetes", part("broadcast"), CheckVerdict.FAIL, "in another order"),
        (MLP, "diabetes", part("flipped"), CheckVerdict.FAIL, "no less than knowing nothing"),
        (MLP, "diabetes", part("clipped_square"), CheckVerdict.FAIL, "no gradient at all"),
    ],
)
def test_faults_are_found(model, data: str, loss, verdict: CheckVerdict, words: str) -> None:
    found = found_by("R20", bench_of(model, data, loss=loss))
    assert found.verdict is verdict, found.sentence
    assert words in found.sentence
    assert found.advice
