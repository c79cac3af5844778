import dataclasses
import json
import math
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from search.apps.cli import CONFIG as MAIN
from search.apps.cli import config_folder
from search.apps.naming import register_resolvers
from search.config import schema
from search.errors import UsageError
from search.layout import (
    CHECKPOINT,
    CONFIG,
    COST,
    CROSS_FITTED,
    DIAGNOSIS,
    DIAGNOSTICS,
    OUTCOME,
    SNAPSHOTS,
    TAKEN,
    WEIGHTS,
)
from search.records import (
    OBJECTIVE,
    AverageSpec,
    Decision,
    FailureKind,
    Outcome,
    Paused,
    PredictSpec,
    Report,
    TrialSpec,
    TrialState,
    Verdict,
    event_from_json,
    event_to_json,
)
from search.space import Space
from search.train.data import digits
from search.train.data.arrays import Dataset, Examples
from search.train.data.split import divide
from search.train.diagnostics.summary import NAMES
from search.train.equipment import Equipment
from search.train.metrics import metrics_of
from search.trial import Runner, load_model

LEFT = {CONFIG, COST, WEIGHTS, DIAGNOSTICS, "validation.npy", OUTCOME}
"""What a finished trial leaves in its folder."""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@cache
def dataset() -> Dataset:
    whole = digits.load("digits")
    examples = dataclasses.replace(whole, inputs=whole.inputs[:250], targets=whole.targets[:250])
    return Dataset(examples=examples, split=divide(examples, configured()["split"]))


@cache
def configured(*arguments: str) -> Mapping[str, Any]:
    """A trial's configuration as the driver makes it, of few epochs."""
    schema.register()
    register_resolvers()
    named = () if any(a.startswith("model=") for a in arguments) else ("model=mlp", "model.dropout=0.2")
    short = ("trainer.epochs=4", "trainer.checkpoint_every=1")
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose(MAIN, overrides=[*named, *short, *arguments])
    cfg.model.space = cfg.optimizer.space = {}  # every value is the one written
    return Space.of(cfg).configure({})


def with_model(name: str, **arguments: Any) -> Mapping[str, Any]:
    return {**configured(), "model": {"_target_": f"{__name__}.{name}", **arguments}}


def runner(**equipment: Any) -> Runner:
    return Runner(Equipment(**{"dataset": dataset(), "device": "cpu", "threads": 1, **equipment}))


def spec(folder: Path, config: Mapping[str, Any] | None = None, **fields: Any) -> TrialSpec:
    return TrialSpec(
        **{
            "number": 7,
            "params": {},
            "config": configured() if config is None else config,
            "seed": 11,
            "directory": str(folder / "trial"),
            **fields,
        }
    )


class Driver:
    """Keeps the reports; tells a trial to stop or to pause at one of them, or dies there."""

    def __init__(
        self,
        stop_at: int | None = None,
        die_at: int | None = None,
        pause_at: int | None = None,
        reason: str = "rung at step 2",
    ) -> None:
        self.reports: list[Report] = []
        self._die_at, self._reason = die_at, reason
        self._verdicts = {stop_at: Verdict.STOP, pause_at: Verdict.PAUSE}

    def __call__(self, report: Report) -> Decision:
        self.reports.append(report)
        if report.step == self._die_at:
            raise KeyboardInterrupt  # no Exception: nothing in a worker catches the end of its process
        verdict = self._verdicts.get(report.step, Verdict.GO_ON)
        reason = "" if verdict is Verdict.GO_ON else self._reason
        return Decision(number=report.number, step=report.step, verdict=verdict, reason=reason, time=report.time)

    @property
    def figures(self) -> list[Mapping[str, float]]:
        return [report.metrics for report in self.reports]


def run(work: TrialSpec, driver: Driver | None = None, worker: Runner | None = None) -> tuple[Outcome, Driver]:
    driver = driver or Driver()
    return outcome_of((worker or runner())(work, driver)), driver


def pause(work: TrialSpec, step: int, worker: Runner | None = None) -> tuple[Paused, Driver]:
    driver = Driver(pause_at=step)
    paused = (worker or runner())(work, driver)
    assert isinstance(paused, Paused)
    return paused, driver


