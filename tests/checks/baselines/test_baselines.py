"""R13 to R17: the dumb, blind and human baselines, and whether training gets anywhere."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search.checks.baselines.learning import larger_model
from search.checks.baselines.pace import mini_batches
from search.checks.bench import Bench
from search.checks.evidence import Evidence
from search.checks.rows import check_of
from search.checks.run import finding_of
from search.keyed import keyed_int
from search.records import CheckVerdict, Finding
from search.train.data.arrays import Dataset, Examples
from tests.kits.zoo import ADAMW, LINEAR, MLP, PREFLIGHT_SETTINGS, config, digits, divided, table

PASS, SKIP, WARN, FAIL = CheckVerdict.PASS, CheckVerdict.SKIP, CheckVerdict.WARN, CheckVerdict.FAIL


class Blind(nn.Module):
    """Ignores its input."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(0 * inputs.flatten(1))
        return outputs


class Warm(nn.Module):
    """Knows the digits already, all but perfectly."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)
        examples = digits(9, 900)
        inputs = torch.tensor(examples.inputs).float().flatten(1)
        inputs = (inputs - inputs.mean()) / inputs.std()
        optimizer = torch.optim.Adam(self.parameters(), 0.01)
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(self.head(inputs), torch.tensor(examples.targets)).backward()
            optimizer.step()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs


class WorseWhenLarger(nn.Module):
    """Is dead from a width of 16 on."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int, size: int = 0) -> None:
        super().__init__()
        if size > 16:
            raise ValueError("too large")
        self.head, self.dead = nn.Linear(math.prod(in_shape), num_outputs), width >= 16

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(inputs.flatten(1) * (0.0 if self.dead else 1.0))
        return outputs


def bench(dataset: Dataset, whole: Mapping[str, Any] | None = None, **settings: Any) -> Bench:
    return Bench(
        dataset=dataset,
        config=whole or config(),
        settings={**PREFLIGHT_SETTINGS, **settings},
        device=torch.device("cpu"),
        seed=keyed_int(0, "zoo"),
    )


def looked(row: str, subject: Bench) -> tuple[Finding, tuple[Evidence, ...]]:
    return finding_of(check_of(row), subject)


def found(row: str, subject: Bench) -> Finding:
    return looked(row, subject)[0]


def own(model: type[nn.Module], **options: Any) -> dict[str, Any]:
    return config({"_target_": f"{model.__module__}.{model.__name__}", **options})


def at_rate(lr: float) -> dict[str, Any]:
    return config(optimizer={**ADAMW, "lr": lr})


def shuffled(dataset: Dataset) -> Dataset:
    """Return the data set with its targets in another order."""
    targets = np.random.default_rng(0).permutation(dataset.examples.targets)
    return dataclasses.replace(dataset, examples=dataclasses.replace(dataset.examples, targets=targets))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def healthy() -> Bench:
    return bench(divided(digits(0), 0))


@pytest.fixture(scope="module")
def random_labels() -> Bench:
    return bench(shuffled(divided(digits(0), 0)), config(LINEAR))


@pytest.fixture(scope="module")
def blind() -> Bench:
    return bench(divided(digits(0), 0), own(Blind))


@pytest.fixture(scope="module")
def too_low() -> Bench:
    return bench(divided(digits(0), 0), at_rate(1e-7))


@pytest.fixture(scope="module")
def too_high() -> Bench:
    return bench(divided(digits(0), 0), at_rate(10.0))


@pytest.mark.parametrize("row", ["R13", "R14", "R17"])
def test_a_healthy_setup_passes(healthy: Bench, row: str) -> None:
    finding, evidence = looked(row, healthy)
    assert finding.verdict is PASS, finding.sentence
    assert not finding.advice
    assert evidence


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_a_slow_learning_rate_on_a_small_table_passes(name: str) -> None:
    subject = bench(divided(table(name, 1), 1), config(LINEAR, optimizer={"_target_": "torch.optim.Adam", "lr": 3e-4}))
    for row in ("R13", "R14", "R17", "R36"):
        finding = found(row, subject)
        assert finding.verdict is PASS, finding.sentence


def test_dumb_baselines_are_recorded_in_the_metric(healthy: Bench) -> None:
    finding = found("R13", healthy)
    assert set(finding.measured) == {"majority", "linear", "nearest", "short_run"}
    assert finding.measured["majority"] < 0.2 < 0.8 < finding.measured["linear"]
    assert finding.measured["nearest"] > 0.8
    numbers = found("R13", bench(divided(table("diabetes", 0), 0), config(LINEAR, optimizer={**ADAMW, "lr": 0.03})))
    assert set(numbers.measured) == {"mean", "linear", "nearest", "short_run"}
    assert numbers.measured["linear"] < numbers.measured["mean"]


