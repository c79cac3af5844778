from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from search.errors import UsageError
from search.train.checkpoint import save_state
from search.train.data.arrays import Dataset, Examples, Split
from search.train.estimator import Estimator, build
from search.train.pretrained import Started, in_groups, start_from, with_factors
from search.train.weights import read_weights

CNN = {"_target_": "search.train.models.cnn.CNN", "channels": 4, "blocks": 2, "kernel": 3, "dropout": 0.0}
PICTURES = np.random.default_rng(0).normal(3.0, 2.0, (40, 2, 8, 8)).astype(np.float32)
OTHER_PICTURES = PICTURES * 5 + 10


def dataset(inputs: Any = PICTURES, classes: int = 3) -> Dataset:
    examples = Examples(
        name="made",
        inputs=inputs,
        targets=np.arange(40) % classes,
        task="classification",
        classes=tuple("abcdef"[:classes]),
    )
    return Dataset(
        examples=examples, split=Split(train=np.arange(20), validation=np.arange(20, 30), test=np.arange(30, 40))
    )


def estimator(seed: int, data: Dataset | None = None) -> Estimator:
    torch.manual_seed(seed)
    return build(CNN, data or dataset())


def as_ours(model: Estimator, path: Path) -> None:
    save_state(path, model.state_dict())


def as_safetensors(model: Estimator, path: Path) -> None:
    save_file(model.network.state_dict(), path)


def as_state_dict(model: Estimator, path: Path) -> None:
    torch.save(model.network.state_dict(), path)


