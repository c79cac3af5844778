import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from search.errors import UsageError
from search.train.data import digits
from search.train.models.cnn import CNN
from search.train.models.gru import GRU, POOLINGS
from search.train.models.linear import Linear
from search.train.models.mlp import ACTIVATIONS, MLP, NORMS
from search.train.models.resnet import ResNet
from search.train.models.transformer import Transformer

Shape = tuple[int, ...]
Make = Callable[[Shape, int], nn.Module]

TABLE, SERIES, SHORT_SERIES, PICTURE, WIDE_PICTURE = (5,), (1, 40), (3, 7), (1, 8, 8), (3, 9, 6)
GRIDS: list[Shape] = [SHORT_SERIES, SERIES, PICTURE, WIDE_PICTURE]
ALL = [TABLE, *GRIDS]


def mlp(**options: str) -> Make:
    return lambda shape, n: MLP(shape, n, width=16, depth=2, dropout=0.1, **options)


def resnet(preactivation: bool) -> Make:
    return lambda s, n: ResNet(s, n, channels=4, stages=3, blocks=2, dropout=0.1, preactivation=preactivation)


def gru(pooling: str, bidirectional: bool = True, layers: int = 1, frame: int = 2) -> Make:
    return lambda shape, n: GRU(shape, n, 8, layers, 0.1, bidirectional, pooling, frame)


def transformer(shape: Shape, num_outputs: int) -> Transformer:
    return Transformer(shape, num_outputs, width=16, depth=2, heads=4, patch=4, dropout=0.1)


def cnn(shape: Shape, num_outputs: int) -> CNN:
    return CNN(shape, num_outputs, channels=4, blocks=2, kernel=3, dropout=0.1)


MODELS: dict[str, tuple[Make, list[Shape]]] = {
    "linear": (Linear, ALL),
    "mlp": (mlp(), ALL),
    "mlp without hidden layers": (lambda shape, n: MLP(shape, n, width=16, depth=0, dropout=0.1), [TABLE]),
    **{f"mlp, {activation}": (mlp(activation=activation), [TABLE]) for activation in ACTIVATIONS},
    **{f"mlp, norm {norm}": (mlp(norm=norm), [TABLE]) for norm in NORMS},
    "cnn": (cnn, GRIDS),
    "deep cnn of small inputs": (
        lambda shape, n: CNN(shape, n, channels=4, blocks=5, kernel=5, dropout=0.1),
        [PICTURE, (1, 3, 2), (2, 3)],
    ),
    "resnet": (resnet(preactivation=True), [*GRIDS, (1, 3, 2)]),
    "resnet, norm behind": (resnet(preactivation=False), [*GRIDS, (1, 3, 2)]),
    "gru": (gru("max"), GRIDS),
    **{f"gru, {pooling}": (gru(pooling, layers=2, frame=3), [SHORT_SERIES, WIDE_PICTURE]) for pooling in POOLINGS},
    "gru of one direction": (gru("last", bidirectional=False), [SHORT_SERIES]),
    "transformer": (transformer, [*GRIDS, (1, 3, 2), (2, 3)]),
}
CASES = [(name, make, shape) for name, (make, shapes) in MODELS.items() for shape in shapes]
each_case = pytest.mark.parametrize(
    ("make", "shape"), [case[1:] for case in CASES], ids=[f"{name} {shape}" for name, _, shape in CASES]
)
ONE_SHAPE = [(name, make, shapes[0]) for name, (make, shapes) in MODELS.items()]
each_model = pytest.mark.parametrize(("make", "shape"), [c[1:] for c in ONE_SHAPE], ids=[c[0] for c in ONE_SHAPE])


def batch_of(shape: Shape, number: int = 6) -> torch.Tensor:
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(17))


def made(make: Make, shape: Shape, num_outputs: int = 3, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(shape, num_outputs)


@each_case
@pytest.mark.parametrize("num_outputs", [1, 10])
def test_a_model_maps_a_batch_to_outputs_and_every_parameter_learns(make: Make, shape: Shape, num_outputs: int) -> None:
    model = made(make, shape, num_outputs)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for _ in range(3):  # behind a scale that starts at 0 there are gradients from the second step on
        optimizer.zero_grad()
        outputs = model(batch_of(shape))
        assert outputs.shape == (6, num_outputs)
        (outputs - torch.arange(6.0)[:, None]).square().mean().backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter, before[name]), name


