"""R18: examples that are mixed are found in either mode; batch norm's mixing is named; the future is not seen."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from search.checks.bench import Bench
from search.checks.check import Found
from search.checks.evidence import Matrix
from search.checks.setup import dependencies
from search.records import CheckVerdict
from search.train.data.arrays import Dataset, Examples
from tests.kits.zoo import CNN, MLP, Case, config, digits, divided, findings


def series(seed: int = 0, number: int = 60, length: int = 12) -> Dataset:
    random = np.random.default_rng(seed)
    return divided(
        Examples(
            name="series",
            inputs=random.normal(size=(number, 3, length)).astype(np.float32),
            targets=np.arange(number) % 2,
            task="classification",
            classes=("a", "b"),
        ),
        seed,
    )


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tokens() -> Dataset:
    examples = series().examples
    inputs = np.random.default_rng(0).integers(0, 9, size=(60, 1, 12))
    changed = Examples(
        name="tokens", inputs=inputs, targets=examples.targets, task="classification", classes=("a", "b")
    )
    return divided(changed, 0)


def look(model: str, dataset: Dataset | None = None, **arguments: object) -> Found:
    bench = Bench(
        dataset=dataset or divided(digits(0, 100), 0),
        config=config({"_target_": f"{__name__}.{model}", **arguments}),
        settings={},
        device=torch.device("cpu"),
        seed=0,
    )
    return dependencies.look(bench)


class Flat(nn.Module):
    """A linear model with something done to its features."""

    def __init__(self, in_shape, num_outputs, how="nothing"):
        super().__init__()
        size = int(np.prod(in_shape))
        self.first, self.head, self.how = nn.Linear(size, 16), nn.Linear(16, num_outputs), how
        self.norm = nn.BatchNorm1d(16, track_running_stats=how != "untracked")

    def forward(self, x):
        x = self.first(x.flatten(1))
        if self.how == "view":  # in place of a permutation there and back
            x = x.t().contiguous().view(len(x), -1)
        if self.how == "neighbour":
            x = x + 0.1 * x.roll(1, 0)
        if self.how == "detached":
            x = x - 0.1 * x.detach().mean(0)
        if self.how == "view in training" and self.training:
            x = x.t().contiguous().view(len(x), -1)
        if self.how == "own norm" and self.training:
            x = (x - x.mean(0)) / x.std(0)
        if self.how in ("norm", "untracked"):
            x = self.norm(x)
        if self.how == "no gradient":
            x = x.detach()
        if self.how == "no gradient, mixed":
            x = x.detach() + x.detach().mean(0)
        return self.head(x)


class ZeroHead(Flat):
    """Starts as a constant, as some initialisations want it."""

    def __init__(self, in_shape, num_outputs, how="nothing"):
        super().__init__(in_shape, num_outputs, how)
        nn.init.zeros_(self.head.weight)


class Recurrent(nn.Module):
    def __init__(self, in_shape, num_outputs, batch_first=True):
        super().__init__()
        self.body, self.head = nn.LSTM(in_shape[0], 8, batch_first=batch_first), nn.Linear(8, num_outputs)

    def forward(self, x):
        return self.head(self.body(x.transpose(1, 2))[0][:, -1])


class Convolutions(nn.Module):
    """Calls itself causal."""

    causal = True

    def __init__(self, in_shape, num_outputs, leak=False):
        super().__init__()
        self.first, self.second = nn.Conv1d(in_shape[0], 8, 3), nn.Conv1d(8, 8, 3)
        self.head, self.pads = nn.Linear(8, num_outputs), (1, 1) if leak else (2, 0)

    def forward(self, x):
        x = self.second(functional.pad(self.first(functional.pad(x, (2, 0))).relu(), self.pads))
        return self.head(x[..., -1])


class Attention(nn.Module):
    def __init__(self, size, masked):
        super().__init__()
        self.causal, self.masked = True, masked
        self.body = nn.MultiheadAttention(size, 2, batch_first=True)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.masked else None
        return self.body(x, x, x, attn_mask=mask, need_weights=False)[0]


class Transformer(nn.Module):
    def __init__(self, num_outputs, masked=True, smooth=False):
        super().__init__()
        self.embedding, self.attention = nn.Embedding(9, 8), Attention(8, masked)
        self.head, self.smooth = nn.Linear(8, num_outputs), smooth

    def forward(self, x):
        x = self.embedding(torch.round(x[:, 0] * 2.6 + 4).long().clamp(0, 8))
        if self.smooth:
            x = x + x.mean(1, keepdim=True)
        return self.head(self.attention(x)[:, -1])


class Pooled(nn.Module):
    causal = True

    def __init__(self, in_shape, num_outputs):
        super().__init__()
        self.head = nn.Linear(in_shape[0], num_outputs)

    def forward(self, x):
        return self.head(x.mean(2))


@pytest.mark.parametrize("model", [MLP, {**MLP, "dropout": 0.3}, CNN])
def test_networks_of_the_house_mix_nothing(model):
    case = Case(name="healthy", dataset=lambda s: divided(digits(s, 100), s), config=config(model))
    (finding,) = findings(case, 0, rows=("R18",))
    assert finding.verdict is CheckVerdict.PASS, finding.sentence
    assert finding.measured["mixing_in_evaluation"] == finding.measured["mixing_in_training"] == 0
    assert ("batch norm" in finding.sentence) == (model is CNN)


@pytest.mark.parametrize("how", ["view", "neighbour", "detached", "untracked", "no gradient, mixed"])
def test_mixed_examples_fail(how):
    found = look("Flat", how=how)
    assert found.verdict is CheckVerdict.FAIL
    assert "changing one example changes others' outputs" in found.sentence
    assert found.advice
    assert found.measured["mixing_in_evaluation"] > 0


def test_the_layer_that_mixes_first_is_named():
    assert "first in what norm gives" in look("Flat", how="untracked").sentence
    assert "first in what body gives" in look("Recurrent", series(), batch_first=False).sentence


def test_what_mixes_in_training_alone_is_told_from_statistics_by_its_strength():
    assert look("Flat", how="view in training").verdict is CheckVerdict.FAIL
    statistics = look("Flat", how="own norm")
    assert statistics.verdict is CheckVerdict.WARN
    assert "in training mode" in statistics.sentence


@pytest.mark.parametrize("model", ["Flat", "ZeroHead"])
def test_healthy_networks_pass_with_each_output_of_its_own_input(model):
    found = look(model)
    assert found.verdict is CheckVerdict.PASS
    (figure, _) = (piece for piece in found.evidence if isinstance(piece, Matrix))
    assert figure.values.shape == (8, 8)
    assert (figure.values.diagonal() > 0).all()
    assert np.count_nonzero(figure.values) == 8


def test_a_zero_last_layer_hides_no_mixing():
    assert look("ZeroHead", how="view").verdict is CheckVerdict.FAIL


def test_batch_norm_is_named_and_not_counted():
    found = look("Flat", how="norm")
    assert found.verdict is CheckVerdict.PASS
    assert "batch norm, which mixes examples in training by design: norm" in found.sentence


def test_without_gradients_inputs_are_changed():
    found = look("Flat", how="no gradient")
    assert found.verdict is CheckVerdict.PASS
    assert "for want of gradients" in found.sentence


def test_too_few_examples_are_skipped():
    examples = series(number=60).examples
    dataset = divided(examples, 0)
    few = Dataset(
        examples=examples,
        split=type(dataset.split)(train=np.arange(2), validation=np.arange(2, 9), test=np.arange(9, 20)),
    )
    assert look("Recurrent", few).verdict is CheckVerdict.SKIP


def test_recurrent_networks_pass():
    found = look("Recurrent", series())
    assert found.verdict is CheckVerdict.PASS


@pytest.mark.parametrize("data", [series, lambda: series(length=8)])
def test_a_network_that_calls_itself_causal_has_to_be(data):
    found = look("Convolutions", data())
    assert found.verdict is CheckVerdict.PASS
    assert "depends on no later step" in found.sentence
    assert len([piece for piece in found.evidence if isinstance(piece, Matrix)]) == 3
    leaking = look("Convolutions", data(), leak=True)
    assert leaking.verdict is CheckVerdict.FAIL
    assert "calls itself causal, but at step" in leaking.sentence


def test_a_causal_layer_within_a_network_has_to_be():
    assert look("Transformer", tokens()).verdict is CheckVerdict.PASS
    leaking = look("Transformer", tokens(), masked=False)
    assert leaking.verdict is CheckVerdict.FAIL
    assert "attention calls itself causal" in leaking.sentence


def test_what_stands_before_a_causal_layer_is_told_from_it():
    found = look("Transformer", tokens(), smooth=True)
    assert found.verdict is CheckVerdict.WARN
    assert "through the layers before it" in found.sentence


def test_a_causal_network_without_steps_is_not_looked_at():
    found = look("Pooled", series())
    assert found.verdict is CheckVerdict.PASS
    assert "not looked at: the network calls itself causal" in found.sentence