def outcome_of(last: Paused | Outcome) -> Outcome:
    assert isinstance(last, Outcome)
    return last


def left_in(directory: str | Path) -> set[str]:
    """Return the files, but for what is said of a trial that something ails: short ones may well underfit."""
    return {path.name for path in Path(directory).iterdir()} - {DIAGNOSIS}


def without_costs(outcome: Outcome) -> Outcome:
    return dataclasses.replace(outcome, seconds=0.0, time=0.0, peak_memory={})


def accuracy(predictions: Any, split: str) -> float:
    targets = dataset().examples.targets[dataset().split.of(split)]
    return metrics_of("classification")["accuracy"](predictions, targets)


# --------------------------------------------------------------------------------------------------------- finished


def test_a_finished_trial_leaves_weights_predictions_and_its_outcome(tmp_path: Path) -> None:
    work = spec(tmp_path)
    outcome, driver = run(work)
    assert (outcome.number, outcome.state, outcome.steps, outcome.failure) == (7, TrialState.COMPLETE, 4, None)
    assert outcome.reason == "all epochs done"
    assert left_in(work.directory) == LEFT
    assert left_in(tmp_path) == {"trial"}  # nothing outside its folder
    assert event_from_json((Path(work.directory) / OUTCOME).read_text()) == outcome
    predictions = np.load(Path(work.directory) / "validation.npy")
    assert predictions.shape == (len(dataset().split.validation), 10)
    assert outcome.value == accuracy(predictions, "validation")
    assert outcome.best_step is not None
    assert driver.reports[outcome.best_step - 1].metrics[OBJECTIVE] == outcome.value
    assert outcome.seconds > 0


def test_every_epoch_is_reported_once_with_its_figures(tmp_path: Path) -> None:
    _, driver = run(spec(tmp_path))
    assert [(report.number, report.step) for report in driver.reports] == [(7, 1), (7, 2), (7, 3), (7, 4)]
    for figures in driver.figures:
        own = {name for name in figures if not name.startswith("layers/")}
        assert own == {OBJECTIVE, "train/loss", "train/lr", "val/loss", "val/accuracy"}
        assert set(figures) - own <= set(NAMES)
        assert figures[OBJECTIVE] == figures["val/accuracy"]


def test_the_objective_is_the_one_configured(tmp_path: Path) -> None:
    outcome, driver = run(spec(tmp_path, configured("metric.name=loss")))
    losses = [figures["val/loss"] for figures in driver.figures]
    assert [figures[OBJECTIVE] for figures in driver.figures] == losses
    assert outcome.value == min(losses)
    assert outcome.best_step == losses.index(min(losses)) + 1


def test_patience_completes_a_trial_with_its_reason(tmp_path: Path) -> None:
    config = configured("trainer.epochs=50", "trainer.patience=1", "optimizer.lr=0.05")
    outcome, _ = run(spec(tmp_path, config))
    assert outcome.state is TrialState.COMPLETE
    assert outcome.reason == "no better figure for 1 epochs"
    assert outcome.best_step == outcome.steps - 1


def test_the_kept_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    far_too_fast = ("model=linear", "optimizer.lr=0.3", "schedule=constant", "metric.name=loss")
    work = spec(tmp_path, configured(*far_too_fast))
    outcome, driver = run(work)
    losses = [figures[OBJECTIVE] for figures in driver.figures]
    assert outcome.value == min(losses)
    assert min(losses) < 0.9 * losses[-1]  # or the last would do as well
    model = load_model(Path(work.directory), work.config, dataset()).eval()
    validation = dataset().split.validation
    with torch.inference_mode():
        found = model(torch.as_tensor(dataset().examples.inputs)[validation]).softmax(1).numpy()
    loss = metrics_of("classification")["loss"](found, dataset().examples.targets[validation])
    assert loss == pytest.approx(outcome.value, rel=1e-6)


# ----------------------------------------------------------------------------------------------------------- stopped