@each_case
def test_in_evaluation_an_output_depends_on_its_own_input_alone(make: Make, shape: Shape) -> None:
    model = made(make, shape).eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(batch_of(shape))[1:2], model(batch_of(shape)[1:2]))


@each_model
def test_weights_and_passes_depend_on_the_seed_alone(make: Make, shape: Shape) -> None:
    def outputs(seed: int) -> torch.Tensor:
        model = made(make, shape, seed=seed)
        with torch.random.fork_rng():
            torch.manual_seed(1)  # of dropout
            result: torch.Tensor = model(batch_of(shape)).detach()
        return result

    assert torch.equal(outputs(0), outputs(0))
    assert not torch.equal(outputs(0), outputs(1))


@each_model
def test_weights_alone_make_a_model(make: Make, shape: Shape) -> None:
    first, second = made(make, shape, seed=0), made(make, shape, seed=1)
    first(batch_of(shape))  # moves the running statistics
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.eval()(batch_of(shape)), second.eval()(batch_of(shape)))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [SHORT_SERIES, WIDE_PICTURE], ids=str)
@pytest.mark.parametrize("name", ["linear", "mlp, norm batch", "cnn", "resnet", "gru", "gru, last", "transformer"])
def test_a_model_is_exported_with_batches_of_any_size(name: str, shape: Shape) -> None:
    model = made(MODELS[name][0], shape).eval()
    with warnings.catch_warnings():  # of recurrent layers, as the package's own export says
        warnings.filterwarnings("ignore", message="The tensor attributes")
        sizes = ({0: torch.export.Dim("batch", min=1)},)
        program = torch.export.export(model, (batch_of(shape, 4),), dynamic_shapes=sizes).module()
    for number in (1, 9):
        inputs = batch_of(shape, number)
        torch.testing.assert_close(program(inputs), model(inputs))


def scaled(inputs: np.ndarray) -> torch.Tensor:
    return torch.tensor((inputs - inputs.mean()) / inputs.std(), dtype=torch.float32)


PICTURES = scaled(digits.load("digits").inputs[:256])
CLASSES = torch.tensor(digits.load("digits").targets[:256])


@pytest.mark.parametrize("series", [False, True], ids=["digits", "series"])
@pytest.mark.parametrize("name", [name for name in MODELS if "small" not in name])
def test_the_first_loss_is_that_of_knowing_nothing(name: str, series: bool) -> None:
    inputs = PICTURES.flatten(2) if series else PICTURES
    model = made(MODELS[name][0], tuple(inputs.shape[1:]), 10)
    loss = nn.functional.cross_entropy(model(inputs), CLASSES)
    assert 0.95 < loss.item() / math.log(10) < 1.15


GRID_MODELS = {"cnn": cnn, "resnet": resnet(True), "gru": gru("max"), "transformer": transformer}


