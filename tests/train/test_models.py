import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from search.errors import UsageError
from search.train.models.cnn import CNN
from search.train.models.linear import Linear
from search.train.models.mlp import MLP

Make = Callable[[tuple[int, ...], int], nn.Module]

MODELS: dict[str, tuple[Make, list[tuple[int, ...]]]] = {
    "linear": (Linear, [(5,), (1, 8, 8), (3, 7)]),
    "mlp": (lambda shape, n: MLP(shape, n, width=16, depth=2, dropout=0.1), [(5,), (1, 8, 8), (3, 7)]),
    "mlp without hidden layers": (lambda shape, n: MLP(shape, n, width=16, depth=0, dropout=0.1), [(5,)]),
    "cnn": (lambda shape, n: CNN(shape, n, channels=4, blocks=2, kernel=3, dropout=0.1), [(1, 8, 8), (3, 9, 6)]),
    "deep cnn of small pictures": (
        lambda shape, n: CNN(shape, n, channels=4, blocks=5, kernel=5, dropout=0.1),
        [(1, 8, 8), (1, 3, 2)],
    ),
}
CASES = [(name, make, shape) for name, (make, shapes) in MODELS.items() for shape in shapes]


@pytest.mark.parametrize(("make", "shape"), [case[1:] for case in CASES], ids=[f"{n} {s}" for n, _, s in CASES])
@pytest.mark.parametrize("num_outputs", [1, 10])
def test_a_model_maps_a_batch_to_outputs_and_every_parameter_learns(
    make: Make, shape: tuple[int, ...], num_outputs: int
) -> None:
    model = make(shape, num_outputs)
    outputs = model(torch.randn(6, *shape, generator=torch.Generator().manual_seed(0)))
    assert outputs.shape == (6, num_outputs)
    outputs.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(("make", "shape"), [case[1:] for case in CASES], ids=[f"{n} {s}" for n, _, s in CASES])
def test_in_evaluation_an_output_depends_on_its_own_input_alone(make: Make, shape: tuple[int, ...]) -> None:
    model = make(shape, 3).eval()
    inputs = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model(inputs)[1:2], model(inputs[1:2]))


def test_width_and_depth_are_those_of_the_hidden_layers() -> None:
    model = MLP((2, 3), 4, width=5, depth=3, dropout=0.0)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(6, 5), (5, 5), (5, 5), (5, 4)]


def test_channels_double_and_pictures_halve_from_block_to_block() -> None:
    model = CNN((3, 16, 16), 10, channels=4, blocks=3, kernel=3, dropout=0.0)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in layers] == [(3, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)]
    assert model.body(torch.zeros(1, 3, 16, 16)).shape == (1, 16, 4, 4)


@pytest.mark.parametrize("shape", [(5,), (28, 28), (1, 2, 3, 4)], ids=str)
def test_a_cnn_refuses_what_is_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as refusal:
        CNN(shape, 10, channels=4, blocks=1, kernel=3, dropout=0.0)
    assert f"model=cnn: needs pictures (C, H, W), the data has shape {shape}; use model=mlp" in str(refusal.value)


@pytest.mark.parametrize("depth", [1, 6])
def test_activations_neither_vanish_nor_explode_at_the_start(depth: int) -> None:
    # He et al. 2015: with this initialisation the mean square of a layer's input stays 1; at width 256 the product of
    # six layers has a spread of about 6 * sqrt(5 / 256), or 0.8, in its logarithm
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MLP((256,), 1, width=256, depth=depth, dropout=0.0)
        inputs = torch.randn(512, 256)
    before_relu = model.body[:-2](inputs)
    assert 2 * 0.4 < before_relu.square().mean() < 2 * 2.5


def test_initial_weights_depend_on_the_seed_alone() -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = CNN((1, 8, 8), 10, channels=4, blocks=2, kernel=3, dropout=0.1)
        return list(model.parameters())

    assert all(torch.equal(a, b) for a, b in zip(weights(0), weights(0), strict=True))
    assert not all(itertools.starmap(torch.equal, zip(weights(0), weights(1), strict=True)))
