"""The figures of layers against what plain arithmetic gives, and nets of every kind."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search.train.checkpoint import load_state, save_state
from search.train.diagnostics.probe import DEAD_ROWS, Probe
from search.train.diagnostics.summary import NAMES
from search.train.diagnostics.table import FIGURES, LayerTable

INPUTS = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
TARGETS = torch.randint(3, (16,), generator=torch.Generator().manual_seed(2))


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor = INPUTS, *, parts: int = 1, bf16: bool = False
) -> None:
    optimizer.zero_grad()
    for xs, ys in zip(inputs.tensor_split(parts), TARGETS.tensor_split(parts), strict=True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(model(xs), ys) / parts
        loss.backward()
    optimizer.step()


def watched(
    model: nn.Module, inputs: Tensor = INPUTS, *, lr: float = 0.1, parts: int = 1, steps: int = 1
) -> LayerTable:
    optimizer = sgd(model, lr)
    probe = Probe(model, optimizer)
    for number in range(steps):
        with probe.watching(number):
            step(model, optimizer, inputs, parts=parts)
    return probe.table()


def figure(table: LayerTable, layer: str, name: str, row: int = -1) -> float:
    return float(table.of(name)[row, table.layers.index(layer)])


def test_figures_are_those_of_plain_arithmetic() -> None:
    model = mlp()
    with torch.no_grad():
        first = model[0](INPUTS)
        hidden = first.relu()
        squashed = model[3](model[2](hidden))
    before = model[0].get_parameter("weight").detach().clone()
    table = watched(model)
    assert figure(table, "0", "weight_norm") == pytest.approx(before.norm().item(), rel=1e-5)
    assert table.layers == ("0", "1", "2", "3", "4")
    assert table.kinds == ("Linear", "ReLU", "Linear", "Tanh", "Linear")
    assert figure(table, "0", "activation_mean") == pytest.approx(first.mean().item(), rel=1e-4)
    assert figure(table, "0", "activation_std") == pytest.approx(first.std(correction=0).item(), rel=1e-4)
    assert figure(table, "1", "silent") == pytest.approx((hidden.amax(0) == 0).float().mean().item())
    assert figure(table, "3", "saturated") == pytest.approx((squashed.abs() > 0.97).float().mean().item())
    parameters = [model[0].get_parameter(name) for name in ("weight", "bias")]
    weight, bias = (parameter.detach() for parameter in parameters)
    assert figure(table, "0", "update_ratio") == pytest.approx(
        ((weight - before).norm() / weight.norm()).item(), rel=1e-4
    )
    gradient = math.hypot(*(float(p.grad.norm()) for p in parameters if p.grad is not None))
    assert figure(table, "0", "gradient_norm") == pytest.approx(gradient, rel=1e-4)
    for name, values in (("weight", weight), ("bias", bias)):
        assert figure(table, "0", f"{name}_mean") == pytest.approx(values.mean().item(), rel=1e-3, abs=1e-6)
        assert figure(table, "0", f"{name}_std") == pytest.approx(values.std(correction=0).item(), rel=1e-4)
        assert figure(table, "0", f"{name}_max") == pytest.approx(values.abs().max().item(), rel=1e-5)
    assert math.isnan(figure(table, "1", "weight_norm"))


def test_watching_changes_nothing() -> None:
    bare, looked_at = mlp(), mlp()
    step(bare, sgd(bare))
    watched(looked_at)
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), looked_at.parameters(), strict=True))
    assert not any(module._forward_hooks for module in looked_at.modules())


def test_parts_of_a_batch_are_one_row() -> None:
    whole, parts = watched(mlp()), watched(mlp(), parts=4)
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-3, atol=1e-6)


def test_an_error_within_leaves_no_row_and_no_hook() -> None:
    model = mlp()
    probe = Probe(model, sgd(model))
    with pytest.raises(RuntimeError), probe.watching(0):
        model(INPUTS[:, :2])
    assert len(probe.table().steps) == 0
    assert not any(module._forward_hooks for module in model.modules())
    assert probe.figures() == {}


def test_units_are_dead_that_never_live_on_several_batches() -> None:
    model = mlp()
    model[0].get_parameter("bias").data[:4] = -100.0
    table = watched(model, steps=DEAD_ROWS + 1, lr=0.0)
    assert figure(table, "1", "silent") >= 0.5
    assert figure(table, "1", "dead") == figure(table, "1", "silent")  # always the same batch
    optimizer = sgd(model, 0.0)
    probe = Probe(model, optimizer)
    for number in range(DEAD_ROWS):
        with probe.watching(number):
            step(model, optimizer, INPUTS.roll(number, dims=1))
    assert figure(probe.table(), "1", "dead") == 0.5
    assert figure(probe.table(), "0", "gradient_zeros") >= 0.5


class Shared(nn.Module):
    """One activation after two layers, and one layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.relu(self.second(self.relu(self.first(self.relu(self.first(inputs))))))
        return outputs