def test_a_trial_that_is_told_to_stop_is_pruned_and_leaves_predictions(tmp_path: Path) -> None:
    work = spec(tmp_path)
    outcome, driver = run(work, Driver(stop_at=2))
    assert (outcome.state, outcome.steps, outcome.reason) == (TrialState.PRUNED, 2, "rung at step 2")
    assert outcome.failure is None
    assert left_in(work.directory) == LEFT
    assert outcome.value == accuracy(np.load(Path(work.directory) / "validation.npy"), "validation")
    assert outcome.value == max(figures[OBJECTIVE] for figures in driver.figures)


def test_a_stop_without_a_reason_stops_too(tmp_path: Path) -> None:
    outcome, driver = run(spec(tmp_path), Driver(stop_at=2, reason=""))
    assert (outcome.state, len(driver.reports)) == (TrialState.PRUNED, 2)


# ------------------------------------------------------------------------------------------------------------ paused


def test_a_trial_that_is_told_to_pause_leaves_what_it_goes_on_from_and_what_it_is_worth_so_far(tmp_path: Path) -> None:
    work = spec(tmp_path)
    paused, driver = pause(work, 2)
    assert (paused.number, paused.step, len(driver.reports)) == (7, 2, 2)
    so_far = paused.so_far
    assert (so_far.number, so_far.state, so_far.steps, so_far.reason) == (7, TrialState.PRUNED, 2, "rung at step 2")
    assert so_far.value == max(figures[OBJECTIVE] for figures in driver.figures)
    assert so_far.value == accuracy(np.load(Path(work.directory) / "validation.npy"), "validation")
    assert so_far.peak_memory["host"] > 0
    assert left_in(work.directory) == (LEFT | {CHECKPOINT}) - {OUTCOME}
    assert event_from_json(event_to_json(paused)) == paused


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_paused_trial_that_goes_on_is_bitwise_the_undisturbed_one(tmp_path: Path, name: str) -> None:
    expected, undisturbed = run(spec(tmp_path / "a", MODELS[name]))
    work = spec(tmp_path / "b", MODELS[name])
    figures: list[Mapping[str, float]] = []
    for step in (1, 3):
        figures += pause(work, step)[1].figures
    outcome, last = run(work)
    assert figures + last.figures == undisturbed.figures
    assert without_costs(outcome) == without_costs(expected)
    assert left_in(work.directory) == LEFT
    for file in (WEIGHTS, DIAGNOSTICS, "validation.npy"):
        assert (tmp_path / "a/trial" / file).read_bytes() == (tmp_path / "b/trial" / file).read_bytes()


def test_a_trial_says_what_ails_it(tmp_path: Path) -> None:
    ailing = configured("model=mlp", "model.width=8", "optimizer.lr=1e-7")
    outcome, _ = run(spec(tmp_path / "a", ailing))
    assert outcome.diagnosis == "learning rate too low"
    assert (tmp_path / "a/trial" / DIAGNOSIS).read_text().startswith("learning rate too low: in ")
    unlooked, driver = run(spec(tmp_path / "b", {**ailing, "trainer": {**ailing["trainer"], "diagnostics": False}}))
    assert unlooked.diagnosis == ""
    assert DIAGNOSTICS not in left_in(tmp_path / "b/trial")
    assert not any(name.startswith("layers/") for figures in driver.figures for name in figures)


def test_a_trial_at_its_end_has_completed_when_it_is_told_to_pause(tmp_path: Path) -> None:
    outcome, _ = run(spec(tmp_path), Driver(pause_at=4))
    assert (outcome.state, outcome.reason, outcome.steps) == (TrialState.COMPLETE, "all epochs done", 4)


def test_a_trial_out_of_patience_has_completed_when_it_is_told_to_pause(tmp_path: Path) -> None:
    config = configured("trainer.epochs=50", "trainer.patience=1", "optimizer.lr=0.05")
    expected, _ = run(spec(tmp_path / "a", config))
    outcome, _ = run(spec(tmp_path / "b", config), Driver(pause_at=expected.steps))
    assert without_costs(outcome) == without_costs(expected)
    assert outcome.state is TrialState.COMPLETE