@pytest.mark.parametrize("shape", [(5,), (1, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("name", GRID_MODELS)
def test_what_is_neither_a_series_nor_a_picture_is_refused(name: str, shape: Shape) -> None:
    with pytest.raises(UsageError) as refusal:
        GRID_MODELS[name](shape, 10)
    needed = f"model={name}: needs series (C, L) or pictures (C, H, W), the data has shape {shape}; use model=mlp"
    assert needed in str(refusal.value)


REFUSALS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "activation": (
        lambda: MLP((5,), 2, 8, 1, 0.0, activation="swish"),
        "model.activation=swish: no such option; allowed: relu, gelu, tanh",
    ),
    "norm": (lambda: MLP((5,), 2, 8, 1, 0.0, norm="group"), "model.norm=group: no such option; allowed: none, batch"),
    "pooling": (lambda: GRU((1, 5), 2, 8, 1, 0.0, pooling="sum"), "model.pooling=sum: no such option; allowed: last"),
    "heads": (lambda: Transformer((1, 8), 2, 10, 1, 4, 4, 0.0), "model.heads=4: does not divide model.width=10"),
}


@pytest.mark.parametrize(("make", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_work_is_refused(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        make()
    assert words in str(refusal.value)


def test_width_and_depth_are_those_of_the_hidden_layers() -> None:
    model = MLP((2, 3), 4, width=5, depth=3, dropout=0.0)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(6, 5), (5, 5), (5, 5), (5, 4)]


def test_channels_double_and_pictures_halve_from_block_to_block() -> None:
    model = CNN((3, 16, 16), 10, channels=4, blocks=3, kernel=3, dropout=0.0)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in layers] == [(3, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)]
    assert model.body(torch.zeros(1, 3, 16, 16)).shape == (1, 16, 4, 4)


@pytest.mark.parametrize("preactivation", [True, False])
def test_channels_double_and_inputs_halve_from_stage_to_stage(preactivation: bool) -> None:
    model = ResNet((3, 16, 17), 10, 4, stages=3, blocks=2, dropout=0.0, preactivation=preactivation)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [m.out_channels for m in layers] == [4, *[4] * 4, *[8] * 4, *[16] * 4]
    assert model.body(torch.zeros(1, 3, 16, 17)).shape == (1, 16, 4, 5)


@pytest.mark.parametrize("preactivation", [True, False])
def test_a_residual_block_starts_as_its_shortcut(preactivation: bool) -> None:
    model = ResNet((1, 20), 10, 4, stages=1, blocks=3, dropout=0.0, preactivation=preactivation)
    stem = 1 if preactivation else 3
    inputs = model.body[:stem](batch_of((1, 20)))
    outputs = model.body[stem : stem + 3](inputs)
    assert torch.equal(outputs, inputs)  # behind a ReLU already where blocks end in one


@pytest.mark.parametrize("frame", [1, 3])
def test_a_series_is_read_in_order_frame_by_frame(frame: int) -> None:
    model = GRU((2, 7), 3, 4, 1, 0.0, bidirectional=False, pooling="last", frame=frame)
    inputs = batch_of((2, 7))
    given: list[torch.Tensor] = []
    model.recurrent.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    model(inputs)
    frames = given[0].unflatten(2, (2, frame))  # (N, frames, C, frame)
    assert torch.equal(frames.movedim(2, 1).flatten(2)[:, :, :7], inputs)
    assert not frames.movedim(2, 1).flatten(2)[:, :, 7:].any()


def test_a_picture_is_read_row_by_row() -> None:
    model = GRU((2, 5, 3), 3, 4, 1, 0.0, frame=1)
    given: list[torch.Tensor] = []
    model.recurrent.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    inputs = batch_of((2, 5, 3))
    model(inputs)
    assert torch.equal(given[0][:, 4].reshape(6, 2, 3), inputs[:, :, 4])


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_last_states_are_those_of_each_direction_at_its_end(bidirectional: bool) -> None:
    model = GRU((2, 7), 3, 4, layers=2, dropout=0.0, bidirectional=bidirectional, pooling="last", frame=1)
    inputs = batch_of((2, 7))
    states, _ = model.recurrent(inputs.movedim(1, 2))
    last = torch.cat([states[:, -1, :4], states[:, 0, 4:]], dim=1)
    torch.testing.assert_close(model(inputs), model.head(last))


def test_recurrent_weights_start_orthogonal_gate_by_gate() -> None:
    for gate in GRU((2, 7), 3, 8, 2, 0.0).recurrent.get_parameter("weight_hh_l1").detach().chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8))


def test_patches_tell_where_they_are() -> None:
    model = Transformer((1, 8), 3, width=16, depth=1, heads=2, patch=4, dropout=0.0).eval()
    inputs = batch_of((1, 8))
    assert not torch.allclose(model(inputs), model(inputs.roll(4, dims=2)))
    nn.init.zeros_(model.positions)
    torch.testing.assert_close(model(inputs), model(inputs.roll(4, dims=2)))


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("depth", [1, 6])
def test_activations_neither_vanish_nor_explode_at_the_start(depth: int, activation: str, norm: str) -> None:
    # He et al. 2015: with this initialisation the mean square of a layer's input stays 1; at width 256 the product of
    # six layers has a spread of about 6 * sqrt(5 / 256), or 0.8, in its logarithm. Batch norm makes it 1, and a tanh
    # with its gain leaves between 1 and 5 / 3 squared.
    model = made(lambda s, n: MLP(s, n, 256, depth, 0.0, activation, norm), (256,), 1)
    assert isinstance(model, MLP)
    before_activation = model.body[:-2](batch_of((256,), 512))
    expected = {"relu": 2.0, "tanh": 1.5}[activation] if norm == "none" else 1.0
    assert expected * 0.4 < before_activation.square().mean() < expected * 2.5
