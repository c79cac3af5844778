"""The training loop, with golden traces: `python tests/train/test_loop.py` writes them anew after a wanted change."""

import dataclasses
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search.errors import UsageError
from search.records import Verdict
from search.train import schedules
from search.train.batches import Batches, LoaderBatches, ResidentBatches
from search.train.data import digits
from search.train.data.arrays import Array, Dataset, Examples, Split
from search.train.data.split import divide
from search.train.estimator import build
from search.train.loop import Fitted, KeepFn, ReportFn, Training, predict
from search.train.losses import HardLoss, Loss
from search.train.metrics import metrics_of, objective
from search.train.plan import Plan
from search.train.schedules import Budget, Curve
from search.train.steps import NonFiniteError

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parent / "golden"
Ruling = tuple[Verdict, str]
GO_ON: Ruling = (Verdict.GO_ON, "")
COSINE = partial(schedules.cosine, warmup=0.05, final=0.0, unit="budget")
SGDR = partial(schedules.sgdr, cycle=2, multiplier=1.0, final=0.0, decay=1.0)

MLP = {"_target_": "search.train.models.mlp.MLP", "width": 32, "depth": 2, "dropout": 0.3}
CNN = {"_target_": "search.train.models.cnn.CNN", "channels": 4, "blocks": 2, "kernel": 3, "dropout": 0.1}
LINEAR = {"_target_": "search.train.models.linear.Linear"}

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, lr=3e-3, weight_decay=1e-2),
    "adamw, slowly": partial(torch.optim.AdamW, lr=2e-3, weight_decay=1e-2),
    "sgd": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "still": partial(torch.optim.RMSprop, lr=0.001),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def digits_dataset(size: int) -> Dataset:
    whole = digits.load("digits")
    examples = Examples(
        name="digits", inputs=whole.inputs[:size], targets=whole.targets[:size], task=whole.task, classes=whole.classes
    )
    config = {"fractions": [0.6, 0.2, 0.2], "stratify": True, "seed": 0, "group": None, "time": None}
    return Dataset(examples=examples, split=divide(examples, config))