# ------------------------------------------------------------------------------------------------------ micro-batches


@pytest.mark.parametrize("parts", [2, 4])
def test_a_trial_in_micro_batches_is_the_same_trial(tmp_path: Path, parts: int) -> None:
    config = configured("model=mlp", "model.dropout=0.0", "metric.name=loss")
    whole, _ = run(spec(tmp_path / "a", config))
    divided, _ = run(spec(tmp_path / "b", config, micro_batches=parts))
    assert divided.value == pytest.approx(whole.value, rel=1e-3)


class Greedy(nn.Module):
    """Runs out of memory with more than sixteen examples at once."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and len(inputs) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs


def test_micro_batches_need_less_memory(tmp_path: Path) -> None:
    config = with_model("Greedy")
    short, _ = run(spec(tmp_path / "a", config))
    assert short.failure is not None
    assert short.failure.kind is FailureKind.OUT_OF_MEMORY
    assert run(spec(tmp_path / "b", config, micro_batches=2))[0].state is TrialState.COMPLETE


# ------------------------------------------------------------------------------------------------------------ failed


class Failing(nn.Module):
    """Fails as it is told, after a while."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, fault: str, batches: int = 12) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)
        self.fault, self.left = fault, batches

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.left -= 1
            if self.left < 0:
                FAULTS[self.fault][0]()
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs


class OwnError(Exception):
    pass


