import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from search.checks.bench import Bench
from search.checks.data.scale import look
from search.checks.evidence import Sheet
from search.records import CheckVerdict
from search.train import estimator
from search.train.checkpoint import save_state
from search.train.data.arrays import Dataset, Examples
from search.train.estimator import Estimator, build
from tests.kits import zoo

STATISTICS = estimator._statistics


class Times(nn.Module):
    """Multiplies its inputs before its only layer, or after having normalised them."""

    def __init__(self, in_shape, num_outputs, factor, normalises=False):
        super().__init__()
        size = int(np.prod(in_shape))
        self.factor = factor
        self.norm = nn.LayerNorm(size) if normalises else nn.Identity()
        self.layer = nn.Linear(size, num_outputs)

    def forward(self, inputs):
        return self.layer(self.norm(inputs.flatten(1) * self.factor))


def bench_of(examples, changed=lambda x, split: x, seed=0, model=zoo.MLP):
    dataset = zoo.divided(examples, seed)
    inputs = changed(dataset.examples.inputs.astype(np.float64), dataset.split)
    return Bench(
        dataset=Dataset(examples=dataclasses.replace(examples, inputs=inputs), split=dataset.split),
        config=zoo.config(model),
        settings=zoo.INSPECT_SETTINGS,
        device=torch.device("cpu"),
        seed=seed,
    )


def scaled(name, times, plus=0.0):
    def change(x, split):
        x[split.of(name)] = x[split.of(name)] * times + plus
        return x

    return change


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["digits", "iris", "diabetes"])
def test_healthy_data_passes(name, seed):
    found = look(bench_of(zoo.digits(seed) if name == "digits" else zoo.table(name, seed), seed=seed))

    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert found.measured["statistics_off"] < 1e-4
    assert 0.5 < found.measured["first_layer_std"] < 2


def test_the_sheet_has_every_channel_and_part():
    bench = bench_of(zoo.table("wine", 0))

    (sheet,) = look(bench).evidence

    assert isinstance(sheet, Sheet)
    assert len(sheet.rows) == 13 * 3
    mean = next(row[3] for row in sheet.rows if row[:2] == ("feature 0", "train"))
    assert mean == pytest.approx(bench.examples.inputs[bench.split.train, 0].mean(), rel=1e-5)


@pytest.mark.parametrize(("change", "verdict"), [(scaled("test", 1.0), "warn"), (scaled("test", 2.0, 5.0), "fail")])
def test_statistics_of_all_parts_are_found(change, verdict, monkeypatch):
    monkeypatch.setattr(estimator, "_statistics", lambda inputs, train: STATISTICS(inputs, np.arange(len(inputs))))

    found = look(bench_of(zoo.digits(0), change))

    assert found.verdict == verdict
    assert "those of all parts together" in found.sentence
    assert found.advice


def test_statistics_of_nothing_fail(monkeypatch):
    nothing = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    monkeypatch.setattr(estimator, "_statistics", lambda inputs, train: nothing)

    found = look(bench_of(zoo.digits(0)))

    assert found.verdict is CheckVerdict.FAIL
    assert "not those of the training split" in found.sentence


def test_inputs_that_are_not_standardised_fail(monkeypatch):
    monkeypatch.setattr(Estimator, "standardised", lambda self, inputs: inputs.float())

    found = look(bench_of(zoo.digits(0)))

    assert found.verdict is CheckVerdict.FAIL
    assert "standardised training inputs of channel 0 have mean 4.8" in found.sentence


def test_a_column_that_32_bits_do_not_hold_is_a_warning():
    def as_moments(x, split):
        x[:, 2] = 1.7e9 + 5 * x[:, 2]
        return x

    found = look(bench_of(zoo.table("wine", 0), as_moments))

    assert found.verdict is CheckVerdict.WARN
    assert "standardised training inputs of feature 2" in found.sentence


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("name", ["digits", "wine"])
def test_parts_that_lie_elsewhere_are_a_warning(name, part):
    examples = zoo.digits(0) if name == "digits" else zoo.table(name, 0)

    found = look(bench_of(examples, scaled(part, 1.5, 1.0)))

    assert found.verdict is CheckVerdict.WARN
    assert f"inputs of {part} lie elsewhere than those of train" in found.sentence


def test_missing_values_are_left_out():
    random = np.random.default_rng(0)
    found = look(bench_of(zoo.table("wine", 0), lambda x, _: np.where(random.random(x.shape) < 0.3, np.nan, x)))

    assert found.verdict is CheckVerdict.PASS, found.sentence


