"""Which trainings can be stacked, and what is said of those that cannot."""

import dataclasses
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from search.train.batches import LoaderBatches
from search.train.fused import Stack, difference, form_of, why_alone
from search.train.fused.program import Layered, Program, Vmapped
from search.train.fused.stack import CannotStackError
from search.train.loop import Training
from search.train.losses import DistillationLoss
from tests.kits.stacks import (
    ADAM,
    ADAMW,
    CNN,
    GRU,
    MLP,
    RESNET,
    RMSPROP,
    SGD,
    TRANSFORMER,
    Nodes,
    compared,
    epoch_alone,
    member,
    stacked,
    states_apart,
)

EXACT = 1e-9


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ------------------------------------------------------------------------------------------------- what is alone


def with_loader(training: Training) -> None:
    training.batches = LoaderBatches(training.dataset.examples, torch.device("cpu"), 0)


def with_teacher(training: Training) -> None:
    train = training.dataset.split.train
    teacher = np.full((len(train), 10), 0.1, np.float32)
    training.loss = DistillationLoss(training.loss, teacher, train, temperature=2.0, mix=0.5, target_std=1.0)


def frozen(training: Training) -> None:
    next(iter(training.model.parameters())).requires_grad = False


def tied(training: Training) -> None:
    layers = [module for module in training.model.modules() if isinstance(module, nn.Linear)]
    layers[1].bias = layers[0].bias


def with_a_half(training: Training) -> None:
    next(iter(training.model.parameters())).data = next(iter(training.model.parameters())).data.half()


def compiled(training: Training) -> None:
    training.plan = dataclasses.replace(training.plan, compile=True)


def of_another_kind(training: Training) -> None:
    training.model = nn.Linear(2, 2)