@dataclass(kw_only=True)
class Run:
    """One training with everything fresh, as a worker makes it; `trace` gets the figures of its epochs."""

    model: Mapping[str, Any] = field(default_factory=lambda: MLP)
    optimizer: str = "adamw"
    epochs: int = 6
    batch_size: int = 16
    patience: int | None = None
    checkpoint_every: int = 1
    micro_batches: int = 1
    ema: float | None = None
    refit_epochs: int | None = None
    seed: int = 0
    dataset: Dataset = field(default_factory=lambda: digits_dataset(250))
    batches: Callable[[Examples], Batches] = lambda examples: ResidentBatches(examples, CPU)
    schedule: Callable[[Budget], Curve] = COSINE
    metric: str | None = None
    loss: Loss | None = None
    trace: dict[int, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.network = build(self.model, self.dataset)
        self.torch_optimizer = OPTIMIZERS[self.optimizer](self.network.parameters())
        task = self.dataset.examples.task
        self.training = Training(
            model=self.network,
            optimizer=self.torch_optimizer,
            schedule=self.schedule,
            loss=self.loss or HardLoss(task=task, target_std=float(self.network.target_std)),
            batches=self.batches(self.dataset.examples),
            dataset=self.dataset,
            objective=objective(self.metric, None, task),
            plan=Plan(
                epochs=self.epochs,
                batch_size=self.batch_size,
                patience=self.patience,
                checkpoint_every=self.checkpoint_every,
                micro_batches=self.micro_batches,
                ema=self.ema,
                refit_epochs=self.refit_epochs,
            ),
            seed=self.seed,
        )

    def fit(
        self,
        checkpoint: Path | None = None,
        report: ReportFn = lambda step, figures: GO_ON,
        keep: KeepFn | None = None,
    ) -> Fitted:
        def remember(step: int, figures: Mapping[str, float]) -> Ruling:
            self.trace[step] = dict(figures)
            return report(step, figures)

        return self.training.fit(remember, checkpoint, keep)


def tell(verdict: Verdict, at: int, reason: str = "told to") -> ReportFn:
    return lambda step, figures: (verdict, reason) if step == at else GO_ON


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    state, others = one.state_dict(), other.state_dict()
    assert list(state) == list(others)
    for name, value in state.items():
        assert torch.equal(value, others[name]), name


def assert_same_fit(one: Fitted, other: Fitted) -> None:
    assert (one.best_step, one.steps, one.figures, one.stopped) == (
        other.best_step,
        other.steps,
        other.figures,
        other.stopped,
    )
    np.testing.assert_array_equal(one.predictions, other.predictions)


# ------------------------------------------------------------------------------------------------- golden traces

# A faster cnn is chaotic: where two pixels of a pool are nearly equal, another order of addition takes the other one.
GOLDEN_RUNS: dict[str, dict[str, Any]] = {
    "mlp": {"model": {**MLP, "width": 64}, "optimizer": "sgd"},
    "cnn": {"model": {**CNN, "channels": 8}, "optimizer": "adamw, slowly"},
}


def processor() -> str:
    """What the mathematical libraries choose their code by."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{torch.backends.cpu.get_cpu_capability()}, {model}"


def traced(name: str) -> dict[str, Any]:
    run = Run(**GOLDEN_RUNS[name], epochs=3, batch_size=32, dataset=digits_dataset(1797), metric="loss")
    run.fit()
    return {
        "torch": torch.__version__,
        "cpu": processor(),
        "train/loss": [figures["train/loss"] for figures in run.trace.values()],
        "val/loss": [figures["val/loss"] for figures in run.trace.values()],
    }


@pytest.mark.parametrize("name", GOLDEN_RUNS)
def test_training_gives_the_figures_that_it_always_gave(name: str) -> None:
    stored, found = json.loads((GOLDEN / f"{name}.json").read_text()), traced(name)
    same_machine = all(stored[key] == found[key] for key in ("torch", "cpu"))
    # another torch or processor adds in another order; here AVX512, AVX2 and plain code differ by less than 1e-6
    tolerance = 1e-12 if same_machine else 1e-4
    for key in ("train/loss", "val/loss"):
        assert found[key] == pytest.approx(stored[key], rel=tolerance, abs=0), key
        assert found[key] == sorted(found[key], reverse=True)  # it learns


# ---------------------------------------------------------------------------------------- interrupted and resumed


class KilledError(Exception):
    """Stands for the end of the process."""


def kill_after(step: int) -> ReportFn:
    def report(at: int, figures: Mapping[str, float]) -> Ruling:
        if at == step:
            raise KilledError
        return GO_ON

    return report


RESUMED: dict[str, dict[str, Any]] = {
    "adamw and dropout": {"model": MLP, "optimizer": "adamw"},
    "momentum, batch norm and dropout": {"model": CNN, "optimizer": "sgd"},
    "momentum and an odd batch": {"model": LINEAR, "optimizer": "sgd", "batch_size": 17},
}


@pytest.mark.parametrize("settings", RESUMED.values(), ids=RESUMED)
@pytest.mark.parametrize(("every", "killed"), [(1, (4,)), (2, (4,)), (2, (3, 5, 6)), (3, (1,))], ids=str)
def test_a_resumed_run_is_bitwise_the_undisturbed_one(
    tmp_path: Path, settings: dict[str, Any], every: int, killed: tuple[int, ...]
) -> None:
    whole = Run(**settings)
    expected = whole.fit()
    trace: dict[int, dict[str, float]] = {}
    for step in killed:
        interrupted = Run(**settings, checkpoint_every=every)
        with pytest.raises(KilledError):
            interrupted.fit(tmp_path / "c", kill_after(step))
        trace |= interrupted.trace
    torch.rand(3)  # whatever else the process drew meanwhile
    resumed = Run(**settings, checkpoint_every=every)
    found = resumed.fit(tmp_path / "c")
    # it goes on behind the last checkpoint, no sooner and no later: the epoch of the kill itself was not stored
    assert min(resumed.trace) == (max(killed) - 1) // every * every + 1
    assert trace | resumed.trace == whole.trace
    assert_same_fit(found, expected)
    assert_same_weights(resumed.network, whole.network)


def test_the_best_weights_from_before_the_kill_are_kept(tmp_path: Path) -> None:
    def schedule(budget: Budget) -> Curve:
        half = budget.steps // 2
        return Curve(np.repeat([1.0, 300.0], [half, budget.steps - half]))  # the second spoils what was learnt

    whole = Run(schedule=schedule)
    expected = whole.fit()
    assert expected.best_step <= 3
    with pytest.raises(KilledError):
        Run(schedule=schedule).fit(tmp_path / "c", kill_after(6))
    resumed = Run(schedule=schedule)
    assert_same_fit(resumed.fit(tmp_path / "c"), expected)
    assert min(resumed.trace) == 6
    assert_same_weights(resumed.network, whole.network)


def test_a_run_killed_behind_its_last_checkpoint_ends_at_once_with_the_same_result(tmp_path: Path) -> None:
    expected = Run().fit(tmp_path / "c")
    again = Run()
    assert_same_fit(again.fit(tmp_path / "c"), expected)
    assert again.trace == {}


@pytest.mark.parametrize("stopping", ["patience", "report"])
def test_a_run_killed_behind_the_checkpoint_of_its_last_epoch_goes_no_further(tmp_path: Path, stopping: str) -> None:
    settings: dict[str, Any] = {"epochs": 60, "optimizer": "sgd", "schedule": schedules.constant}
    if stopping == "patience":
        settings["patience"] = 2

    def report(step: int, figures: Mapping[str, float]) -> Ruling:
        return (Verdict.STOP, "enough") if stopping == "report" and step == 3 else GO_ON

    expected = Run(**settings).fit(tmp_path / "c", report)
    assert expected.stopped is not None
    assert expected.steps < 60
    again = Run(**settings)
    assert_same_fit(again.fit(tmp_path / "c", report), expected)


def test_a_damaged_checkpoint_costs_only_time(tmp_path: Path) -> None:
    expected = Run().fit(tmp_path / "c")
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:1000])
    again = Run()
    assert_same_fit(again.fit(tmp_path / "c"), expected)
    assert list(again.trace) == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_of_a_longer_plan_is_left_aside(tmp_path: Path) -> None:
    Run(epochs=6).fit(tmp_path / "c")
    shorter = Run(epochs=3)
    shorter.fit(tmp_path / "c")
    assert list(shorter.trace) == [1, 2, 3]


# ------------------------------------------------------------------------------------------------------ snapshots


@dataclass
class Kept:
    """What the loop handed over, by cycle."""

    weights: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    predictions: dict[int, Array] = field(default_factory=dict)

    def __call__(self, cycle: int, weights: Mapping[str, Tensor], predictions: Array) -> None:
        self.weights[cycle], self.predictions[cycle] = dict(weights), predictions


def still_after(step: int, ends: tuple[int, ...]) -> Callable[[Budget], Curve]:
    """Return a schedule whose rate is 0 after so many steps: the weights stay as they then are."""
    return lambda budget: Curve((np.arange(budget.steps) < step).astype(float), cycle_ends=ends)


@pytest.mark.parametrize("step", [1, 7, 8, 16])
def test_a_snapshot_has_the_weights_at_the_very_step_at_which_its_cycle_ends(step: int) -> None:
    """Four steps an epoch: steps 8 and 16 end one."""
    settings: dict[str, Any] = {"model": LINEAR, "dataset": part_of_digits(64), "batch_size": 16, "optimizer": "sgd"}
    run, kept = Run(**settings, epochs=4, schedule=still_after(step, (step,))), Kept()
    run.fit(keep=kept)
    last = Run(**settings, epochs=4, refit_epochs=4, schedule=still_after(step, ()))  # which keeps the last weights
    last.fit()
    assert list(kept.weights) == [0]
    for name, value in last.network.state_dict().items():
        assert torch.equal(kept.weights[0][name], value), name
    np.testing.assert_array_equal(kept.predictions[0], last.training.predict(last.dataset.split.validation))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_snapshots_change_nothing_and_are_judged_as_the_epochs_are(ema: float | None) -> None:
    """With cycles of whole epochs, a snapshot's figure is that of its epoch, also where weights are averaged."""
    plain = Run(schedule=partial(SGDR, unit="epochs"), model=CNN, ema=ema)
    expected = plain.fit()
    run, kept = Run(schedule=partial(SGDR, unit="epochs"), model=CNN, ema=ema), Kept()
    assert_same_fit(run.fit(keep=kept), expected)
    assert_same_weights(run.network, plain.network)
    loss, targets = metrics_of("classification")["loss"], run.dataset.examples.targets[run.dataset.split.validation]
    found = {2 * cycle + 2: loss(predictions, targets) for cycle, predictions in kept.predictions.items()}
    assert found == {epoch: run.trace[epoch]["val/loss"] for epoch in (2, 4, 6)}


def test_snapshots_of_a_resumed_run_are_bitwise_those_of_the_undisturbed_one(tmp_path: Path) -> None:
    schedule = partial(SGDR, cycle=0.2)  # ends within epochs
    whole = Kept()
    Run(schedule=schedule).fit(keep=whole)
    found = Kept()
    for step in (2, 3, 5):
        with pytest.raises(KilledError):
            Run(schedule=schedule, checkpoint_every=2).fit(tmp_path / "c", kill_after(step), found)
    Run(schedule=schedule, checkpoint_every=2).fit(tmp_path / "c", keep=found)
    assert list(found.weights) == list(whole.weights) == list(range(5))
    for cycle, weights in whole.weights.items():
        np.testing.assert_array_equal(found.predictions[cycle], whole.predictions[cycle])
        for name, value in weights.items():
            assert torch.equal(found.weights[cycle][name], value), name


def test_a_run_that_is_stopped_has_the_snapshots_until_then() -> None:
    kept = Kept()
    Run(schedule=partial(SGDR, unit="epochs")).fit(report=tell(Verdict.STOP, at=4), keep=kept)
    assert list(kept.weights) == [0, 1]


# ------------------------------------------------------------------------------------------------ paused and resumed


@pytest.mark.parametrize("settings", RESUMED.values(), ids=RESUMED)
@pytest.mark.parametrize("pauses", [(1,), (2, 4), (1, 2, 3, 4, 5)], ids=str)
def test_a_paused_run_that_goes_on_is_bitwise_the_undisturbed_one(
    tmp_path: Path, settings: dict[str, Any], pauses: tuple[int, ...]
) -> None:
    whole = Run(**settings)
    expected = whole.fit()
    trace: dict[int, dict[str, float]] = {}
    for step in pauses:
        part = Run(**settings, checkpoint_every=100)
        fitted = part.fit(tmp_path / "c", tell(Verdict.PAUSE, step))
        assert (fitted.steps, fitted.paused, fitted.stopped) == (step, True, "told to")
        trace |= part.trace
    last = Run(**settings, checkpoint_every=100)
    found = last.fit(tmp_path / "c")
    assert not found.paused
    assert trace | last.trace == whole.trace
    assert_same_fit(found, expected)
    assert_same_weights(last.network, whole.network)


def test_a_paused_run_has_its_best_weights_so_far() -> None:
    whole, part = Run(), Run()
    expected, found = whole.fit(report=tell(Verdict.STOP, 3)), part.fit(report=tell(Verdict.PAUSE, 3))
    assert_same_fit(found, expected)
    assert_same_weights(part.network, whole.network)


@pytest.mark.parametrize("verdict", [Verdict.GO_ON, Verdict.PAUSE])
def test_at_the_end_of_the_plan_there_is_nothing_to_pause(tmp_path: Path, verdict: Verdict) -> None:
    fitted = Run(epochs=2, checkpoint_every=100).fit(tmp_path / "c", tell(verdict, 2))
    assert (fitted.paused, fitted.stopped, fitted.steps) == (False, None, 2)
    assert not (tmp_path / "c").exists()


def test_a_run_that_is_told_to_stop_leaves_no_checkpoint(tmp_path: Path) -> None:
    fitted = Run(epochs=4).fit(tmp_path / "c", tell(Verdict.STOP, 1))
    assert (fitted.paused, fitted.stopped) == (False, "told to")
    assert not (tmp_path / "c").exists()


# ------------------------------------------------------------------------------------------------------ micro-batches


@pytest.mark.parametrize("parts", [2, 3, 5, 16])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_micro_batches_train_the_same_weights(parts: int, optimizer: str) -> None:
    settings: dict[str, Any] = {"model": {**MLP, "dropout": 0.0}, "optimizer": optimizer, "epochs": 2}
    whole, divided = Run(**settings), Run(**settings, micro_batches=parts)
    whole.fit()
    divided.fit()
    for step, figures in whole.trace.items():
        assert divided.trace[step]["train/loss"] == pytest.approx(figures["train/loss"], rel=1e-4)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(divided.network.state_dict()[name], value, rtol=1e-3, atol=1e-4)


class Measuring(nn.Module):
    """Keeps how many examples it was trained on at once."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)
        self.sizes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.sizes.append(len(inputs))
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs


@pytest.mark.parametrize(
    ("num_train", "batch_size", "parts", "sizes"),
    [
        (32, 16, 2, [8, 8, 8, 8]),
        (35, 16, 2, [8, 8, 8, 8, 3]),
        (34, 16, 4, [4] * 8 + [2]),
        (14, 7, 4, [3, 2, 2, 3, 2, 2]),
        (16, 16, 100, [2] * 8),
        (3, 1, 4, [1, 1, 1]),  # as they come
    ],
)
def test_batches_are_divided_evenly_and_no_part_is_a_single_example(
    num_train: int, batch_size: int, parts: int, sizes: list[int]
) -> None:
    model = {"_target_": f"{__name__}.Measuring"}
    run = Run(model=model, dataset=part_of_digits(num_train), batch_size=batch_size, epochs=1, micro_batches=parts)
    run.fit()
    found = next(module.sizes for module in run.network.modules() if isinstance(module, Measuring))
    assert found == sizes


def test_batch_norm_trains_in_micro_batches() -> None:
    fitted = Run(model=CNN, dataset=part_of_digits(35), batch_size=16, epochs=1, micro_batches=64).fit()
    assert math.isfinite(fitted.figures["val/loss"])


# ------------------------------------------------------------------------------------------- what figures depend on


@pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])
def test_a_data_loader_gives_bitwise_the_figures_of_resident_data(model: dict[str, Any]) -> None:
    resident = Run(model=model, epochs=3)
    loader = Run(model=model, epochs=3, batches=lambda examples: LoaderBatches(examples, CPU, 0))
    assert_same_fit(loader.fit(), resident.fit())
    assert loader.trace == resident.trace
    assert_same_weights(loader.network, resident.network)


class Drawing(nn.Module):
    """A user's network that draws noise from every generator there is, as careless code does."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(inputs.flatten(1))
        if not self.training:
            return outputs
        return outputs + float(torch.rand(())) + random.random() + np.random.random()


@pytest.mark.parametrize("model", [MLP, {"_target_": f"{__name__}.Drawing"}], ids=["ours", "a user's"])
def test_figures_do_not_depend_on_what_the_process_drew_before(model: dict[str, Any]) -> None:
    one, other = Run(model=model, epochs=2), Run(model=model, epochs=2)
    one.fit()
    torch.rand(100)
    random.random()
    np.random.random()
    other.fit()
    assert one.trace == other.trace


def test_another_seed_gives_other_figures() -> None:
    one, other = Run(epochs=1), Run(epochs=1, seed=1)
    one.fit()
    other.fit()
    assert one.trace != other.trace


def test_a_report_that_draws_random_numbers_changes_nothing() -> None:
    quiet, drawing = Run(epochs=3), Run(epochs=3)
    quiet.fit()

    def report(step: int, figures: Mapping[str, float]) -> Ruling:
        torch.rand(3)
        return GO_ON

    drawing.fit(report=report)
    assert quiet.trace == drawing.trace


# -------------------------------------------------------------------------------------------------- epochs and rates


class Recording:
    """Hands batches on and keeps the order in which they came."""

    def __init__(self, examples: Examples) -> None:
        self._batches = ResidentBatches(examples, CPU)
        self.train: list[list[list[int]]] = []

    def __call__(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        seen: list[list[int]] = []
        if torch.is_grad_enabled():
            self.train.append(seen)
        for inputs, targets, indices in self._batches(order, batch_size):
            seen.append(indices.tolist())
            yield inputs, targets, indices


def recorded(**settings: Any) -> tuple[Run, Recording]:
    run = Run(**settings)
    recording = Recording(run.dataset.examples)
    run.training.batches = recording
    return run, recording


def part_of_digits(num_train: int) -> Dataset:
    whole = digits_dataset(250)
    split = Split(train=whole.split.train[:num_train], validation=whole.split.validation, test=whole.split.test)
    return Dataset(examples=whole.examples, split=split)


@pytest.mark.parametrize(
    ("num_train", "batch_size", "sizes"),
    [
        (32, 16, [16, 16]),
        (33, 16, [16, 16]),  # batch norm cannot take the last one alone
        (34, 16, [16, 16, 2]),
        (15, 16, [15]),
        (17, 16, [16]),
        (3, 1, [1, 1, 1]),
        (1, 16, [1]),
    ],
)
def test_an_epoch_takes_every_training_example_once_but_for_a_last_one_alone(
    num_train: int, batch_size: int, sizes: list[int]
) -> None:
    dataset = part_of_digits(num_train)
    run, recording = recorded(model=LINEAR, dataset=dataset, batch_size=batch_size, epochs=2)
    run.fit()
    assert [[len(batch) for batch in epoch] for epoch in recording.train] == [sizes, sizes]
    for epoch in recording.train:
        taken = [index for batch in epoch for index in batch]
        assert len(set(taken)) == len(taken) == sum(sizes)
        assert set(taken) <= set(dataset.split.train.tolist())


def test_batch_norm_meets_no_batch_of_one() -> None:
    assert math.isfinite(Run(model=CNN, dataset=part_of_digits(33), batch_size=16, epochs=1).fit().figures["val/loss"])


def test_each_epoch_has_an_order_of_its_own_by_seed_and_number() -> None:
    orders = []
    for seed in (0, 0, 1):
        run, recording = recorded(model=LINEAR, epochs=2, seed=seed)
        run.fit()
        orders.append(recording.train)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0][0] != orders[0][1]


def test_the_rate_of_every_step_is_the_base_rate_times_the_schedule() -> None:
    budgets: list[Budget] = []
    rates: list[float] = []

    def schedule(budget: Budget) -> Curve:
        budgets.append(budget)
        return Curve(np.linspace(0.5, 1.0, budget.steps))

    run = Run(model=LINEAR, dataset=part_of_digits(64), batch_size=16, epochs=3, schedule=schedule)
    run.torch_optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    run.fit()
    assert budgets == [Budget(steps=12, steps_per_epoch=4)]
    assert rates == pytest.approx(list(3e-3 * np.linspace(0.5, 1.0, 12)))
    assert [run.trace[epoch]["train/lr"] for epoch in (1, 2, 3)] == pytest.approx([rates[3], rates[7], rates[11]])


def test_momentum_that_is_off_stays_off() -> None:
    def schedule(budget: Budget) -> Curve:
        return Curve(np.ones(budget.steps), momenta=np.full(budget.steps, 0.95))

    run = Run(model=LINEAR, dataset=part_of_digits(64), batch_size=16, epochs=1, schedule=schedule, optimizer="still")
    run.fit()
    assert run.torch_optimizer.param_groups[0]["momentum"] == 0.0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_schedule_of_momentum_sets_momentum_or_the_first_beta(optimizer: str) -> None:
    def schedule(budget: Budget) -> Curve:
        return Curve(np.ones(budget.steps), momenta=np.linspace(0.95, 0.85, budget.steps))

    run = Run(model=LINEAR, dataset=part_of_digits(64), batch_size=16, epochs=3, schedule=schedule, optimizer=optimizer)
    run.fit()
    group = run.torch_optimizer.param_groups[0]
    assert (group["momentum"] if optimizer == "sgd" else group["betas"][0]) == pytest.approx(0.85)


def test_the_training_loss_is_the_mean_over_examples() -> None:
    # a rate of 0 leaves the weights as they were, so that the mean can be worked out afterwards
    dataset = part_of_digits(38)
    run = Run(
        model=LINEAR, dataset=dataset, batch_size=16, epochs=1, schedule=lambda budget: Curve(np.zeros(budget.steps))
    )
    run.fit()
    inputs, targets = (
        torch.as_tensor(a[dataset.split.train]) for a in (dataset.examples.inputs, dataset.examples.targets)
    )
    with torch.inference_mode():
        expected = nn.functional.cross_entropy(run.network.eval()(inputs), targets)
    assert run.trace[1]["train/loss"] == pytest.approx(float(expected), rel=1e-6)


def test_figures_of_an_epoch_are_those_of_the_validation_split() -> None:
    run = Run(model=LINEAR, epochs=1)
    fitted = run.fit()
    validation = run.dataset.split.validation
    targets = run.dataset.examples.targets[validation]
    figures = {name for name in run.trace[1] if not name.startswith("layers/")}
    assert figures == {"train/loss", "train/lr", "val/accuracy", "val/loss"}
    assert run.trace[1]["val/accuracy"] == np.mean(fitted.predictions.argmax(1) == targets)
    assert fitted.predictions.shape == (len(validation), 10)
    assert fitted.predictions.dtype == np.float32
    np.testing.assert_allclose(fitted.predictions.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("size", [1023, 1024, 1025, 1797])
def test_predictions_keep_the_order_asked_for_over_any_number_of_batches(size: int) -> None:
    run = Run(model=LINEAR, dataset=digits_dataset(1797))
    indices = np.random.default_rng(0).permutation(1797)[:size]
    found = predict(run.network, ResidentBatches(run.dataset.examples, CPU), indices, "classification")
    with torch.inference_mode():
        expected = run.network.eval()(torch.as_tensor(run.dataset.examples.inputs[indices])).softmax(1)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-7)


# ------------------------------------------------------------------------------------------------- best and patience


class Scripted(nn.Module):
    """Answers validation with the next accuracy of a list; its weight counts the epochs."""

    def __init__(self, accuracies: list[float], losses: list[float] | None = None) -> None:
        super().__init__()
        self.epoch = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(()))
        self.accuracies = accuracies
        self.confidence = losses or [0.9] * len(accuracies)

    def train(self, mode: bool = True) -> "Scripted":
        if mode and not self.training:
            self.epoch.add_(1)
        return super().train(mode)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            return self.weight * torch.ones(len(inputs), 2)
        at = min(int(self.epoch), len(self.accuracies) - 1)
        right = torch.arange(len(inputs)) < round(self.accuracies[at] * len(inputs))
        sure = math.log(self.confidence[at] / (1 - self.confidence[at]))
        return torch.stack([torch.where(right, sure, -sure), torch.zeros(len(inputs))], 1)