def test_infinite_values_are_skipped():
    found = look(bench_of(zoo.table("wine", 0), scaled("train", np.inf)))

    assert found.verdict is CheckVerdict.SKIP
    assert "infinite" in found.sentence


@pytest.mark.parametrize(
    ("factor", "normalises", "verdict"), [(255, False, "warn"), (1e-3, False, "warn"), (255, True, "pass")]
)
def test_a_first_layer_far_from_unit_scale_is_a_warning(factor, normalises, verdict):
    model = {"_target_": f"{__name__}.Times", "factor": factor, "normalises": normalises}

    found = look(bench_of(zoo.digits(0), model=model))

    assert found.verdict == verdict
    assert ("first layer receives" in found.sentence) is (verdict == "warn")


def test_a_sample_of_many_examples_with_heavy_tails_is_no_fault():
    random = np.random.default_rng(0)
    examples = Examples(
        name="heavy",
        inputs=random.standard_cauchy(size=(70_000, 3)),
        targets=random.normal(size=70_000).astype(np.float32),
        task="regression",
    )

    found = look(bench_of(examples))

    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert found.measured["statistics_off"] < 1e-4


def test_a_column_in_tiny_units_is_a_warning():
    def tiny(x, _):
        x[:, 2] *= 1e-10
        return x

    found = look(bench_of(zoo.table("wine", 0), tiny))

    assert found.verdict is CheckVerdict.WARN
    assert "not standardised where they vary too little for it" in found.sentence
    assert "feature 2 (" in found.sentence


# ------------------------------------------------------------------------------------- weights of an earlier training


def started(folder, times=1.0, classes=10, width=64, **settings):
    """Return a bench of digits whose network starts from weights that were trained on digits times a number."""
    digits = zoo.digits(0)
    other = dataclasses.replace(digits, inputs=digits.inputs.astype(np.float64) * times)
    model = {**zoo.MLP, "width": width}
    save_state(folder / "w.safetensors", build(model, zoo.divided(other, 0)).state_dict())
    bench = bench_of(digits)
    node = {"weights": str(folder / "w.safetensors"), "freeze": ["body.1"], **settings}
    return dataclasses.replace(bench, config={**bench.config, "pretrained": node})


@pytest.mark.parametrize("preprocessing", ["data", "file"])
def test_weights_that_had_such_inputs_pass(preprocessing, tmp_path):
    found = look(started(tmp_path, preprocessing=preprocessing))

    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert found.sentence.endswith("of the network's tensors 6 are loaded")
    assert ("as the pretrained weights had them" in found.sentence) == (preprocessing == "file")


@pytest.mark.parametrize(
    ("preprocessing", "words", "advice"),
    [
        ("data", "with which inputs are standardised", "pretrained.preprocessing=file"),
        ("file", "inputs are standardised with theirs", "pretrained.preprocessing=data"),
    ],
)
def test_weights_that_had_other_inputs_are_warned_of(preprocessing, words, advice, tmp_path):
    found = look(started(tmp_path, times=3.0, preprocessing=preprocessing))

    assert found.verdict is CheckVerdict.WARN
    assert words in found.sentence
    assert advice in found.advice


def test_other_inputs_that_the_configuration_names_are_warned_of(tmp_path):
    found = look(started(tmp_path, preprocessing="file", mean=[0.0], std=[1.0]))

    assert found.verdict is CheckVerdict.WARN
    assert "inputs are standardised with theirs" in found.sentence


def test_a_file_of_which_little_fits_is_warned_of(tmp_path):
    found = look(started(tmp_path, width=32, freeze=[]))

    assert found.verdict is CheckVerdict.WARN
    assert "only 0% are in the file of pretrained weights" in found.sentence


def test_weights_that_had_other_features_of_the_table_are_warned_of(tmp_path):
    wine = zoo.table("wine", 0)
    inputs = wine.inputs.copy()
    inputs[:, [0, 1]] = wine.targets[:, None] + np.random.default_rng(0).normal(size=(len(inputs), 2)) / 9
    other = zoo.divided(dataclasses.replace(wine, inputs=inputs), 0)
    save_state(tmp_path / "w.safetensors", build(zoo.LINEAR, other, inputs={"features": 2}).state_dict())
    bench = bench_of(wine)
    node = {"weights": str(tmp_path / "w.safetensors")}
    config = {**bench.config, "model": zoo.LINEAR, "inputs": {"features": 2}, "pretrained": node}
    found = look(dataclasses.replace(bench, config=config))

    assert found.verdict is CheckVerdict.WARN
    assert "had other features of the table, those with the indices 0, 1" in found.sentence