def fail(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


FAULTS: dict[str, tuple[Callable[[], object], FailureKind, str]] = {
    "exception": (fail(ValueError("bad\n  luck")), FailureKind.EXCEPTION, "ValueError: bad luck"),
    "exception of the user's": (fail(OwnError("mine")), FailureKind.EXCEPTION, "OwnError: mine"),
    "refusal": (fail(UsageError("model.width=0: must be at least 1")), FailureKind.EXCEPTION, "model.width=0: must be"),
    "memory of the GPU": (
        fail(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
        FailureKind.OUT_OF_MEMORY,
        "OutOfMemoryError: CUDA out of memory",
    ),
    "memory of numpy": (lambda: np.empty(2**50), FailureKind.OUT_OF_MEMORY, "MemoryError: Unable to allocate"),
    "memory of torch": (lambda: torch.empty(2**60, dtype=torch.uint8), FailureKind.OUT_OF_MEMORY, "allocate"),
    "assertion": (fail(AssertionError()), FailureKind.EXCEPTION, "AssertionError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_becomes_the_outcome_with_its_kind(tmp_path: Path, fault: str) -> None:
    work = spec(tmp_path, with_model("Failing", fault=fault))
    outcome, driver = run(work)
    _, kind, message = FAULTS[fault]
    assert outcome.state is TrialState.FAILED
    assert outcome.value is None
    assert outcome.failure is not None
    assert outcome.failure.kind is kind
    assert message in outcome.failure.message
    assert outcome.reason == outcome.failure.message
    assert "\n" not in outcome.reason
    assert outcome.failure.traceback.startswith("Traceback (most recent call last)")
    assert "in forward" in outcome.failure.traceback
    assert len(driver.reports) == 2  # five batches an epoch
    assert left_in(work.directory) == {CHECKPOINT, CONFIG, OUTCOME}, "it may be tried again from where it was"
    assert event_from_json((Path(work.directory) / OUTCOME).read_text()) == outcome


def test_a_loss_that_is_no_number_is_a_kind_of_its_own(tmp_path: Path) -> None:
    config = configured("model=linear", "optimizer=sgd", "optimizer.lr=1e38")
    outcome, _ = run(spec(tmp_path, config))
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.NON_FINITE
    assert "epoch 1" in outcome.reason


BROKEN: dict[str, tuple[Mapping[str, Any], str]] = {
    "no such model": ({"model": {"_target_": "nowhere.Model"}}, "model._target_=nowhere.Model"),
    "no such optimiser": ({"optimizer": {"_target_": "torch.optim.Adamm"}}, "optimizer._target_=torch.optim.Adamm"),
    "no model": ({"model": {}}, "model: needs a _target_"),
    "an argument too many": (
        {"schedule": {"_target_": "search.train.schedules.constant", "x": 1}},
        "schedule.x: no argument of constant",
    ),
    "no objective": ({"metric": {"name": "rmse", "mode": None}}, "metric.name=rmse"),
}


@pytest.mark.parametrize(("changes", "message"), BROKEN.values(), ids=BROKEN)
def test_a_configuration_that_cannot_be_built_fails_its_trial_in_one_line(
    tmp_path: Path, changes: Mapping[str, Any], message: str
) -> None:
    work = spec(tmp_path, {**configured(), **changes})
    outcome, _ = run(work)
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.EXCEPTION
    assert outcome.reason.startswith(message)
    assert "\n" not in outcome.reason
    assert left_in(work.directory) == {CONFIG, OUTCOME}


def test_a_worker_goes_on_after_a_failure(tmp_path: Path) -> None:
    worker = runner()
    run(spec(tmp_path / "a", with_model("Failing", fault="exception")), worker=worker)
    after, _ = run(spec(tmp_path / "b"), worker=worker)
    alone, _ = run(spec(tmp_path / "c"))
    assert without_costs(after) == without_costs(alone)


# ----------------------------------------------------------------------------------------- what figures depend on


class Drawing(nn.Module):
    """A user's network with weights from every generator there is."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        size = math.prod(in_shape)
        weights = np.random.normal(0, 0.1, (num_outputs, size)) + random.random() / 100
        self.weight = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32) + torch.randn(num_outputs, size) / 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1) @ self.weight.T


MODELS = {
    "mlp": configured("model=mlp", "model.dropout=0.3"),
    "cnn": configured("model=cnn", "optimizer=sgd"),
    "a user's": with_model("Drawing"),
}


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_figures_depend_on_the_specification_alone(tmp_path: Path, config: Mapping[str, Any]) -> None:
    _, alone = run(spec(tmp_path / "a", config))
    worker = runner()
    run(spec(tmp_path / "b", configured("model=linear"), seed=1), worker=worker)
    torch.rand(3)
    random.random()
    np.random.random()
    _, later = run(spec(tmp_path / "c", config), worker=worker)
    assert later.figures == alone.figures
    for name in (WEIGHTS, "validation.npy"):
        assert (tmp_path / "a/trial" / name).read_bytes() == (tmp_path / "c/trial" / name).read_bytes()


def test_a_copy_of_the_data_gives_the_same_figures(tmp_path: Path) -> None:
    # a worker has the data from Ray's object store, `stages=[train]` has it from its source: strides may differ
    copied = pickle.loads(pickle.dumps(dataset(), protocol=5))  # noqa: S301 - our own
    _, ours = run(spec(tmp_path / "a", MODELS["cnn"]))
    _, theirs = run(spec(tmp_path / "b", MODELS["cnn"]), worker=runner(dataset=copied))
    assert theirs.figures == ours.figures


def test_another_seed_gives_other_figures(tmp_path: Path) -> None:
    _, one = run(spec(tmp_path / "a"))
    _, other = run(spec(tmp_path / "b", seed=12))
    assert one.figures != other.figures


def test_a_data_loader_gives_the_same_figures(tmp_path: Path) -> None:
    _, memory = run(spec(tmp_path / "a"))
    _, loader = run(spec(tmp_path / "b", configured("trainer.loading=loader")))
    assert loader.figures == memory.figures


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_a_trial_taken_up_again_ends_as_if_it_had_never_been_killed(tmp_path: Path, config: Mapping[str, Any]) -> None:
    expected, undisturbed = run(spec(tmp_path / "a", config))
    work = spec(tmp_path / "b", config)
    killed = Driver(die_at=3)
    with pytest.raises(KeyboardInterrupt):
        run(work, killed)
    assert left_in(work.directory) == {CONFIG, CHECKPOINT}
    outcome, resumed = run(work)
    assert [report.step for report in resumed.reports] == [3, 4]
    assert killed.figures[:2] + resumed.figures == undisturbed.figures
    assert without_costs(outcome) == without_costs(expected)
    assert left_in(work.directory) == LEFT
    for name in (WEIGHTS, "validation.npy"):
        assert (tmp_path / "a/trial" / name).read_bytes() == (tmp_path / "b/trial" / name).read_bytes()


# ------------------------------------------------------------------------------------------------------- predictions


class Hungry(nn.Module):
    """Holds 128 MiB for a moment in every batch."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        np.ones(2**27, dtype=np.uint8)
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs


def test_the_peak_of_memory_is_each_trials_own(tmp_path: Path) -> None:
    worker = runner()
    peaks = [
        run(spec(tmp_path / str(i), config), worker=worker)[0].peak_memory["host"]
        for i, config in enumerate((with_model("Hungry"), configured("model=linear")))
    ]
    assert peaks[0] > peaks[1] + 2**26
    failed, _ = run(spec(tmp_path / "f", with_model("Failing", fault="exception")), worker=worker)
    assert set(failed.peak_memory) == {"host"}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_predictions_of_finished_trials_are_those_of_their_networks(tmp_path: Path, split: str) -> None:
    works = [spec(tmp_path / name, config) for name, config in MODELS.items()]
    worker = runner()
    for work in works:
        run(work, worker=worker)
    trained = [np.load(Path(work.directory) / "validation.npy") for work in works]
    order = PredictSpec(number=3, members=tuple((w.directory, w.config) for w in works), split=split)
    outcome = outcome_of(worker(order, Driver()))
    assert (outcome.number, outcome.state, outcome.value, outcome.failure) == (3, TrialState.COMPLETE, None, None)
    indices = dataset().split.of(split)
    for work, validation in zip(works, trained, strict=True):
        assert left_in(work.directory) == LEFT | {f"{split}.npy"}
        found = np.load(Path(work.directory) / f"{split}.npy")
        model = load_model(Path(work.directory), work.config, dataset()).eval()
        with torch.inference_mode():
            expected = model(torch.as_tensor(dataset().examples.inputs)[indices]).softmax(1).numpy()
        np.testing.assert_array_equal(found, expected)
        if split == "validation":
            np.testing.assert_array_equal(found, validation)


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_predictions_without_weights_fail_by_name(tmp_path: Path, damage: str) -> None:
    work = spec(tmp_path)
    run(work)
    weights = Path(work.directory) / WEIGHTS
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-1])
    order = PredictSpec(number=0, members=((work.directory, work.config),), split="test")
    outcome = outcome_of(runner()(order, Driver()))
    assert outcome.state is TrialState.FAILED
    assert outcome.failure is not None
    assert str(weights) in outcome.reason
    assert "missing or damaged" in outcome.reason
    assert not (Path(work.directory) / "test.npy").exists()
    with pytest.raises(FileNotFoundError, match="missing or damaged"):
        load_model(Path(work.directory), work.config, dataset())


# ------------------------------------------------------------------------------------------------------------ teacher


def taught(tmp_path: Path, mix: float, soft: Any) -> Driver:
    np.save(tmp_path / "teacher.npy", soft.astype(np.float32))
    config = {**configured(), "distill": {"temperature": 4.0, "mix": mix}}
    _, driver = run(spec(tmp_path / f"mix{mix}", config, teacher=str(tmp_path / "teacher.npy")))
    return driver


def test_a_student_learns_from_its_teacher_by_the_share_configured(tmp_path: Path) -> None:
    train = dataset().split.train
    wrong = np.full((len(train), 10), 0.01)
    wrong[np.arange(len(train)), (dataset().examples.targets[train] + 1) % 10] = 0.91
    _, alone = run(spec(tmp_path))
    assert taught(tmp_path, 0.0, wrong).figures == alone.figures
    # a teacher that is always wrong: a network that follows it alone does worse than one that guesses
    assert max(figures["val/accuracy"] for figures in taught(tmp_path, 1.0, wrong).figures[1:]) < 0.1
    assert alone.figures[-1]["val/accuracy"] > 0.3


def test_a_student_of_some_of_the_examples_hears_what_the_teacher_says_of_these(tmp_path: Path) -> None:
    train = dataset().split.train
    right = np.full((len(train), 10), 0.01)
    right[np.arange(len(train)), dataset().examples.targets[train]] = 0.91
    np.save(tmp_path / "teacher.npy", right.astype(np.float32))
    config = {**configured("trainer.examples=100", "trainer.epochs=12"), "distill": {"temperature": 1.0, "mix": 1.0}}
    work = spec(tmp_path, config, teacher=str(tmp_path / "teacher.npy"))
    outcome, _ = run(work)
    assert outcome.value is not None
    assert outcome.value > 0.5, "of other examples it would guess"


def test_inputs_without_labels_are_predicted_beside_the_data_and_teach_a_student(tmp_path: Path) -> None:
    """A teacher that names the next class of its own inputs: a student that is given those alone follows it."""
    made = np.repeat(dataset().examples.inputs[dataset().split.train], 3, axis=0)
    np.save(tmp_path / "transfer.npy", made)
    first = spec(tmp_path)
    run(first)
    worker = runner()
    predicted = PredictSpec(
        number=0,
        members=((first.directory, configured()),),
        split="transfer",
        inputs=str(tmp_path / "transfer.npy"),
    )
    assert outcome_of(worker(predicted, Driver())).failure is None
    known = np.load(Path(first.directory) / "transfer.npy")
    assert known.shape == (len(made), 10)
    np.testing.assert_array_equal(known[0], known[1])

    train = dataset().split.train
    shares = np.full((len(train) + len(made), 10), 0.01, dtype=np.float32)
    wrong = np.repeat((dataset().examples.targets[train] + 1) % 10, 3)
    shares[len(train) + np.arange(len(made)), wrong] = 0.91
    shares[np.arange(len(train)), wrong[::3]] = 0.91
    np.save(tmp_path / "teacher.npy", shares)
    config = {**configured(), "distill": {"temperature": 2.0, "mix": 1.0}}
    student = spec(
        tmp_path / "student",
        config,
        teacher=str(tmp_path / "teacher.npy"),
        transfer=str(tmp_path / "transfer.npy"),
    )
    outcome, driver = run(student, worker=worker)
    assert outcome.failure is None
    said = np.load(Path(student.directory) / "validation.npy")
    shifted = (dataset().examples.targets[dataset().split.validation] + 1) % 10
    assert metrics_of("classification")["accuracy"](said, shifted) > accuracy(said, "validation")
    _, alone = run(spec(tmp_path / "alone"), worker=worker)
    assert len(driver.reports) == len(alone.reports), "an epoch has as many steps as without them"


def accuracy_of(folder: Path) -> float:
    predictions = np.load(folder / "validation.npy")
    return float((predictions.argmax(axis=1) == dataset().examples.targets[dataset().split.validation]).mean())


def test_the_mean_of_weights_is_a_member_of_its_own(tmp_path: Path) -> None:
    config = configured("schedule=sgdr", "schedule.cycle=0.5", "schedule.multiplier=1")
    work, worker = spec(tmp_path, config, snapshots=True), runner()
    run(work, worker=worker)
    members = tuple(str(Path(work.directory) / SNAPSHOTS / cycle) for cycle in "01")
    plain = AverageSpec(number=0, members=members, config=config, directory=str(tmp_path / "swa"))
    greedy = dataclasses.replace(plain, directory=str(tmp_path / "soup"), greedy=True)
    for average in (plain, greedy):
        assert outcome_of(worker(average, Driver())).failure is None
    assert left_in(plain.directory) == {WEIGHTS, TAKEN, "validation.npy"}
    assert left_in(greedy.directory) == {WEIGHTS, TAKEN, "validation.npy", CROSS_FITTED}
    first, second, mean = (
        load_model(Path(folder), config, dataset()).state_dict() for folder in (*members, plain.directory)
    )
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (first[name] + second[name]) / 2)
    assert json.loads((tmp_path / "swa" / TAKEN).read_text()) == list(members)
    best, *others = json.loads((tmp_path / "soup" / TAKEN).read_text())
    figures = {m: accuracy_of(Path(m)) for m in members}
    assert figures[best] == max(figures.values())
    assert set(others) <= set(members) - {best}


# ---------------------------------------------------------------------------------------------------------- equipment


def test_a_regression_runs_the_same_way(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(100, 3)).astype(np.float32)
    targets = (100 * inputs[:, 0] + 1000).astype(np.float32)
    examples = Examples(name="line", inputs=inputs, targets=targets, task="regression")
    line = Dataset(examples=examples, split=divide(examples, configured()["split"]))
    work = spec(tmp_path, configured("model=linear"))
    outcome, driver = run(work, worker=runner(dataset=line))
    predictions = np.load(Path(work.directory) / "validation.npy")
    assert predictions.shape == (20,)
    error = math.sqrt(np.mean((predictions.astype(np.float64) - targets[line.split.validation]) ** 2))
    assert outcome.value == pytest.approx(error)
    assert outcome.value == min(figures["val/rmse"] for figures in driver.figures)


def test_a_worker_keeps_to_its_threads() -> None:
    for count in (2, 1):
        runner(threads=count)
        assert torch.get_num_threads() == count


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=rf"device={device}: torch sees no GPU here; use device=cpu"):
        runner(device=device)


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(spec(tmp_path), worker=runner(device="auto"))[0].state is TrialState.COMPLETE