def scripted(
    accuracies: list[float], losses: list[float] | None = None, patience: int | None = None, metric: str | None = None
) -> tuple[Training, Scripted]:
    targets = np.zeros(20, dtype=np.int64)
    inputs = np.zeros((20, 1), dtype=np.float32)
    examples = Examples(name="s", inputs=inputs, targets=targets, task="classification", classes=("a", "b"))
    everything = np.arange(20)
    model = Scripted(accuracies, losses)
    model.eval()
    model.epoch.sub_(1)
    training = Training(
        model=model,
        optimizer=torch.optim.SGD([model.weight], lr=0.0),
        schedule=schedules.constant,
        loss=HardLoss(task="classification", target_std=1.0),
        batches=ResidentBatches(examples, CPU),
        dataset=Dataset(examples=examples, split=Split(train=everything, validation=everything, test=everything)),
        objective=objective(metric, None, "classification"),
        plan=Plan(epochs=len(accuracies), batch_size=20, patience=patience, checkpoint_every=100),
        seed=0,
    )
    return training, model


BEST: dict[str, tuple[list[float], list[float] | None, str | None, int]] = {
    "the highest accuracy": ([0.1, 0.9, 0.5, 0.8], None, None, 2),
    "the first of equals": ([0.1, 0.9, 0.9, 0.9], None, None, 2),
    "the last": ([0.1, 0.2, 0.3, 0.4], None, None, 4),
    "of equal accuracies the lowest loss": ([0.9, 0.9, 0.9, 0.9], [0.6, 0.6, 0.8, 0.7], None, 3),
    "the lowest loss where that is the objective": ([0.5, 0.9, 0.9, 0.5], [0.6, 0.6, 0.7, 0.9], "loss", 3),
}