@pytest.mark.parametrize("row", ["R13", "R14"])
def test_labels_that_say_nothing_warn_as_nothing_simple_finds_more(random_labels: Bench, row: str) -> None:
    finding = found(row, random_labels)
    assert finding.verdict is WARN, finding.sentence
    assert "linear model" in finding.sentence
    assert finding.advice


@pytest.mark.parametrize("row", ["R13", "R14"])
def test_a_model_that_ignores_its_inputs_fails(blind: Bench, row: str) -> None:
    assert found(row, blind).verdict is FAIL


@pytest.mark.parametrize(("subject", "word"), [("too_low", "too low"), ("too_high", "too high")])
def test_a_learning_rate_far_off_fails_and_is_named(subject: str, word: str, request: pytest.FixtureRequest) -> None:
    finding = found("R17", request.getfixturevalue(subject))
    assert finding.verdict is FAIL
    assert word in finding.advice


@pytest.mark.parametrize("subject", ["too_low", "too_high"])
def test_other_rows_leave_the_learning_rate_to_r17(subject: str, request: pytest.FixtureRequest) -> None:
    of = request.getfixturevalue(subject)
    assert found("R14", of).verdict is SKIP
    assert found("R13", of).verdict is WARN
    assert found("R36", of).verdict is WARN


def test_a_loss_that_becomes_nan_fails() -> None:
    whole = config(optimizer={"_target_": "torch.optim.SGD", "lr": 10.0})
    finding = found("R17", bench(divided(table("diabetes", 0), 0), whole))
    assert finding.verdict is FAIL
    assert "too high" in finding.advice
    assert "nan" in finding.sentence or "inf" in finding.sentence


def test_the_human_baseline_is_shown() -> None:
    dataset = divided(table("iris", 0), 0)
    finding = found("R15", bench(dataset, human=0.97))
    assert (finding.verdict, finding.measured) == (PASS, {"human": 0.97})
    assert "accuracy" in finding.sentence
    assert found("R15", bench(dataset)).verdict is SKIP
    assert "preflight.human" in found("R15", bench(dataset)).sentence


@pytest.mark.parametrize(
    ("model", "size", "key"),
    [
        (MLP, None, "width"),
        ({**MLP, "extra": 3}, "model.extra", "extra"),
        ({**MLP, "extra": 3}, "extra", "extra"),
        ({"_target_": "x", "hidden": [3, 4], "dim": 5}, None, "dim"),
        (LINEAR, None, None),
        (MLP, "model.dropout", None),
    ],
)
def test_the_key_that_makes_a_model_larger(model: Mapping[str, Any], size: str | None, key: str | None) -> None:
    made = larger_model(bench(divided(table("iris", 0), 0), config(model), size=size))
    if key is None:
        assert made is None
    else:
        assert made is not None
        assert made[0] == {"model": {key: 2 * model[key]}}


def test_a_nested_key_keeps_what_stands_beside_it() -> None:
    model = {"_target_": "x", "net": {"width": 4, "depth": 2}}
    made = larger_model(bench(divided(table("iris", 0), 0), config(model), size="model.net.width"))
    assert made is not None
    assert made[0] == {"model": {"net": {"width": 8, "depth": 2}}}


def test_a_larger_model_that_is_worse_warns() -> None:
    dataset = divided(digits(0), 0)
    finding = found("R17", bench(dataset, own(WorseWhenLarger, width=8)))
    assert finding.verdict is WARN
    assert "model.width=16" in finding.sentence


def test_a_larger_model_that_cannot_be_made_is_named() -> None:
    finding = found("R17", bench(divided(digits(0), 0), own(WorseWhenLarger, width=15, size=15), size="model.size"))
    assert finding.verdict is PASS
    assert "cannot be trained" in finding.sentence


def classes(inputs: np.ndarray[Any, Any], targets: np.ndarray[Any, Any], seed: int) -> Dataset:
    names = tuple(map(str, range(int(targets.max()) + 1)))
    made = Examples(
        name="made", inputs=inputs.astype(np.float32), targets=targets, task="classification", classes=names
    )
    return divided(made, seed)