def test_a_worker_that_does_not_see_the_drivers_folder_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("of this study")
    runner(token=(str(token), "of this study"))
    for path, written in ((token, "of another study"), (tmp_path / "elsewhere" / "token", "of this study")):
        with pytest.raises(UsageError, match=rf"output_dir={path.parent}: .* must be shared by all nodes"):
            runner(token=(str(path), written))


def test_an_outcome_is_plain_json(tmp_path: Path) -> None:
    work = spec(tmp_path)
    run(work)
    stored = json.loads((Path(work.directory) / OUTCOME).read_text())
    assert (stored["event"], stored["state"], stored["failure"]) == ("outcome", "complete", None)


# ------------------------------------------------------------------------------------------------------- snapshots

SGDR = ("schedule=sgdr", "schedule.unit=epochs", "schedule.cycle=1", "schedule.multiplier=1")


def test_a_trial_leaves_a_member_for_each_cycle_of_its_schedule(tmp_path: Path) -> None:
    config = configured(*SGDR)
    work = runner()
    done = work(spec(tmp_path, config, snapshots=True), Driver())
    assert isinstance(done, Outcome)
    folders = sorted((tmp_path / "trial" / SNAPSHOTS).iterdir())
    assert [folder.name for folder in folders] == ["0", "1", "2", "3"]
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {WEIGHTS, "validation.npy"}
    members = tuple((str(folder), config) for folder in folders)
    work(PredictSpec(number=0, members=members, split="validation"), Driver())
    found = [np.load(folder / "validation.npy") for folder in folders]
    assert len({array.tobytes() for array in found}) == 4
    best = np.load(tmp_path / "trial" / "validation.npy")
    assert done.best_step is not None
    np.testing.assert_array_equal(found[done.best_step - 1], best)


def test_only_who_asks_for_them_gets_snapshots(tmp_path: Path) -> None:
    runner()(spec(tmp_path, configured(*SGDR)), Driver())
    assert not (tmp_path / "trial" / SNAPSHOTS).exists()


def test_snapshots_survive_a_kill(tmp_path: Path) -> None:
    config = configured("schedule=sgdr", "schedule.cycle=0.2", "schedule.multiplier=1")
    runner()(spec(tmp_path / "whole", config, snapshots=True), Driver())
    for at in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            runner()(spec(tmp_path / "killed", config, snapshots=True), Driver(die_at=at))
    runner()(spec(tmp_path / "killed", config, snapshots=True), Driver())
    whole, killed = (sorted((tmp_path / name).glob(f"trial/{SNAPSHOTS}/*/*")) for name in ("whole", "killed"))
    assert [path.relative_to(tmp_path / "whole") for path in whole] == [
        path.relative_to(tmp_path / "killed") for path in killed
    ]
    assert len(whole) == 10
    for one, other in zip(whole, killed, strict=True):
        assert one.read_bytes() == other.read_bytes()