def as_checkpoint(model: Estimator, path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": model.network.state_dict()}, path)


FILES: dict[str, Callable[[Estimator, Path], None]] = {
    "ours.safetensors": as_ours,
    "others.safetensors": as_safetensors,
    "others.pt": as_state_dict,
    "checkpoint.pth": as_checkpoint,
}
HEAD = ["head.weight", "head.bias"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of our own, trained on inputs of another scale."""
    as_ours(estimator(1, dataset(OTHER_PICTURES)), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def started(model: Estimator, path: Path, **settings: Any) -> Started:
    return start_from(model, {"weights": str(path), **settings})


@pytest.mark.parametrize("name", FILES)
def test_all_weights_of_the_same_network_are_loaded(tmp_path: Path, name: str) -> None:
    first, second = estimator(1), estimator(2)
    FILES[name](first, tmp_path / name)
    found = started(second, tmp_path / name)
    expected = first.network.state_dict()
    assert found.loaded == tuple(expected)
    assert (found.left, found.unused) == ((), ())
    for key, value in second.network.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert (found.mean is None) == (name != "ours.safetensors")


def test_a_head_of_another_size_stays_as_it_was_drawn_and_is_named(file: Path) -> None:
    drawn, model = estimator(2, dataset(classes=5)), estimator(2, dataset(classes=5))
    found = started(model, file)
    assert found.left == ("head.weight (5x8, in the file 3x8)", "head.bias (5, in the file 3)")
    assert torch.equal(model.network.head.weight, drawn.network.head.weight)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(model.network.body[0].weight, drawn.network.body[0].weight)  # type: ignore[index, union-attr]


def test_what_only_one_of_both_has_is_named(tmp_path: Path) -> None:
    tensors = {k: v for k, v in estimator(1).network.state_dict().items() if not k.startswith("head")}
    save_file({**tensors, "fc.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    found = started(estimator(2), tmp_path / "w.safetensors")
    assert found.left == ("head.weight (not in the file)", "head.bias (not in the file)")
    assert found.unused == ("fc.weight",)


# ------------------------------------------------------------------------------------------------- frozen parts


def train_a_step(model: Estimator, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    model(torch.as_tensor(PICTURES[:20])).logsumexp(1).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("prefix", ["body", "network.body"])
def test_frozen_parts_stay_as_they_are_with_their_running_statistics(file: Path, prefix: str) -> None:
    model = estimator(2)
    found = started(model, file, freeze=[prefix])
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    optimizer = torch.optim.SGD(in_groups([{"params": list(model.parameters())}], model, found, 1.0), lr=0.1)
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == [
        id(p)
        for p in model.network.head.parameters()  # type: ignore[union-attr]
    ]
    train_a_step(model, optimizer)
    after = model.network.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == set(HEAD)


def test_what_is_not_frozen_keeps_its_mode(file: Path) -> None:
    model = estimator(2)
    started(model, file, freeze=["body.0", "body.1"])
    norms = {name: module for name, module in model.network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for mode in (True, False, True):
        model.train(mode)
        assert {name: norm.training for name, norm in norms.items() if norm.training} == (
            dict.fromkeys([name for name in norms if name != "body.1"], True) if mode else {}
        )
    assert [name for name, p in model.network.named_parameters() if not p.requires_grad] == [
        "body.0.weight",
        "body.1.weight",
        "body.1.bias",
    ]


def test_one_parameter_can_be_frozen(file: Path) -> None:
    model = estimator(2)
    started(model, file, freeze=["head.bias"])
    assert [name for name, p in model.network.named_parameters() if not p.requires_grad] == ["head.bias"]


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_norm_of_which_a_parameter_is_frozen_keeps_its_statistics(file: Path, name: str) -> None:
    model = estimator(2)
    started(model, file, freeze=[f"body.1.{name}"])
    before = {name: value.clone() for name, value in model.network.named_buffers()}
    train_a_step(model, torch.optim.SGD(model.network.head.parameters(), lr=0.1))  # type: ignore[union-attr]
    kept = model.network.state_dict()  # not dropout's keys
    same = {name for name, value in before.items() if name in kept and torch.equal(value, kept[name])}
    assert same == {"body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"}


# ------------------------------------------------------------------------------------------------- learning rates


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_loaded_parameters_have_a_rate_of_their_own(file: Path, make: Any) -> None:
    model = estimator(2, dataset(classes=4))
    found = started(model, file, freeze=["body.0"])
    trained = [p for _, p in model.named_parameters()]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = with_factors(make(in_groups(groups, model, found, 0.1), lr=0.5, weight_decay=0.01))
    names = {id(p): name for name, p in model.network.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert "body.0.weight" not in rates
    assert {name for name, rate in rates.items() if rate == 0.5} == set(HEAD)
    assert {rate for name, rate in rates.items() if name not in HEAD} == {0.05}
    assert {name for name, decay in decays.items() if decay} == {
        n for n, p in model.network.named_parameters() if p.ndim > 1
    } - {"body.0.weight"}
    train_a_step(model, optimizer)
    restored = with_factors(make(in_groups(groups, model, found, 0.1), lr=0.5, weight_decay=0.01))
    restored.load_state_dict(optimizer.state_dict())


# ------------------------------------------------------------------------------------------------- preprocessing


def statistics(model: Estimator) -> tuple[Tensor, Tensor]:
    return model.mean.clone(), model.std.clone()


@pytest.mark.parametrize("preprocessing", [{}, {"preprocessing": "data"}])
def test_inputs_are_standardised_as_the_data_says_unless_asked(file: Path, preprocessing: dict[str, str]) -> None:
    model = estimator(2)
    mean, std = statistics(model)
    found = started(model, file, **preprocessing)
    assert torch.equal(model.mean, mean)
    assert torch.equal(model.std, std)
    assert found.mean is not None
    assert found.std is not None
    torch.testing.assert_close(found.mean, mean * 5 + 10)
    torch.testing.assert_close(found.std, std * 5)


def test_inputs_are_standardised_as_the_file_says_when_asked(file: Path) -> None:
    model = estimator(2)
    mean, std = statistics(model)
    started(model, file, preprocessing="file")
    torch.testing.assert_close(model.mean, mean * 5 + 10)
    torch.testing.assert_close(model.std, std * 5)


def test_the_node_says_what_a_file_of_others_was_trained_with(tmp_path: Path) -> None:
    as_safetensors(estimator(1), tmp_path / "w.safetensors")
    model = estimator(2)
    found = started(model, tmp_path / "w.safetensors", preprocessing="file", mean=[0.5, 0.4], std=[0.2, 0.1])
    assert model.mean.flatten().tolist() == pytest.approx([0.5, 0.4])
    assert model.std.flatten().tolist() == pytest.approx([0.2, 0.1])
    assert found.mean is not None
    assert found.mean.shape == model.mean.shape


def test_statistics_of_other_channels_are_none(tmp_path: Path) -> None:
    data = dataset(PICTURES[:, :1])
    as_ours(estimator(1, data), tmp_path / "w.safetensors")
    found = started(estimator(2), tmp_path / "w.safetensors")
    assert found.mean is None
    assert found.left == ("body.0.weight (4x2x3x3, in the file 4x1x3x3)",)


def table(*telling: int) -> Dataset:
    """Six features, of which these depend on the class."""
    rows = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    rows[:, telling] += 5 * (np.arange(40)[:, None] % 3)
    return dataset(rows)


def linear(data: Dataset, features: int | None) -> Estimator:
    return build({"_target_": "search.train.models.linear.Linear"}, data, inputs={"features": features})


def chosen(model: Estimator) -> list[int]:
    kept: list[int] = model.state_dict()["reduction.features"].tolist()
    return kept


@pytest.mark.parametrize(("preprocessing", "kept"), [("data", [4, 5]), ("file", [0, 1])])
def test_the_features_are_the_files_where_the_preprocessing_is(
    tmp_path: Path, preprocessing: str, kept: list[int]
) -> None:
    as_ours(linear(table(0, 1), 2), tmp_path / "w.safetensors")
    model = linear(table(4, 5), 2)
    found = started(model, tmp_path / "w.safetensors", preprocessing=preprocessing)
    assert chosen(model) == kept
    assert found.features == ((0, 1) if preprocessing == "data" else None)
    assert started(linear(table(0, 1), 2), tmp_path / "w.safetensors").features is None


def test_features_that_this_data_does_not_have_are_not_taken(tmp_path: Path) -> None:
    source = linear(table(0, 1), 2)
    save_state(tmp_path / "w.safetensors", {**source.state_dict(), "reduction.features": torch.tensor([0, 9])})
    model = linear(table(4, 5), 2)
    found = started(model, tmp_path / "w.safetensors", preprocessing="file")
    assert (chosen(model), found.features) == ([4, 5], (0, 9))


# ------------------------------------------------------------------------------------------------- what is refused


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no file": ({"weights": "nowhere.safetensors"}, r"^pretrained\.weights=nowhere\.safetensors: no such file$"),
    "a folder": ({"weights": "/"}, r"^pretrained\.weights=/: no such file$"),
    "an unknown part": (
        {"freeze": ["bodi"]},
        r"^pretrained\.freeze: bodi is no part of the network with parameters; did you mean body\?",
    ),
    "an unknown layer": ({"freeze": ["body.99"]}, r"^pretrained\.freeze: body\.99 is no part .* allowed: body\.0, "),
    "a part without parameters": ({"freeze": ["dropout"]}, r"^pretrained\.freeze: dropout is no part of the network"),
    "everything frozen": ({"freeze": ["body", "head"]}, r"^pretrained\.freeze=\['body', 'head'\]: leaves nothing to"),
    "half of the statistics": ({"mean": [1.0, 2.0]}, r"^pretrained\.std=null: must be 2 numbers, above 0, one a "),
    "statistics of other channels": (
        {"mean": [1.0], "std": [1.0]},
        r"^pretrained\.mean=\[1\.0\]: must be 2 numbers, one a channel or feature$",
    ),
    "a deviation of zero": (
        {"mean": [1.0, 1.0], "std": [1.0, 0.0]},
        r"^pretrained\.std=\[1\.0, 0\.0\]: must be 2 numbers, above 0, one a channel or feature$",
    ),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_fit_nothing_are_refused(file: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        start_from(estimator(2), {"weights": str(file), **settings})
    assert "\n" not in str(refusal.value)


def test_statistics_that_the_file_does_not_have_are_refused(tmp_path: Path) -> None:
    as_safetensors(estimator(1), tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match=r"^pretrained\.preprocessing=file: the file has no mean and std"):
        started(estimator(2), tmp_path / "w.safetensors", preprocessing="file")


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    save_file({f"fc.{i}": torch.zeros(2) for i in range(5)}, tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match=r"nothing in it agrees .* body\.0\.weight, .* and \d+ more, the file fc\.0, "):
        started(estimator(2), tmp_path / "w.safetensors")


class Sly:
    """What must not be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit",)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "list.pt", "sly.pt"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else")
    if name == "list.pt":
        torch.save([torch.zeros(2)], tmp_path / name)
    if name == "sly.pt":
        torch.save({"weight": torch.zeros(2), "sly": Sly()}, tmp_path / name)
    with pytest.raises(UsageError, match=rf"^pretrained\.weights=.*{name}: cannot be read; must be a file of safetens"):
        read_weights(tmp_path / name)