def with_several_rates(training: Training) -> None:
    groups = [{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(training.model.parameters())]
    training.optimizer = torch.optim.SGD(groups, lr=0.1)


def twice(inputs: Tensor) -> Tensor:
    return 2 * inputs


NOTHING: Callable[[Training], None] = lambda training: None  # noqa: E731
ALONE: dict[str, tuple[dict[str, Any], Callable[[Training], None]]] = {
    "its model is of another kind": ({}, of_another_kind),
    "trainer.compile=true": ({}, compiled),
    "trainer.precision=fp16 scales each loss by itself": ({"trainer": {"precision": "fp16"}}, NOTHING),
    "trainer.precision=bf16 does not reach convolutions in a stack": (
        {"model": CNN, "trainer": {"precision": "bf16"}},
        NOTHING,
    ),
    "its data does not lie on the device": ({}, with_loader),
    "it has a teacher": ({}, with_teacher),
    "its augmentation is one of your own": ({"augment": {"_target_": f"{__name__}.twice"}}, NOTHING),
    "some of its weights are frozen": ({}, frozen),
    "some of its layers share weights": ({}, tied),
    "its weights are of several types": ({}, with_a_half),
    "its optimiser is NAdam": ({"optimizer": {"_target_": "torch.optim.NAdam"}}, NOTHING),
    "its optimiser has amsgrad=True": ({"optimizer": {**ADAM, "amsgrad": True}}, NOTHING),
    "its optimiser has maximize=True": ({"optimizer": {**SGD, "maximize": True}}, NOTHING),
    "its optimiser has dampening=0.1": ({"optimizer": {**SGD, "nesterov": False, "dampening": 0.1}}, NOTHING),
    "its optimiser has centered=True": ({"optimizer": {**RMSPROP, "centered": True}}, NOTHING),
    "its optimiser has decoupled_weight_decay=True": (
        {"optimizer": {**ADAM, "decoupled_weight_decay": True}},
        NOTHING,
    ),
    "its weights have several learning rates": ({}, with_several_rates),
}


@pytest.mark.parametrize(("nodes", "change"), ALONE.values(), ids=ALONE)
def test_why_a_training_cannot_be_in_a_stack(
    nodes: dict[str, Any], change: Callable[[Training], None], request: pytest.FixtureRequest
) -> None:
    assert why_alone(member()) is None
    training = member(double=False, **nodes)
    change(training)
    assert why_alone(training) == request.node.callspec.id


def test_settings_that_are_tensors_keep_a_training_alone() -> None:
    training = member(double=False)
    training.optimizer.param_groups[0]["lr"] = torch.tensor(0.1)
    assert why_alone(training) == "its optimiser's settings are tensors"


# --------------------------------------------------------------------------------------------------- what is alike


class Own(nn.Module):
    """A network of the user's own, with an attribute of any name and value."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, name: str = "temperature", value: Any = 1.0):
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)
        setattr(self, name, value)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(inputs.flatten(1))
        return found


def own(name: str, value: Any) -> Training:
    """Return a training of a network with such an attribute, set where configurations cannot say it."""
    training = member(model={"_target_": f"{__name__}.Own"})
    setattr(training.model.network, name, value)
    return training


APART: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "width": ({}, {"model": {**MLP, "width": 13}}),
    "depth": ({}, {"model": {**MLP, "depth": 1}}),
    "activation": ({}, {"model": {**MLP, "activation": "tanh"}}),
    "kernel": ({"model": CNN}, {"model": {**CNN, "kernel": 5}}),
    "resolution": ({"model": CNN, "inputs": {"resolution": 4}}, {"model": CNN, "inputs": {"resolution": 5}}),
    "resolution or none": ({"model": CNN, "inputs": {"resolution": 4}}, {"model": CNN}),
    "features": ({"data": "wine", "inputs": {"features": 4}}, {"data": "wine", "inputs": {"features": 5}}),
    "data": ({"data": "wine"}, {"data": "iris"}),
    "batch size": ({}, {"trainer": {"batch_size": 32}}),
    "accumulate": ({}, {"trainer": {"accumulate": 2}}),
    "parts": ({"trainer": {"micro_batches": 2}}, {}),
    "examples": ({}, {"trainer": {"examples": 40}}),
    "precision": ({"double": False}, {"double": False, "trainer": {"precision": "bf16"}}),
    "type": ({"double": False}, {"double": True}),
    "loss": ({}, {"loss": {"_target_": "torch.nn.CrossEntropyLoss"}}),
    "losses": (
        {"loss": {"_target_": "torch.nn.CrossEntropyLoss"}},
        {"loss": {"_target_": "torch.nn.CrossEntropyLoss", "label_smoothing": 0.1}},
    ),
}


@pytest.mark.parametrize(("one", "other"), APART.values(), ids=APART)
def test_what_must_be_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert form_of(member(seed=1, **one)) == form_of(member(seed=2, **one))
    assert form_of(member(**one)) != form_of(member(**other))


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("temperature", 1.0, 2.0),
        ("_temperature", 1.0, 2.0),
        ("activation", torch.relu, torch.tanh),
        ("activation", functional.relu, functional.gelu),
        ("activation", lambda x: x, lambda x: x),
        ("sizes", [1, {"a": 2}], [1, {"a": 3}]),
        ("scale", torch.ones(2), torch.ones(2)),
        ("p", 0.1, 0.2),
    ],
    ids=["a number", "a private one", "built-in functions", "functions", "lambdas", "lists", "tensors", "not a rate"],
)
def test_attributes_of_a_users_network_must_be_the_same(name: str, one: Any, other: Any) -> None:
    assert form_of(own(name, one)) == form_of(own(name, one))
    assert form_of(own(name, one)) != form_of(own(name, other))


def test_buffers_may_differ_in_what_they_hold_but_not_in_their_shape() -> None:
    forms = []
    for value in (torch.zeros(3), torch.ones(3), torch.zeros(4), torch.zeros(3, dtype=torch.int64)):
        training = own("temperature", 1.0)
        training.model.network.register_buffer("table", value)  # type: ignore[union-attr]
        forms.append(form_of(training))
    assert forms[0] == forms[1]
    assert len(set(forms)) == 3


# ----------------------------------------------------------------------------------------- what cannot be, after all


class Odd(nn.Module):
    """A network that does one thing that a stack cannot."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, does: str) -> None:
        super().__init__()
        self.hidden = nn.Linear(math.prod(in_shape), 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8, num_outputs)
        self.unused = nn.Linear(2, 2) if does == "leaves weights out" else None
        self.register_buffer("seen", torch.zeros(()))
        self.calls, self.does = 0, does
        self.generator = np.random.default_rng(0) if does == "has a generator" else None

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.drop(self.norm(self.hidden(inputs.flatten(1))))
        hidden = ODD.get(self.does, lambda _, x: x)(self, hidden)
        found: Tensor = self.head(hidden)
        return found


def branching(_: Odd, x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def counting(module: Odd, x: Tensor) -> Tensor:
    module.calls += 1
    return x / module.calls


def replacing(module: Odd, x: Tensor) -> Tensor:
    if module.training:
        module.seen = module.get_buffer("seen") + 1
    return x


def drawing(_: Odd, x: Tensor) -> Tensor:
    return x * random.random()


ODD: dict[str, Callable[[Odd, Tensor], Tensor]] = {
    "branches": branching,
    "drops by a function": lambda module, x: functional.dropout(x, 0.2, module.training),
    "draws in torch": lambda module, x: x + torch.randn_like(x) if module.training else x,
    "draws in numpy": lambda module, x: x * np.random.rand() if module.training else x,
    "draws in Python": lambda module, x: drawing(module, x) if module.training else x,
    "counts": lambda module, x: counting(module, x) if module.training else x,
    "replaces a buffer": replacing,
    "leaves weights out": lambda _, x: x,
    "is done one by one": lambda _, x: torch._weight_norm(x, x.new_ones(len(x), 1), 0),
    "says a number": lambda _, x: x * x.mean().item(),
}
WORDS = {
    "draws in numpy": "draws random numbers",
    "draws in Python": "draws random numbers",
    "counts": "changes its attributes",
    "is done one by one": "torch does aten::_weight_norm for one network after the other",
    "replaces a buffer": "puts another tensor in the place of its buffer",
}


@pytest.mark.parametrize("does", ODD)
def test_what_a_stack_cannot_do_is_said_in_a_line_and_leaves_no_trace(does: str) -> None:
    model = {"_target_": f"{__name__}.Odd", "does": does}
    alone, others = ([member(seed=seed, model=model, optimizer=ADAMW) for seed in (0, 1)] for _ in range(2))
    for training in (*alone, *others):
        training.begin()
    assert len({form_of(training) for training in others}) == 1
    stack = Stack(others)
    with pytest.raises(CannotStackError, match=WORDS.get(does, ".+")) as raised:
        stack.prove()
    assert "\n" not in str(raised.value)
    for training, other in zip(alone, others, strict=True):
        stack.release(other)
        assert all(module.training for module in other.model.modules())
        expected, found = epoch_alone(training), epoch_alone(other)
        assert expected[0][0] == found[0][0]
        np.testing.assert_array_equal(expected[1], found[1])
        if does != "leaves weights out":
            assert states_apart(training, other) == 0


def test_a_network_that_gives_something_else_in_a_stack_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack([member(seed=seed) for seed in (0, 1)])
    judged = Program.judged
    monkeypatch.setattr(Program, "judged", lambda self, inputs: judged(self, inputs) * (1 + 1e-6))
    with pytest.raises(CannotStackError, match="something else"):
        stack.prove()


ACROSS: dict[str, Callable[[Tensor], Tensor]] = {
    "takes the batch's mean off": lambda x: x - x.mean(dim=0),
    "divides by what is largest": lambda x: x / x.abs().max().clamp(min=50.0),
    "turns over": lambda x: x.flip(0),
}


@pytest.mark.parametrize("does", ACROSS)
def test_a_network_that_looks_at_its_whole_batch_is_not_run_on_that_of_all(does: str) -> None:
    model = {"_target_": f"{__name__}.Across", "does": does}
    stack = stacked([member(seed=seed, model=model) for seed in (0, 1)])
    assert stack.common.program is Vmapped
    assert compared([{"model": model, "seed": 0}, {"model": model, "seed": 1}]) < EXACT


@pytest.mark.parametrize("hook", ["register_hook", "register_post_accumulate_grad_hook", "register_full_backward_hook"])
def test_a_network_with_hooks_on_gradients_is_alone(hook: str) -> None:
    training = member()
    assert why_alone(training) is None
    on = training.model if "full" in hook else next(training.model.parameters())
    if hook == "register_full_backward_hook":
        on = next(module for module in training.model.modules() if isinstance(module, nn.Linear))
    getattr(on, hook)(lambda *_: None)
    assert why_alone(training) == "it has hooks on gradients"


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        ({"model": {**MLP, "activation": "tanh"}}, "the attribute network.body.2.class"),
        ({"model": {**MLP, "width": 20}}, "the attribute network.body.1.out_features"),
        ({"trainer": {"examples": 40}}, "the statistics of their training inputs"),
        ({"trainer": {"batch_size": 32}}, "their batches"),
    ],
)
def test_what_two_forms_differ_in_is_said(nodes: dict[str, Any], what: str) -> None:
    assert difference(form_of(member()), form_of(member(**nodes))) == what