def test_an_activation_has_a_row_for_each_layer_that_it_follows() -> None:
    assert watched(Shared()).layers == ("first", "relu", "second", "relu after second")


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    return model


def frozen() -> nn.Module:
    model = mlp()
    model[0].requires_grad_(False)
    return model


def with_unused() -> nn.Module:
    model = mlp()
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    return model


def recurrent(kind: Callable[..., nn.Module]) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = kind(1, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.head(self.rnn(inputs[..., None])[0][:, -1])
            return outputs

    return Net()


def weight_normed() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)), nn.ReLU(inplace=True), nn.Linear(4, 3))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.inner = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, activation=nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.inner(inputs.reshape(-1, 6, 1) + self.token).mean(1))
        return outputs


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "tied": (tied, ("0", "1", "2", "3")),
    "frozen": (frozen, ("0", "1", "2", "3", "4")),
    "unused": (with_unused, ("0", "1", "2", "3", "4", "network")),
    "no activation": (lambda: nn.Linear(6, 3), ("network",)),
    "gru": (lambda: recurrent(nn.GRU), ("rnn", "head")),
    "lstm": (lambda: recurrent(nn.LSTM), ("rnn", "head")),
    "rnn": (lambda: recurrent(nn.RNN), ("rnn", "head")),
    "weight norm": (weight_normed, ("0", "1", "2")),
    "attention": (
        Attention,
        (
            *("inner.self_attn", "inner.norm1", "inner.linear1", "inner.activation", "inner.linear2", "inner.norm2"),
            *("head", "network", "inner.self_attn.out_proj"),
        ),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_nets_of_every_kind(name: str) -> None:
    make, layers = NETS[name]
    table = watched(make(), steps=2)
    assert sorted(table.layers) == sorted(layers)
    assert np.isfinite(table.of("weight_norm")[:, -1]).all()
    assert (np.isfinite(table.values).sum(axis=2) > 0).all()


def test_frozen_layers_have_no_update_and_no_gradient() -> None:
    table = watched(frozen())
    assert math.isnan(figure(table, "0", "update_ratio"))
    assert math.isnan(figure(table, "0", "gradient_norm"))
    assert figure(table, "0", "weight_norm") > 0


def test_bounded_recurrent_outputs_may_be_saturated() -> None:
    net = recurrent(nn.RNN)
    net.rnn.weight_hh_l0.data *= 100  # type: ignore[union-attr, operator]
    assert figure(watched(net), "rnn", "saturated") > 0.3


def test_half_precision_is_looked_at_in_full() -> None:
    model = mlp()
    optimizer = sgd(model)
    probe = Probe(model, optimizer)
    with probe.watching(0):
        step(model, optimizer, bf16=True)
    assert figure(probe.table(), "0", "activation_std") == pytest.approx(
        figure(watched(mlp()), "0", "activation_std"), rel=0.02
    )


def test_a_compiled_model_is_known_by_its_weights_alone() -> None:
    model = torch.compile(mlp(), backend="eager")
    optimizer = sgd(model)  # type: ignore[arg-type]
    probe = Probe(model, optimizer)  # type: ignore[arg-type]
    with probe.watching(0):
        step(model, optimizer)  # type: ignore[arg-type]
    assert probe.skipped is not None
    table = probe.table()
    assert table.layers == ("0", "2", "4")
    assert np.isfinite(table.of("update_ratio")).all()
    assert np.isnan(table.of("activation_std")).all()


class Scaled(nn.Module):
    """Rectifies a single number of its own, and is scripted in part."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.relu = nn.Parameter(torch.tensor(2.0)), nn.ReLU()
        self.scripted = torch.jit.script(nn.Sequential(nn.Linear(6, 4), nn.ReLU()))
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.scripted(inputs)) * self.relu(self.scale)
        return outputs


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_number_alone_and_a_scripted_part_are_looked_at_as_far_as_they_can_be() -> None:
    table = watched(Scaled())
    assert figure(table, "relu", "silent") == 0.0
    assert table.kinds[table.layers.index("scripted.0")] == "Linear"
    assert figure(table, "scripted.0", "update_ratio") > 0
    assert math.isnan(figure(table, "scripted.0", "activation_std"))
    assert figure(table, "head", "activation_std") > 0


def test_a_layer_that_has_no_shape_yet_is_known_by_its_weights_from_the_second_row() -> None:
    torch.manual_seed(0)
    table = watched(nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.Linear(5, 3)), steps=2)
    assert table.layers == ("0", "1", "2")
    assert table.kinds == ("Linear", "ReLU", "Linear")
    assert figure(table, "0", "activation_std", 0) > 0
    assert math.isnan(figure(table, "0", "weight_norm", 0))
    assert figure(table, "0", "update_ratio", 1) > 0


class Sparse(nn.Linear):
    """Gives outputs that no norm is taken of."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).to_sparse()


class Dense(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.to_dense()


class Secret(nn.Linear):
    """Does not say what its parameters are once it is trained."""

    def named_parameters(self, *args: Any, **keywords: Any) -> Iterator[tuple[str, nn.Parameter]]:
        raise RuntimeError("nobody may look")


def test_outputs_that_cannot_be_looked_at_leave_the_weights() -> None:
    model = nn.Sequential(Sparse(6, 3), Dense())
    probe, optimizer = Probe(model, sgd(model)), sgd(model)
    for number in range(2):
        with probe.watching(number):
            step(model, optimizer)
    assert (probe.skipped or "").startswith("what layers give cannot be looked at: ")
    assert figure(probe.table(), "0", "update_ratio") > 0
    assert not model[0]._forward_hooks


def test_looking_that_raises_ends_no_training() -> None:
    secret = Secret(6, 3)
    before, optimizer = secret.weight.detach().clone(), torch.optim.SGD([secret.weight, secret.bias], lr=0.1)
    probe = Probe(secret, optimizer)
    for number in range(2):
        with probe.watching(number):
            step(secret, optimizer)
    assert not torch.equal(secret.weight, before)
    assert probe.skipped == "its layers cannot be looked at: RuntimeError: nobody may look"
    assert probe.figures() == {}
    assert len(probe.table().steps) == 0
    assert not secret._forward_hooks


def test_a_step_that_the_scaler_left_out_has_no_gradients() -> None:
    model = mlp()
    optimizer = sgd(model)
    scaler, probe = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-120), Probe(model, sgd(model))
    for number in range(2):
        optimizer.zero_grad()
        with probe.watching(number):
            loss = nn.functional.cross_entropy(model(INPUTS), TARGETS) * 100
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    for name in ("gradient_norm", "gradient_zeros", "update_ratio"):
        assert np.isnan(probe.table().of(name)[0]).all()
        assert np.isfinite(probe.table().of(name)[1, [0, 2, 4]]).all()
    assert np.isfinite(probe.table().of("weight_norm")[0, [0, 2, 4]]).all()


def test_figures_are_few_and_have_fixed_names() -> None:
    assert len(NAMES) <= 12
    model = mlp()
    optimizer = sgd(model)
    probe = Probe(model, optimizer)
    for number in range(2):
        with probe.watching(number):
            step(model, optimizer)
        probe.keep_predictions(np.full((100, 3), number, np.float32))
    assert set(probe.figures()) == set(NAMES)
    assert probe.figures()["layers/jitter"] == 1.0
    assert probe.table().predictions.shape == (2, 64, 3)


def test_a_run_that_is_taken_up_again_has_the_whole_table(tmp_path: Path) -> None:
    model = mlp()
    model[0].get_parameter("bias").data[:4] = -100.0
    optimizer = sgd(model)
    probe = Probe(model, optimizer)
    for number in range(3):
        with probe.watching(number):
            step(model, optimizer)
        probe.keep_predictions(np.zeros((4, 3)))
    save_state(tmp_path / "state", probe.state_dict())
    stored = load_state(tmp_path / "state")
    assert stored is not None
    later = Probe(model, optimizer)
    later.load_state_dict(stored)
    for each in (probe, later):
        with each.watching(3):
            model(INPUTS)
    assert_same(later.table(), probe.table())


def test_a_table_is_one_file(tmp_path: Path) -> None:
    table = watched(mlp(), steps=2)
    table.save(tmp_path / "table.npz")
    assert_same(LayerTable.load(tmp_path / "table.npz"), table)
    (tmp_path / "table.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError):
        LayerTable.load(tmp_path / "table.npz")
    assert table.values.shape == (2, 5, len(FIGURES))


def assert_same(found: LayerTable, wanted: LayerTable) -> None:
    assert (found.layers, found.kinds) == (wanted.layers, wanted.kinds)
    for name in ("steps", "rates", "values", "predictions"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