@pytest.mark.parametrize(("accuracies", "losses", "metric", "best"), BEST.values(), ids=BEST)
def test_the_best_epochs_weights_and_figures_are_kept(
    accuracies: list[float], losses: list[float] | None, metric: str | None, best: int
) -> None:
    training, model = scripted(accuracies, losses, metric=metric)
    fitted = training.fit(lambda step, figures: GO_ON)
    assert (fitted.best_step, fitted.steps, fitted.stopped) == (best, 4, None)
    assert int(model.epoch) == best - 1
    assert fitted.figures["val/accuracy"] == pytest.approx(accuracies[best - 1])
    assert np.mean(fitted.predictions.argmax(1) == 0) == pytest.approx(accuracies[best - 1])


PATIENCE: dict[str, tuple[list[float], int | None, int, str | None]] = {
    "none": ([0.9, *[0.1] * 9], None, 10, None),
    "of one": ([0.5, 0.6, 0.6, 0.9], 1, 3, "no better figure for 1 epochs"),
    "of three": ([0.5, 0.6, 0.1, 0.1, 0.1, 0.9], 3, 5, "no better figure for 3 epochs"),
    "renewed": ([0.5, 0.1, 0.6, 0.1, 0.7, 0.1], 2, 6, None),
    "longer than the plan": ([0.9, 0.1, 0.1], 5, 3, None),
}