def test_a_network_that_drops_in_another_order_than_examples_come_is_not_run_on_the_batch_of_all() -> None:
    """Masks are made for the networks one after the other, and this one has them all in each row."""
    nodes: list[dict[str, Any]] = [
        {"model": {"_target_": f"{__name__}.TimeFirst", "dropout": rate}, "seed": seed}
        for seed, rate in enumerate([0.1, 0.5, 0.0])
    ]
    assert stacked([member(**node) for node in nodes]).common.program is Vmapped
    assert compared(nodes) < EXACT


class TimeFirst(nn.Module):
    """A network over the rows of a picture that has them as its first axis."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(in_shape[-1], 6), nn.Linear(6, num_outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.cell(x.flatten(1, -2)).transpose(0, 1)
        found: Tensor = self.head(self.dropout(rows.tanh()).mean(dim=0))
        return found


class Across(nn.Module):
    """A network whose outputs for an example depend on the others of its batch."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, does: str) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)
        self.does = does

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(ACROSS[self.does](inputs.flatten(1)))
        return found


BUNDLED: dict[str, tuple[dict[str, Any], str]] = {
    "linear": ({"_target_": "search.train.models.linear.Linear"}, ""),
    "mlp": ({**MLP, "dropout": 0.2}, ""),
    "cnn": ({**CNN, "dropout": 0.2}, ""),
    "resnet": ({**RESNET, "dropout": 0.2}, ""),
    "transformer": (TRANSFORMER, ""),
    "transformer with dropout": ({**TRANSFORMER, "dropout": 0.2}, ""),
    "gru": (GRU, r"Batching rule not implemented for aten::gru\.input"),
    "gru with dropout": ({**GRU, "layers": 2, "dropout": 0.2}, r"Batching rule not implemented for aten::gru\.input"),
}