def rare(seed: int, number: int = 20_000) -> Dataset:
    """One of 500 is of class 1, and easily told."""
    generator = np.random.default_rng(seed)
    targets = (generator.permutation(number) < number // 500).astype(np.int64)
    return classes(generator.normal(size=(number, 20)) + 2 * targets[:, None], targets, seed)


def sums(seed: int = 0, modulus: int = 23) -> Dataset:
    """Modular addition, which a network learns by heart long before it learns it."""
    first, second = (v.ravel() for v in np.meshgrid(range(modulus), range(modulus)))
    hot = np.eye(modulus)
    order = np.random.default_rng(seed).permutation(len(first))
    inputs, targets = np.concatenate([hot[first], hot[second]], axis=1), (first + second) % modulus
    return classes(inputs[order], targets[order], seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_too_few_examples_of_a_rare_class_fail_nothing(seed: int) -> None:
    subject = bench(rare(seed))
    for row in ("R13", "R14", "R17", "R36"):
        finding = found(row, subject)
        assert finding.verdict in (PASS, SKIP) or (row == "R17" and finding.verdict is WARN), finding.sentence
        if finding.verdict is not PASS:
            assert "too few" in finding.sentence


def test_what_is_learned_late_fails_nothing() -> None:
    subject = bench(sums(), steps=40)
    found_in = {row: found(row, subject) for row in ("R13", "R14", "R17", "R36")}
    assert FAIL not in {finding.verdict for finding in found_in.values()}
    assert "neither is a linear model" in found_in["R13"].sentence
    assert "ignore" not in found_in["R14"].sentence


def test_a_signal_too_weak_for_a_short_run_warns() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 2, 10_000)
    inputs = generator.normal(size=(10_000, 20)) + 0.04 * targets[:, None] * (np.arange(20) == 0)
    subject = bench(classes(inputs, targets, 0), config(LINEAR))
    for row in ("R13", "R14", "R17"):
        assert found(row, subject).verdict is WARN
    assert "nor do a linear model" in found("R17", subject).sentence


def test_a_fine_tuning_at_a_low_rate_warns_at_most() -> None:
    whole = config({"_target_": f"{Warm.__module__}.Warm"}, optimizer={**ADAMW, "lr": 1e-6})
    finding = found("R17", bench(divided(digits(0), 0), whole, lr_space=None))
    assert finding.verdict is WARN
    assert "too low" in finding.advice


def test_a_rate_that_the_search_will_leave_warns_at_most(too_low: Bench) -> None:
    assert found("R17", too_low).verdict is FAIL  # it is not among those searched
    whole = at_rate(1e-7)
    finding = found("R17", bench(divided(digits(0), 0), whole, lr_space=[1e-7, 1e-1]))
    assert finding.verdict is WARN


def test_a_slow_step_makes_short_runs_shorter_and_leaves_others_out() -> None:
    subject = bench(shuffled(divided(digits(0), 0)), at_rate(1e-7))
    subject.once("seconds per step", lambda: 0.5)
    finding = found("R17", subject)
    assert finding.verdict is WARN
    assert "40 mini-batches (as one takes 0.5 s)" in finding.sentence
    assert "other learning rates were not looked at: a step takes 0.5 s" in finding.sentence
    assert finding.measured["seconds_per_step"] == 0.5
    assert found("R13", subject).verdict is WARN
    assert found("R14", subject).verdict is WARN
    well = bench(divided(digits(0), 0))
    well.once("seconds per step", lambda: 0.5)
    assert "a larger model was not looked at: a step takes 0.5 s" in found("R17", well).sentence
    assert "after 40 mini-batches (as one takes 0.5 s)" in found("R13", well).sentence


def test_a_very_slow_step_still_gets_twenty() -> None:
    subject = bench(divided(digits(0), 0))
    subject.once("seconds per step", lambda: 30.0)
    assert mini_batches(subject) == 20
    few = bench(divided(digits(0), 0), steps=5)
    few.once("seconds per step", lambda: 30.0)
    assert mini_batches(few) == 5


def test_sentences_name_each_figure(healthy: Bench, blind: Bench, random_labels: Bench) -> None:
    says = found("R13", healthy).sentence
    assert says.startswith("accuracy on 100 validation examples: largest class 0.")
    assert "this setup after 100 mini-batches 0." in says
    says = found("R14", healthy).sentence
    assert says.startswith(
        "with its inputs replaced the network does no better than chance, with the real ones far better"
    )
    assert "the same for all inputs" in found("R14", blind).sentence
    assert found("R15", healthy).sentence == "no human figure given (preflight.human=0.95)"
    assert "after 1000 mini-batches (100 were not enough to tell)" in found("R13", random_labels).sentence


def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 50.0]))


def test_a_loss_that_goes_up_is_no_rate_too_low() -> None:
    generator = np.random.default_rng(1)
    targets = (generator.permutation(8000) < 80).astype(np.int64)
    dataset = classes(generator.normal(size=(8000, 20)) + 0.7 * targets[:, None], targets, 1)
    finding = found("R17", bench(dataset, config(loss={"_target_": f"{__name__}.weighted"}), lr_space=None))
    assert finding.verdict is not FAIL
    assert "too low" not in finding.advice
