import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from search.checks.bench import Bench, minibatches
from search.checks.data.batch import look
from search.checks.evidence import Pictures, Sheet
from search.records import CheckVerdict, Verdict
from search.train.data.arrays import Examples
from search.train.estimator import Estimator
from tests.kits import zoo


class Cropping(nn.Module):
    """Changes its pictures before its first layer."""

    def __init__(self, in_shape, num_outputs, kept):
        super().__init__()
        self.layer = nn.Linear(int(np.prod(in_shape)), num_outputs)
        self.kept = kept

    def forward(self, inputs):
        mask = torch.zeros_like(inputs)
        mask[..., : self.kept] = 1
        return self.layer((inputs * mask).flatten(1))


def bench_of(examples, model=zoo.MLP, seed=0):
    return Bench(
        dataset=zoo.divided(examples, seed),
        config=zoo.config(model),
        settings=zoo.INSPECT_SETTINGS,
        device=torch.device("cpu"),
        seed=seed,
    )


def test_pictures_are_those_that_the_network_is_given():
    bench = bench_of(zoo.digits(0), zoo.CNN)

    found = look(bench)

    assert found.verdict is CheckVerdict.PASS, found.sentence
    (shown,) = found.evidence
    assert isinstance(shown, Pictures)
    setup = bench.setup()
    inputs, targets, _ = next(minibatches(setup, 1))
    assert np.array_equal(shown.inputs, setup.model.standardised(inputs).numpy())
    assert shown.captions == tuple(map(str, targets.tolist()))


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_tables_are_a_sheet(name):
    found = look(bench_of(zoo.table(name, 0)))

    assert found.verdict is CheckVerdict.PASS, found.sentence
    (sheet,) = found.evidence
    assert isinstance(sheet, Sheet)
    assert sheet.columns[:2] == ("target", "0")
    assert len(sheet.rows) == 32


def test_columns_have_their_names():
    random = np.random.default_rng(0)
    examples = Examples(
        name="own",
        inputs=random.normal(size=(60, 3)),
        targets=random.normal(size=60).astype(np.float32),
        task="regression",
        table={"columns": [["age", None], ["colour", ["red", "blue"]]]},
    )

    (sheet,) = look(bench_of(examples)).evidence

    assert isinstance(sheet, Sheet)
    assert sheet.columns == ("target", "age", "colour=red", "colour=blue")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda x: x.float() * np.nan, "NaN or infinite"),
        (lambda x: x.float() * 0 + 1, "identical"),
        (lambda x: x.double().round().long(), "the network receives torch.int64"),
        (lambda x: x.float().transpose(2, 3)[:, :, :5], "(32, 1, 5, 8) instead of (32, 1, 8, 8)"),
    ],
)
def test_a_batch_that_cannot_be_learned_from_fails(given, words, monkeypatch):
    monkeypatch.setattr(Estimator, "standardised", lambda self, inputs: given(inputs))
    model = {"_target_": f"{__name__}.Anything"}

    found = look(bench_of(zoo.digits(0), model))

    assert found.verdict is CheckVerdict.FAIL
    assert words in found.sentence
    assert found.advice


class Anything(nn.Module):
    """Takes inputs of any shape and type."""

    def __init__(self, num_outputs):
        super().__init__()
        self.layer = nn.Linear(1, num_outputs)

    def forward(self, inputs):
        return self.layer(inputs.float().flatten(1).mean(dim=1, keepdim=True))


def test_constant_inputs_fail():
    digits = zoo.digits(0)

    found = look(bench_of(dataclasses.replace(digits, inputs=np.full_like(digits.inputs, 3))))

    assert found.verdict is CheckVerdict.FAIL
    assert "identical" in found.sentence


@pytest.mark.parametrize(("kept", "verdict"), [(4, "pass"), (0, "warn")])
def test_what_the_network_makes_of_its_inputs_is_shown(kept, verdict):
    found = look(bench_of(zoo.digits(0), {"_target_": f"{__name__}.Cropping", "kept": kept}))

    assert found.verdict == verdict
    before, after = found.evidence
    assert isinstance(before, Pictures)
    assert isinstance(after, Pictures)
    assert not after.inputs[..., kept:].any()
    assert before.inputs[..., kept:].any()


# ------------------------------------------------------------------------------------- augmented and smaller inputs


def bench_with(examples, model=zoo.MLP, **nodes):
    bench = bench_of(examples, model)
    return dataclasses.replace(bench, config={**bench.config, **nodes})


def image(**strengths):
    return {"_target_": "search.train.augment.image.Image", **strengths}


def pictures(found):
    assert all(isinstance(shown, Pictures) for shown in found.evidence)
    return [shown for shown in found.evidence if isinstance(shown, Pictures)]


def spoiled(inputs):
    return inputs * np.nan


def test_an_augmented_batch_is_shown_as_a_trials_first_step_has_it_beside_the_plain_one():
    bench = bench_with(zoo.digits(0), zoo.CNN, augment=image(shift=0.2))

    found = look(bench)

    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert found.sentence.endswith("augmented")
    shown, plain = pictures(found)
    setup = bench.setup()
    inputs, _, _ = next(minibatches(setup, 1))
    given = []
    network = setup.model.network
    network.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0].detach().clone()))
    small = dataclasses.replace(setup.plan, epochs=1)
    dataclasses.replace(setup, plan=small).training().fit(lambda *_: (Verdict.GO_ON, ""))
    assert np.array_equal(shown.inputs, given[0].numpy())
    assert np.array_equal(plain.inputs, setup.model.standardised(inputs).numpy())
    assert not np.array_equal(shown.inputs, plain.inputs)


def test_captions_of_mixed_examples_name_both_with_their_shares():
    found = look(bench_with(zoo.digits(0), zoo.CNN, augment=image(mixup=5.0)))

    shown, plain = pictures(found)
    own, other = zip(*(caption.split(", ") for caption in shown.captions), strict=True)
    assert [words.split("% ")[1] for words in own] == list(plain.captions)
    assert sorted(words.split("% ")[1] for words in other) == sorted(plain.captions)
    assert {int(a.split("%")[0]) + int(b.split("%")[0]) for a, b in zip(own, other, strict=True)} == {100}


def test_an_augmentation_that_spoils_inputs_fails_by_its_name():
    found = look(bench_with(zoo.digits(0), augment={"_target_": f"{__name__}.spoiled"}))

    assert found.verdict is CheckVerdict.FAIL
    assert "NaN or infinite" in found.sentence
    assert found.advice == "look at what the augmentation does to inputs"


def test_smaller_inputs_are_shown_as_they_are_given():
    found = look(bench_with(zoo.digits(0), inputs={"resolution": 4}))

    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert pictures(found)[0].inputs.shape == (32, 1, 4, 4)


def test_chosen_features_keep_their_names():
    found = look(bench_with(zoo.table("wine", 0), inputs={"features": 3}))

    assert found.verdict is CheckVerdict.PASS, found.sentence
    (sheet,) = found.evidence
    assert isinstance(sheet, Sheet)
    names = sheet.columns[1:]
    assert len(names) == 3
    assert set(names) <= set(map(str, range(13)))
    assert names != ("0", "1", "2")