@pytest.mark.parametrize(("model", "words"), BUNDLED.values(), ids=BUNDLED)
def test_which_of_the_bundled_networks_can_be_stacked(model: dict[str, Any], words: str) -> None:
    members: list[Nodes] = [{"model": model, "seed": 0}, {"model": model, "seed": 1, "optimizer": SGD}]
    if not words:
        assert compared(members) < EXACT
        transformer = model["_target_"].endswith("Transformer")  # whose positions are no layer's
        assert stacked([member(**nodes) for nodes in members]).common.program is (Vmapped if transformer else Layered)
        return
    with pytest.raises(CannotStackError, match=words):
        stacked([member(**nodes) for nodes in members])


# ------------------------------------------------------------------------------------------- networks that are odd


class Positive(nn.Module):
    """A parametrisation."""

    def forward(self, weight: Tensor) -> Tensor:
        return functional.softplus(weight)


class Scaled(nn.Module):
    """A network with a weight that is a single number, a parametrised one, and buffers to go by and to count in."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.projection = nn.Linear(math.prod(in_shape), 8)
        nn.utils.parametrize.register_parametrization(self.projection, "bias", Positive())
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("directions", torch.randn(8, 8))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.prelu = nn.PReLU()
        self.head = nn.Linear(8, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.get_buffer("steps").add_(1)
        hidden = self.prelu(self.projection(inputs.flatten(1)) @ self.directions)
        found: Tensor = self.head(hidden) * self.scale
        return found


def test_networks_of_ones_own_with_single_numbers_and_buffers_can_be_stacked() -> None:
    nodes = [{"model": {"_target_": f"{__name__}.Scaled"}, "seed": seed, "trainer": {"ema": 0.9}} for seed in (0, 1)]
    assert compared(nodes, epochs=2) < EXACT


def test_a_step_of_a_stack_calls_the_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    forward = Own.forward

    def counted(network: Own, inputs: Tensor) -> Tensor:
        calls.append(network.training)
        return forward(network, inputs)

    monkeypatch.setattr(Own, "forward", counted)
    trainings = [member(seed=seed, model={"_target_": f"{__name__}.Own"}) for seed in range(32)]
    stack = stacked(trainings)
    calls.clear()
    for training in trainings:
        training.begin()
    stack.run_epoch()
    assert calls.count(True) == trainings[0].steps_per_epoch
    assert calls.count(False) == 1


def test_inputs_that_are_standardised_batch_by_batch_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.train.fused.inputs._MOST_BYTES", 0)
    monkeypatch.setattr("search.train.fused.stack._EVALUATED", 20)
    assert compared([{"model": CNN, "inputs": {"resolution": 5}, "seed": seed} for seed in (0, 1)]) < EXACT