@pytest.mark.parametrize(("accuracies", "patience", "steps", "stopped"), PATIENCE.values(), ids=PATIENCE)
def test_patience_ends_a_run_that_gets_no_better(
    accuracies: list[float], patience: int | None, steps: int, stopped: str | None
) -> None:
    fitted = scripted(accuracies, patience=patience)[0].fit(lambda step, figures: GO_ON)
    assert (fitted.steps, fitted.stopped) == (steps, stopped)


def test_a_report_may_stop_the_run_and_its_reason_is_kept() -> None:
    run = Run(epochs=5)
    fitted = run.fit(report=tell(Verdict.STOP, 2, "rung at step 2"))
    assert (fitted.steps, fitted.stopped) == (2, "rung at step 2")
    assert list(run.trace) == [1, 2]


# --------------------------------------------------------------------------------------------------- what goes wrong


def failing_from(call: int, value: float) -> Loss:
    calls = iter(range(1_000_000))

    def loss(outputs: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        factor = value if next(calls) >= call else 1.0
        return nn.functional.cross_entropy(outputs, targets) * factor

    return loss


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
def test_a_loss_that_is_no_number_ends_the_run_in_its_epoch(value: float) -> None:
    dataset = part_of_digits(64)
    run = Run(dataset=dataset, batch_size=16, loss=failing_from(6, value), epochs=5)  # epoch 2 has calls 4 to 7
    with pytest.raises(NonFiniteError, match=r"training loss became (nan|inf) in step 3 of epoch 2"):
        run.fit()
    assert list(run.trace) == [1]


class Bursting(nn.Module):
    """Finite while it trains, not when it is asked."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs if self.training else outputs * math.inf


def test_predictions_that_are_no_numbers_end_the_run() -> None:
    run = Run(model={"_target_": f"{__name__}.Bursting"})
    with pytest.raises(NonFiniteError, match=r"predictions on validation .* after epoch 1: first in network"):
        run.fit()
    assert run.trace == {}


class Once(nn.Module):
    """In evaluation, gives NaN for inputs whose first value is `of`; `always` or the first time alone."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, of: float, always: bool) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)
        self.of, self.always, self.met = of, always, False

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(inputs.flatten(1))
        wrong = torch.isclose(inputs.flatten(1)[:, :1], torch.tensor(self.of))
        if self.training or (self.met and not self.always):
            return outputs
        self.met = self.met or bool(wrong.any())
        return outputs.masked_fill(wrong, math.nan)


@pytest.mark.parametrize(
    ("always", "words"), [(True, r"first in network \(Once\), in its own code"), (False, "a second pass is finite")]
)
def test_the_examples_whose_predictions_are_no_numbers_are_looked_into(
    always: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.train.loop.EVALUATION_BATCH", 8)
    dataset = digits_dataset(250)
    inputs = dataset.examples.inputs.astype(np.float32).copy()
    inputs[:, 0, 0, 0] = 0.0
    inputs[dataset.split.validation[-3], 0, 0, 0] = 1.0  # only its batch is wrong, and it is not the first
    dataset = Dataset(examples=dataclasses.replace(dataset.examples, inputs=inputs), split=dataset.split)
    node = {"_target_": f"{__name__}.Once", "of": 0.0, "always": always}
    run = Run(model=node, dataset=dataset, epochs=1, micro_batches=2, ema=0.9)
    once = run.network.network
    assert isinstance(once, Once)
    once.of = float(run.network.standardised(torch.as_tensor(inputs[dataset.split.validation[-3:-2]])).flatten()[0])
    shown: list[int] = []
    once.register_forward_hook(lambda _, given, __: shown.append(len(given[0])))
    with pytest.raises(NonFiniteError, match=words):
        run.fit()
    assert shown[-1] == 1


def test_predictions_are_looked_into_with_the_weights_that_gave_them() -> None:
    run = Run(ema=0.5, epochs=1)
    average = run.training.average
    assert average is not None
    name = next(name for name in average.weights if name.endswith("weight"))
    average.weights[name][0, 0] = math.nan
    with pytest.raises(NonFiniteError, match=r"whose weight \(NaN in .*became so in an earlier update"):
        run.fit()


@pytest.mark.parametrize(
    ("wrong", "words"), [(True, "the augmentation made 16 examples of the batch so"), (False, "loss")]
)
def test_an_augmentation_is_blamed_for_what_it_gives(wrong: bool, words: str) -> None:
    def augment(inputs: Tensor) -> tuple[Tensor, None]:
        return inputs * (math.nan if wrong else 2.0), None

    run = Run(loss=None if wrong else failing_from(0, math.nan))
    run.training.rules = dataclasses.replace(run.training.rules, augment=augment)
    with pytest.raises(NonFiniteError, match=rf"step 1 of epoch 1: .*{words}"):
        run.fit()


class Misshapen(nn.Module):
    """Gives a number of outputs of its own choice, or none at all."""

    def __init__(self, in_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), max(1, outputs))
        self.flat = outputs == 0

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs.squeeze(1) if self.flat else outputs


@pytest.mark.parametrize(
    ("outputs", "numbers", "said"),
    [
        (12, False, r"model: gives \(16, 12\) for 16 inputs; it must give \(16, 10\)"),  # cross-entropy would take it
        (3, True, r"model: gives \(16, 3\) for 16 inputs; it must give \(16, 1\)"),
        (0, True, r"model: gives \(16,\) for 16 inputs; it must give \(16, 1\)"),
    ],
)
def test_outputs_of_another_shape_are_refused_at_once(outputs: int, numbers: bool, said: str) -> None:
    model = {"_target_": f"{__name__}.Misshapen", "outputs": outputs}
    with pytest.raises(UsageError, match=said):
        Run(model=model, dataset=line(1.0, 0.0) if numbers else part_of_digits(64)).fit()


def test_a_run_that_diverges_leaves_its_last_whole_checkpoint(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dataset": part_of_digits(64), "batch_size": 16, "epochs": 5}
    with pytest.raises(NonFiniteError):
        Run(**settings, loss=failing_from(10, math.nan)).fit(tmp_path / "c")
    again = Run(**settings)
    again.fit(tmp_path / "c")
    assert list(again.trace) == [3, 4, 5]


# --------------------------------------------------------------------------------------------------------- regression


@cache
def line(scale: float, offset: float) -> Dataset:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(300, 3)).astype(np.float32)
    slope = np.array([1.0, -2.0, 0.5])
    noise = generator.normal(0, 0.1, 300)
    targets: Array = (scale * (inputs @ slope + noise) + offset).astype(np.float32)
    examples = Examples(name="line", inputs=inputs, targets=targets, task="regression")
    split = Split(train=np.arange(200), validation=np.arange(200, 250), test=np.arange(250, 300))
    return Dataset(examples=examples, split=split)


def test_a_regression_learns_and_answers_in_the_targets_unit() -> None:
    run = Run(model=LINEAR, optimizer="sgd", dataset=line(1000.0, 5000.0), epochs=15)
    fitted = run.fit()
    targets = run.dataset.examples.targets[200:250]
    figures = {name for name in fitted.figures if not name.startswith("layers/")}
    assert figures == {"train/loss", "train/lr", "val/loss", "val/rmse", "val/mae", "val/r2"}
    assert fitted.predictions.shape == (50,)
    assert fitted.figures["val/rmse"] == pytest.approx(
        math.sqrt(np.mean((fitted.predictions - targets) ** 2)), rel=1e-4
    )
    # the noise has a deviation of 100; a fit of 200 examples is hardly worse, the mean alone more than twenty times
    assert fitted.figures["val/rmse"] < 130


def test_the_targets_unit_does_not_change_how_a_regression_trains() -> None:
    one, other = (
        Run(model=LINEAR, optimizer="sgd", dataset=line(*unit), epochs=3) for unit in ((1.0, 0.0), (64.0, 0.0))
    )
    one.fit()
    other.fit()
    for step, figures in one.trace.items():
        assert other.trace[step]["train/loss"] == pytest.approx(figures["train/loss"], rel=1e-4)
        assert other.trace[step]["val/rmse"] == pytest.approx(64 * figures["val/rmse"], rel=1e-4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in GOLDEN_RUNS:
        (GOLDEN / f"{name}.json").write_text(json.dumps(traced(name), indent=1) + "\n")
